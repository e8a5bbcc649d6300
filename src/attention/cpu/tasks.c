/* SPDX-License-Identifier: Apache-2.0 */
#include "tasks.h"

#include <stdlib.h>

static int dearer(const void *a, const void *b) {
    const nabla_task *x = a, *y = b;
    if (x->cost != y->cost) return x->cost > y->cost ? -1 : 1;
    if (x->head != y->head) return x->head < y->head ? -1 : 1;
    return (x->first > y->first) - (x->first < y->first);
}

void nabla_order_tasks(nabla_task *tasks, int64_t count, int64_t per_head, int32_t threads) {
    enum { LAST_TASKS = 8 /* a thread */ };
    const int64_t tail = per_head > LAST_TASKS * (int64_t)threads ? per_head : LAST_TASKS * (int64_t)threads;
    const int64_t first = count > tail ? count - tail : 0;
    qsort(tasks + first, (size_t)(count - first), sizeof *tasks, dearer);
}

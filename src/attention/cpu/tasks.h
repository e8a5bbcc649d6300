/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of a pass in the order to run them. */
#ifndef NABLA_TASKS_H
#define NABLA_TASKS_H

#include <stdint.h>

/* A piece of work: of neighbouring blocks, the rows [first, last). Forward these are a few times up to NABLA_Q_ROWS
   rows of a block, backward whole blocks. */
typedef struct nabla_task {
    int32_t head;        /* b * H + h */
    int32_t block, end;  /* the blocks [block, end) */
    int32_t first, last; /* rows, that is tokens */
    int64_t cost;        /* rows times kept blocks, summed over the blocks */
} nabla_task;

/* Heads one after another, so that a head's keys stay in cache; among the last head's tasks, and the last few a thread,
   the dearest first: what runs last is short, and no thread ends late. */
void nabla_order_tasks(nabla_task *tasks, int64_t count, int64_t per_head, int32_t threads);

#endif

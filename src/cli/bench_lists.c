/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_lists.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/random.h"

/* Each query block keeps `kept` key blocks, its own and others at random, ascending. */
static void draw_list(nv_philox *g, int32_t own, int32_t blocks, int32_t kept, unsigned char *marks, int32_t *out) {
    memset(marks, 0, (size_t)blocks);
    marks[own] = 1;
    for (int32_t n = 1; n < kept;) {
        const int32_t at = (int32_t)nv_philox_below(g, (uint32_t)blocks);
        n += !marks[at];
        marks[at] = 1;
    }
    for (int32_t i = 0, n = 0; i < blocks; i++)
        if (marks[i]) out[n++] = i;
    for (int32_t i = kept; i < blocks; i++)
        out[i] = -1;
}

nabla_status cli_bench_lists(nv_device *dev, nv_dit_run *run, int64_t heads, double density, uint64_t seed,
                             nv_error *err) {
    nabla_plan_stats stats = {.size = sizeof stats};
    if (nabla_plan_get_stats(dev->context, nv_dit_run_plan(run, 0), &stats) != NABLA_OK)
        return nv_fail(err, NABLA_INTERNAL, "%s", nabla_context_message(dev->context));
    const int32_t blocks = (int32_t)stats.k_blocks, wanted = (int32_t)lround(density * blocks),
                  kept = wanted < 1        ? 1
                         : wanted > blocks ? blocks
                                           : wanted;
    const int64_t rows = stats.q_blocks * heads;
    const size_t num_bytes = (size_t)rows * sizeof(int32_t), bytes = num_bytes + num_bytes * (size_t)blocks;
    int32_t *num = malloc(bytes), *indices = num ? num + rows : NULL;
    void *lists = NULL; /* the same on the device, where an import only queues */
    unsigned char *marks = malloc((size_t)blocks);
    nv_philox g = nv_philox_at(seed, 7);
    nabla_status status = NABLA_OK;
    if (!num || !marks) status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for lists of %d blocks", (int)blocks);
    for (int64_t row = 0; row < rows && status == NABLA_OK; row++) {
        num[row] = kept;
        draw_list(&g, (int32_t)(row % stats.q_blocks), blocks, kept, marks, indices + row * blocks);
    }
    if (status == NABLA_OK) status = dev->ops->allocate(dev, bytes, &lists, err);
    if (status == NABLA_OK) {
        dev->ops->upload(dev, lists, num, bytes);
        status = nv_dit_run_import(run, lists, (int32_t *)lists + rows, err);
    }
    if (status == NABLA_OK) status = dev->ops->wait(dev, err);
    dev->ops->release(dev, lists);
    free(num);
    free(marks);
    return status;
}

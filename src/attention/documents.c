/* SPDX-License-Identifier: Apache-2.0 */
#include "documents.h"
#include "order.h"

nabla_status nabla_check_documents(nabla_context *ctx, const nabla_plan_desc *desc) {
    if (!desc->documents) return NABLA_OK;
    if (!desc->q_order || !desc->k_order)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "documents need q_order and k_order, to know the frames");
    const nabla_grid *q = &desc->q_order->grid, *k = &desc->k_order->grid;
    if (q->frames != k->frames)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "documents need grids of equal frames; queries have %d and keys %d", (int)q->frames,
                          (int)k->frames);
    if (desc->document_count < 1 || desc->document_count > q->frames)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "document_count is %lld; %d frames hold 1 to %d documents",
                          (long long)desc->document_count, (int)q->frames, (int)q->frames);
    for (int64_t i = 0; i < desc->document_count; i++) {
        const int32_t first = desc->documents[i];
        if (i == 0 && first != 0)
            return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "the first document begins at frame %d; it must be 0",
                              (int)first);
        if (i > 0 && (first <= desc->documents[i - 1] || first >= q->frames))
            return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                              "document %lld begins at frame %d; it must come after the one before (%d) and below %d",
                              (long long)i, (int)first, (int)desc->documents[i - 1], (int)q->frames);
        if (first % q->tile_frames || first % k->tile_frames)
            return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                              "document %lld begins at frame %d, inside a tile of %d frames; begin at a multiple of it",
                              (long long)i, (int)first,
                              (int)(first % q->tile_frames ? q->tile_frames : k->tile_frames));
    }
    return NABLA_OK;
}

/* The first block of document i of `count`: frames are outermost, so documents are ranges of blocks. */
static int64_t first_block(const nabla_order *order, const nabla_plan_desc *desc, int64_t i) {
    if (i == desc->document_count) return order->blocks;
    return desc->documents[i] / order->grid.tile_frames * (int64_t)order->tiles.height * order->tiles.width;
}

void nabla_fill_documents(const nabla_plan_desc *desc, nabla_plan *plan) {
    for (int64_t i = 0; i < plan->documents; i++) {
        const int64_t end = first_block(desc->q_order, desc, i + 1);
        for (int64_t q = first_block(desc->q_order, desc, i); q < end; q++)
            plan->document_of[q] = (int32_t)i;
    }
    for (int64_t i = 0; i <= plan->documents && plan->documents; i++)
        plan->document_first[i] = (int32_t)first_block(desc->k_order, desc, i);
}

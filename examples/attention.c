/* SPDX-License-Identifier: Apache-2.0 */
/* NABLA attention in your own program: 8 frames of 24 x 24 tokens, 4 heads of 64. Random tensors stand in for yours. */
#include <nabla/nabla.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 1, FRAMES = 8, SIDE = 24, HEADS = 4, DIM = 64, TOKENS = FRAMES * SIDE * SIDE };

static nabla_tensor make(float *data) { /* [B, S, H, D] */
    const int64_t shape[4] = {BATCH, TOKENS, HEADS, DIM};
    return nabla_tensor_contiguous(data, NABLA_FP32, 4, shape);
}

int main(void) {
    const size_t n = (size_t)BATCH * TOKENS * HEADS * DIM;
    float *data = calloc(4 * n, sizeof *data);
    if (!data) return 1;
    for (size_t i = 0; i < 3 * n; i++)
        data[i] = (float)rand() / (float)RAND_MAX * 2 - 1;
    /* In tile order: put your tokens so once with nabla_order_apply(), RoPE positions too, and undo it at the end. */
    nabla_tensor q = make(data), k = make(data + n), v = make(data + 2 * n), o = make(data + 3 * n);

    nabla_context *ctx = NULL;
    nabla_order *order = NULL;
    nabla_plan *plan = NULL;
    nabla_policy policy;
    nabla_status status = nabla_context_create(NULL, &ctx, NULL, 0);
    const nabla_grid grid = nabla_grid_default(FRAMES, SIDE, SIDE);
    if (!status) status = nabla_order_create(ctx, &grid, &order);
    nabla_plan_desc desc = nabla_plan_desc_default();
    desc.batch = BATCH, desc.heads = HEADS, desc.q_order = order, desc.k_order = order;
    if (!status) status = nabla_plan_create(ctx, &desc, &plan);
    if (!status) status = nabla_policy_parse(ctx, "nabla-0.7_sta-3-3-3", &policy);

    nabla_plan_inputs inputs = nabla_plan_inputs_default(); /* for every layer and step: */
    inputs.q = &q, inputs.k = &k;
    if (!status) status = nabla_plan_build(ctx, plan, &policy, &inputs);
    const nabla_attention_params params = nabla_attention_params_default();
    if (!status) status = nabla_attention_forward(ctx, plan, &params, &q, &k, &v, &o, NULL);

    nabla_plan_stats stats = {.size = sizeof stats};
    if (!status) status = nabla_plan_get_stats(ctx, plan, &stats);
    if (status)
        fprintf(stderr, "%s: %s\n", nabla_status_string(status), ctx ? nabla_context_message(ctx) : "");
    else
        printf("%lld blocks kept, density %.3f, o[0] = %f\n", (long long)stats.kept_blocks, stats.density, data[3 * n]);
    nabla_plan_destroy(plan), nabla_order_destroy(order), nabla_context_destroy(ctx), free(data);
    return status != NABLA_OK;
}

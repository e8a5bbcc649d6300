/* SPDX-License-Identifier: Apache-2.0 */
/* Masks, outputs and gradients against PyTorch's (data/make_attention.py), from raster order to raster order. */
#include "check.h"

#include "nabla/nabla.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 10 };

/* One case of the file. */
typedef struct expected {
    int32_t frames, height, width, heads, dim, thr, window[3], stride;
    int64_t tokens, blocks, samples;
    uint8_t *mask;
    float *result[4]; /* o, dq, dk, dv of every stride-th token */
} expected;

static uint32_t mix(uint32_t x) {
    x *= 2654435761u;
    x ^= x >> 15;
    x *= 2246822519u;
    return x ^ (x >> 13);
}

static float unit(uint32_t salt, uint32_t index) {
    return (float)(mix(index + salt * 7919u) & 0xffffu) / 65536.0f - 0.5f;
}

static float *make_input(const expected *e, uint32_t salt) {
    const int32_t width = e->heads * e->dim, across = e->width / 8;
    float *x = malloc((size_t)(e->tokens * width) * sizeof *x);
    for (int32_t t = 0; t < e->tokens; t++) {
        const int32_t f = t / (e->height * e->width), h = t / e->width % e->height, w = t % e->width;
        const int32_t block = (f * (e->height / 8) + h / 8) * across + w / 8;
        for (int32_t c = 0; c < width; c++)
            x[t * width + c] =
                unit(salt, (uint32_t)(t * width + c)) + 2.0f * unit(salt + 100, (uint32_t)(block * width + c));
    }
    return x;
}

static void *read_array(FILE *f, size_t count, size_t size) {
    void *x = malloc(count * size);
    assert_int_equal(fread(x, size, count, f), count);
    return x;
}

static expected read_case(FILE *f) {
    int32_t n[HEADER];
    assert_int_equal(fread(n, sizeof n[0], HEADER, f), HEADER);
    expected e = {n[0], n[1], n[2], n[3], n[4], n[5], {n[6], n[7], n[8]}, n[9], 0, 0, 0, NULL, {NULL}};
    e.tokens = (int64_t)e.frames * e.height * e.width;
    e.blocks = e.tokens / 64;
    e.samples = (e.tokens + e.stride - 1) / e.stride;
    e.mask = read_array(f, (size_t)(e.heads * e.blocks * e.blocks), 1);
    for (int i = 0; i < 4; i++)
        e.result[i] = read_array(f, (size_t)(e.samples * e.heads * e.dim), sizeof(float));
    return e;
}

static nabla_policy policy_of(nabla_context *ctx, const expected *e) {
    char text[64] = "", sta[40] = "";
    nabla_policy policy;
    if (e->thr) snprintf(text, sizeof text, "nabla-0.%03d", (int)e->thr);
    if (e->window[0])
        snprintf(sta, sizeof sta, "%ssta-%d-%d-%d", e->thr ? "_" : "", (int)e->window[0], (int)e->window[1],
                 (int)e->window[2]);
    strcat(text, sta);
    assert_int_equal(nabla_policy_parse(ctx, text, &policy), NABLA_OK);
    return policy;
}

/* Largest difference of the sampled tokens. */
static double difference(const expected *e, const float *raster, const float *wanted) {
    const int64_t row = e->heads * e->dim;
    double most = 0.0;
    for (int64_t i = 0; i < e->samples; i++)
        for (int64_t c = 0; c < row; c++)
            most = fmax(most, fabs((double)raster[i * e->stride * row + c] - (double)wanted[i * row + c]));
    return most;
}

enum { Q, K, V, D_O, O, D_Q, D_K, D_V, TENSORS };

static void check_case(const expected *e, const char *level) {
    nabla_context_options options = nabla_context_options_default();
    nabla_context *ctx;
    nabla_order *order;
    nabla_plan *plan;
    options.level = level;
    options.threads = 2;
    assert_int_equal(nabla_context_create(&options, &ctx, NULL, 0), NABLA_OK);
    const nabla_grid grid = nabla_grid_default(e->frames, e->height, e->width);
    assert_int_equal(nabla_order_create(ctx, &grid, &order), NABLA_OK);
    nabla_plan_desc desc = nabla_plan_desc_default();
    desc.batch = 1;
    desc.heads = e->heads;
    desc.q_order = desc.k_order = order;
    assert_int_equal(nabla_plan_create(ctx, &desc, &plan), NABLA_OK);

    const int64_t shape[] = {1, e->tokens, e->heads, e->dim}, lse_shape[] = {1, e->heads, e->tokens};
    const size_t bytes = (size_t)(e->tokens * e->heads * e->dim) * sizeof(float);
    nabla_tensor raster[TENSORS], tiled[TENSORS];
    nabla_tensor lse = nabla_tensor_contiguous(malloc(bytes), NABLA_FP32, 3, lse_shape);
    for (int i = 0; i < TENSORS; i++) {
        float *x = i <= D_O ? make_input(e, (uint32_t)i + 1) : malloc(bytes);
        raster[i] = nabla_tensor_contiguous(x, NABLA_FP32, 4, shape);
        tiled[i] = nabla_tensor_contiguous(malloc(bytes), NABLA_FP32, 4, shape);
        if (i <= D_O) assert_int_equal(nabla_order_apply(ctx, order, raster + i, tiled + i), NABLA_OK);
    }
    const nabla_policy policy = policy_of(ctx, e);
    nabla_plan_inputs in = nabla_plan_inputs_default();
    in.q = tiled + Q;
    in.k = tiled + K;
    assert_int_equal(nabla_plan_build(ctx, plan, &policy, &in), NABLA_OK);
    const size_t pairs = (size_t)(e->heads * e->blocks * e->blocks);
    uint8_t *mask = malloc(pairs);
    assert_int_equal(nabla_plan_export_bitmap(ctx, plan, mask), NABLA_OK);
    assert_memory_equal(mask, e->mask, pairs);
    assert_int_equal(nabla_attention_forward(ctx, plan, NULL, tiled + Q, tiled + K, tiled + V, tiled + O, &lse),
                     NABLA_OK);
    assert_int_equal(nabla_attention_backward(ctx, plan, NULL, tiled + Q, tiled + K, tiled + V, tiled + O, &lse,
                                              tiled + D_O, tiled + D_Q, tiled + D_K, tiled + D_V),
                     NABLA_OK);
    for (int i = O; i < TENSORS; i++) {
        assert_int_equal(nabla_order_undo(ctx, order, tiled + i, raster + i), NABLA_OK);
        assert_true(difference(e, raster[i].data, e->result[i - O]) < 2e-6);
    }
    for (int i = 0; i < TENSORS; i++) {
        free(raster[i].data);
        free(tiled[i].data);
    }
    free(lse.data);
    free(mask);
    nabla_plan_destroy(plan);
    nabla_order_destroy(order);
    nabla_context_destroy(ctx);
}

static void agrees_with_pytorch(void **state) {
    (void)state;
    int32_t cases;
    FILE *f = fopen(NABLA_TEST_DATA "/attention.bin", "rb");
    assert_non_null(f);
    assert_int_equal(fread(&cases, sizeof cases, 1, f), 1);
    for (int32_t i = 0; i < cases; i++) {
        expected e = read_case(f);
        for (int32_t level = 0; nabla_level_name(level); level++)
            check_case(&e, nabla_level_name(level));
        free(e.mask);
        for (int n = 0; n < 4; n++)
            free(e.result[n]);
    }
    fclose(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees_with_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

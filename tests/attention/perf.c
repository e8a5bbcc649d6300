/* SPDX-License-Identifier: Apache-2.0 */
#include "perf.h"
#include "nabla/nabla.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { Q, K, V, O, D_O, D_Q, D_K, D_V, TENSORS };

/* One head of `tokens` tokens and a plan that keeps a share of its blocks. */
typedef struct setup {
    nabla_context *ctx;
    nabla_plan *plan;
    nabla_tensor t[TENSORS], lse;
    double pairs;
} setup;

static void setup_destroy(setup *s) {
    for (int i = 0; i < TENSORS; i++)
        free(s->t[i].data);
    free(s->lse.data);
    nabla_plan_destroy(s->plan);
    nabla_context_destroy(s->ctx);
}

static nabla_status import_share(setup *s, int64_t blocks, double density) {
    uint8_t *kept = malloc((size_t)(blocks * blocks));
    srand(1);
    for (int64_t i = 0; i < blocks * blocks; i++)
        kept[i] = rand() < density * RAND_MAX;
    nabla_status status = nabla_plan_import_bitmap(s->ctx, s->plan, kept);
    free(kept);
    return status;
}

static nabla_status setup_create(const char *level, nabla_dtype dtype, int64_t tokens, int64_t dim, double density,
                                 setup *s) {
    nabla_context_options options = nabla_context_options_default();
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_plan_stats stats = {.size = sizeof stats};
    const int64_t shape[] = {1, tokens, 1, dim}, lse_shape[] = {1, 1, tokens};
    *s = (setup){0};
    options.level = level;
    options.threads = 1;
    desc.batch = desc.heads = 1;
    desc.q_tokens = desc.k_tokens = tokens;
    nabla_status status = nabla_context_create(&options, &s->ctx, NULL, 0);
    if (!status) status = nabla_plan_create(s->ctx, &desc, &s->plan);
    if (!status) status = import_share(s, (tokens + 63) / 64, density);
    if (!status) status = nabla_plan_get_stats(s->ctx, s->plan, &stats);
    s->pairs = stats.density * (double)tokens * (double)tokens;
    for (int i = 0; i < TENSORS; i++) {
        const nabla_dtype kind = i >= D_Q ? NABLA_FP32 : dtype;
        const size_t n = (size_t)(tokens * dim);
        s->t[i] = nabla_tensor_contiguous(malloc(n * 4), kind, 4, shape);
        for (size_t j = 0; j < n; j++) {
            const float x = (float)rand() / (float)RAND_MAX - 0.5f;
            uint32_t bits;
            memcpy(&bits, &x, sizeof bits);
            if (kind == NABLA_FP32)
                ((float *)s->t[i].data)[j] = x;
            else
                ((uint16_t *)s->t[i].data)[j] = (uint16_t)(bits >> 16);
        }
    }
    s->lse = nabla_tensor_contiguous(malloc((size_t)tokens * 4), NABLA_FP32, 3, lse_shape);
    return status;
}

static nabla_status pass(const setup *s, bool backward) {
    const nabla_tensor *t = s->t;
    if (backward)
        return nabla_attention_backward(s->ctx, s->plan, NULL, t + Q, t + K, t + V, t + O, &s->lse, t + D_O, t + D_Q,
                                        t + D_K, t + D_V);
    return nabla_attention_forward(s->ctx, s->plan, NULL, t + Q, t + K, t + V, t + O, &s->lse);
}

/* Processor time: what others do on a shared machine does not count. */
static double seconds(void) {
    return (double)clock() / CLOCKS_PER_SEC;
}

/* GFLOP/s by the least of a few times; NaN on failure. 4 D operations a pair forward, 10 D backward. */
static double rate(const setup *s, int64_t dim, bool backward) {
    double least = INFINITY;
    for (int repeat = 0; repeat < 4; repeat++) {
        const double start = seconds();
        if (pass(s, backward)) {
            printf("%s\n", nabla_context_message(s->ctx));
            return NAN;
        }
        least = fmin(least, seconds() - start);
    }
    return (backward ? 10.0 : 4.0) * s->pairs * (double)dim / least * 1e-9;
}

static int perf_of(const char *level, nabla_dtype dtype, int64_t dim, double peak) {
    setup s;
    int failed = setup_create(level, dtype, 4096, dim, 0.25, &s) != NABLA_OK;
    for (int backward = 0; !failed && backward < 2; backward++) {
        const double gflops = rate(&s, dim, backward);
        failed = isnan(gflops);
        printf("%s,%s,%lld,%s,%.1f", level, dtype == NABLA_BF16 ? "bf16" : "fp32", (long long)dim,
               backward ? "backward" : "forward", gflops);
        if (peak > 0.0) printf(",%.2f", gflops / peak);
        printf("\n");
        fflush(stdout);
    }
    setup_destroy(&s);
    return failed;
}

int run_perf(const char *only, double peak) {
    int failed = 0;
    printf("level,dtype,head_dim,pass,gflops_per_core%s\n", peak > 0.0 ? ",of_peak" : "");
    for (int32_t i = 0; nabla_level_name(i); i++) {
        const char *level = nabla_level_name(i);
        if (only && strcmp(only, level)) continue;
        for (int dtype = NABLA_FP32; dtype <= NABLA_BF16; dtype++)
            for (int64_t dim = 64; dim <= 128; dim += 64)
                failed |= perf_of(level, (nabla_dtype)dtype, dim, peak);
    }
    return failed;
}

int run_support(void) {
    int failed = 0;
    printf("level,dtype,head_dim,forward,backward\n");
    for (int32_t i = 0; nabla_level_name(i); i++)
        for (int dtype = NABLA_FP32; dtype <= NABLA_BF16; dtype++)
            for (int64_t dim = 8; dim <= 264; dim += 8) {
                setup s;
                bool works[2] = {false, false};
                const bool expected = dim >= 16 && dim <= 256;
                if (!setup_create(nabla_level_name(i), (nabla_dtype)dtype, 65, dim, 1.0, &s))
                    for (int backward = 0; backward < 2; backward++)
                        works[backward] = pass(&s, backward) == NABLA_OK;
                printf("%s,%s,%lld,%s,%s\n", nabla_level_name(i), dtype == NABLA_BF16 ? "bf16" : "fp32", (long long)dim,
                       works[0] ? "yes" : "no", works[1] ? "yes" : "no");
                failed |= works[0] != expected || works[1] != expected;
                setup_destroy(&s);
            }
    return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "perf.h"
#include "levels.h"
#include "naive.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { Q, K, V, O, D_O, D_Q, D_K, D_V, TENSORS };

/* Heads of `tokens` tokens and a plan that keeps a share of their blocks. */
typedef struct setup {
    const char *level;
    nabla_context *ctx;
    nabla_plan *plan;
    nabla_tensor t[TENSORS], lse;
    double pairs;
} setup;

/* What there is to do: enough for some cores, or for a whole GPU. */
typedef struct size {
    int64_t heads, tokens, dim;
    double density;
    int32_t threads;
} size;

static void setup_destroy(setup *s) {
    for (int i = 0; i < TENSORS; i++)
        nabla_memory_free(s->ctx, s->t[i].data);
    nabla_memory_free(s->ctx, s->lse.data);
    nabla_plan_destroy(s->plan);
    nabla_context_destroy(s->ctx);
}

static nabla_status import_share(setup *s, int64_t pairs, double density) {
    uint8_t *kept = malloc((size_t)pairs);
    srand(1);
    for (int64_t i = 0; i < pairs; i++)
        kept[i] = rand() < density * RAND_MAX;
    nabla_status status = nabla_plan_import_bitmap(s->ctx, s->plan, kept);
    free(kept);
    return status;
}

/* A tensor of noise, in the context's memory. */
static nabla_status make_tensor(setup *s, nabla_dtype dtype, int32_t rank, const int64_t *shape, nabla_tensor *out) {
    size_t n = 1;
    for (int32_t i = 0; i < rank; i++)
        n *= (size_t)shape[i];
    const size_t bytes = n * nabla_dtype_size(dtype);
    void *host = malloc(bytes);
    for (size_t j = 0; j < n; j++) {
        const float x = (float)rand() / (float)RAND_MAX - 0.5f;
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        if (dtype == NABLA_FP32)
            ((float *)host)[j] = x;
        else
            ((uint16_t *)host)[j] = dtype == NABLA_BF16 ? (uint16_t)(bits >> 16) : naive_fp16_bits(x);
    }
    *out = nabla_tensor_contiguous(NULL, dtype, rank, shape);
    nabla_status status = nabla_memory_allocate(s->ctx, bytes, &out->data);
    if (!status) status = nabla_memory_upload(s->ctx, out->data, host, bytes);
    free(host);
    return status;
}

static nabla_status setup_create(const char *level, nabla_dtype dtype, size z, setup *s) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_plan_stats stats = {.size = sizeof stats};
    const int64_t shape[] = {1, z.tokens, z.heads, z.dim}, lse_shape[] = {1, z.heads, z.tokens};
    const int64_t blocks = (z.tokens + 63) / 64;
    *s = (setup){.level = level};
    desc.batch = 1;
    desc.heads = z.heads;
    desc.q_tokens = desc.k_tokens = z.tokens;
    nabla_status status = level_context(level, z.threads, &s->ctx);
    if (!status) status = nabla_plan_create(s->ctx, &desc, &s->plan);
    if (!status) status = import_share(s, z.heads * blocks * blocks, z.density);
    if (!status) status = nabla_plan_get_stats(s->ctx, s->plan, &stats);
    s->pairs = stats.density * (double)z.heads * (double)z.tokens * (double)z.tokens;
    for (int i = 0; i < TENSORS && !status; i++)
        status = make_tensor(s, i >= D_Q ? NABLA_FP32 : dtype, 4, shape, s->t + i);
    if (!status) status = make_tensor(s, NABLA_FP32, 3, lse_shape, &s->lse);
    return status;
}

static nabla_status pass(const setup *s, bool backward) {
    const nabla_tensor *t = s->t;
    if (backward)
        return nabla_attention_backward(s->ctx, s->plan, NULL, t + Q, t + K, t + V, t + O, &s->lse, t + D_O, t + D_Q,
                                        t + D_K, t + D_V);
    return nabla_attention_forward(s->ctx, s->plan, NULL, t + Q, t + K, t + V, t + O, &s->lse);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* GFLOP/s by the least of many times, which on a shared machine is the one that others disturbed least: a clock of the
   processor's time is too coarse on some. NaN on failure. 4 D operations a pair forward, 10 D backward. */
static double rate(const setup *s, size z, bool backward) {
    const int calls = level_on_gpu(s->level) ? 10 : 1; /* queued in a row: what starting the first costs is spread */
    const double begun = seconds();
    double least = INFINITY;
    for (int repeat = 0; repeat < 4 || (repeat < 60 && seconds() - begun < 0.4); repeat++) {
        const double start = seconds();
        nabla_status status = NABLA_OK;
        for (int i = 0; i < calls && !status; i++)
            status = pass(s, backward);
        if (status || nabla_context_synchronize(s->ctx)) {
            printf("%s\n", nabla_context_message(s->ctx));
            return NAN;
        }
        least = fmin(least, (seconds() - start) / calls);
    }
    return (backward ? 10.0 : 4.0) * s->pairs * (double)z.dim / least * 1e-9;
}

static int perf_of(const char *level, nabla_dtype dtype, int64_t dim, double peak, int32_t threads) {
    setup s;
    const size z = level_on_gpu(level)
                       ? (size){.heads = 16, .tokens = 16384, .dim = dim, .density = 0.25, .threads = 1}
                       : (size){.heads = threads, .tokens = 4096, .dim = dim, .density = 0.25, .threads = threads};
    int failed = setup_create(level, dtype, z, &s) != NABLA_OK;
    for (int backward = 0; !failed && backward < 2; backward++) {
        const double gflops = rate(&s, z, backward) / z.threads;
        failed = isnan(gflops);
        printf("%s,%s,%lld,%s,%d,%.1f", level, dtype_text(dtype), (long long)dim, backward ? "backward" : "forward",
               z.threads, gflops);
        if (peak > 0.0) printf(",%.2f", gflops / peak);
        printf("\n");
        fflush(stdout);
    }
    setup_destroy(&s);
    return failed;
}

int run_perf(const char *only, double peak, int32_t threads) {
    int failed = 0;
    level_print_missing(only);
    printf("level,dtype,head_dim,pass,threads,gflops%s\n", peak > 0.0 ? ",of_peak" : "");
    for (int32_t i = 0; level_name(i); i++)
        for (int dtype = NABLA_FP32; dtype <= NABLA_FP16; dtype++)
            for (int64_t dim = 64; dim <= 128; dim += 64)
                if (level_wanted(level_name(i), only) && level_takes(level_name(i), (nabla_dtype)dtype))
                    failed |= perf_of(level_name(i), (nabla_dtype)dtype, dim, peak, threads);
    return failed;
}

/* The least time of many, as in rate(), to choose nabla-0.7's blocks of a head of the paper's shape, 1260 blocks; NAN
 * on failure. */
static double mask_seconds(const char *level, int32_t threads) {
    enum { BLOCKS = 1260, DIM = 128 };
    const size z = {.heads = threads, .tokens = BLOCKS * 64, .dim = DIM, .density = 0.0, .threads = threads};
    const int64_t shape[] = {1, z.tokens, z.heads, z.dim};
    setup s = {.level = level};
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_plan_inputs in = nabla_plan_inputs_default();
    nabla_policy policy;
    desc.batch = 1;
    desc.heads = z.heads;
    desc.q_tokens = desc.k_tokens = z.tokens;
    in.q = s.t + Q;
    in.k = s.t + K;
    nabla_status status = level_context(level, threads, &s.ctx);
    if (!status) status = nabla_plan_create(s.ctx, &desc, &s.plan);
    for (int i = Q; i <= K && !status; i++)
        status = make_tensor(&s, NABLA_BF16, 4, shape, s.t + i);
    if (!status) status = nabla_policy_parse(s.ctx, "nabla-0.7", &policy);
    double least = INFINITY;
    const double begun = seconds();
    for (int repeat = 0; !status && (repeat < 4 || (repeat < 60 && seconds() - begun < 0.4)); repeat++) {
        const double start = seconds();
        status = nabla_plan_build(s.ctx, s.plan, &policy, &in);
        if (!status) status = nabla_context_synchronize(s.ctx);
        least = fmin(least, seconds() - start);
    }
    if (status) printf("%s\n", nabla_context_message(s.ctx));
    setup_destroy(&s);
    return status ? NAN : least;
}

int run_mask(const char *only, int32_t threads) {
    int failed = 0;
    level_print_missing(only);
    printf("level,threads,ms_per_head_and_thread\n");
    for (int32_t i = 0; level_name(i); i++) {
        if (!level_wanted(level_name(i), only)) continue;
        const double least = mask_seconds(level_name(i), threads);
        printf("%s,%d,%.2f\n", level_name(i), threads, 1e3 * least);
        fflush(stdout);
        failed |= isnan(least);
    }
    return failed;
}

/* Whether a head dim works as it should, both ways. */
static int support_of(const char *level, nabla_dtype dtype, int64_t dim) {
    setup s;
    bool works[2] = {false, false};
    const bool expected = dim >= 16 && dim <= 256;
    if (!setup_create(level, dtype, (size){.heads = 1, .tokens = 65, .dim = dim, .density = 1.0, .threads = 1}, &s))
        for (int backward = 0; backward < 2; backward++)
            works[backward] = !pass(&s, backward) && !nabla_context_synchronize(s.ctx);
    printf("%s,%s,%lld,%s,%s\n", level, dtype_text(dtype), (long long)dim, works[0] ? "yes" : "no",
           works[1] ? "yes" : "no");
    setup_destroy(&s);
    return works[0] != expected || works[1] != expected;
}

int run_support(const char *only) {
    int failed = 0;
    level_print_missing(only);
    printf("level,dtype,head_dim,forward,backward\n");
    for (int32_t i = 0; level_name(i); i++)
        for (int dtype = NABLA_FP32; dtype <= NABLA_FP16; dtype++)
            for (int64_t dim = 8; dim <= 264; dim += 8)
                if (level_wanted(level_name(i), only) && level_takes(level_name(i), (nabla_dtype)dtype))
                    failed |= support_of(level_name(i), (nabla_dtype)dtype, dim);
    return failed;
}

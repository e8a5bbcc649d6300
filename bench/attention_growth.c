/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How attention grows. attention_growth [blocks|memory|threads]... prints CSV, all three by default:
 *   blocks   seconds against kept block pairs at a fixed size, and the straight line through them
 *   memory   bytes against tokens, 4 heads: what a call is said to need, and the process's peak
 *   threads  seconds with 1, 2, 4 ... threads
 * D = 128. Timings are the least of several runs; on a busy machine only ratios within one run mean anything.
 */
#include "nabla/nabla.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { D = 128, BLOCK = 64, REPEATS = 4 };
enum { Q, K, V, O, D_O, D_Q, D_K, D_V, TENSORS };

/* Everything one measurement holds. */
typedef struct setup {
    nabla_context *ctx;
    nabla_plan *plan;
    nabla_tensor t[TENSORS], lse;
    int64_t pairs; /* kept block pairs */
} setup;

static void check(const setup *s, nabla_status status) {
    if (!status) return;
    fprintf(stderr, "%s: %s\n", nabla_status_string(status), nabla_context_message(s->ctx));
    exit(1);
}

/* Keeps block pairs by chance, the same in every run. */
static void keep_share(setup *s, int64_t rows, int64_t blocks, double density) {
    uint8_t *kept = malloc((size_t)(rows * blocks));
    uint32_t state = 1;
    if (!kept) exit(1);
    for (int64_t i = 0; i < rows * blocks; i++) {
        state = state * 1664525u + 1013904223u;
        kept[i] = (double)(state >> 8) < density * (double)(1 << 24);
    }
    check(s, nabla_plan_import_bitmap(s->ctx, s->plan, kept));
    free(kept);
    nabla_plan_stats stats = {.size = sizeof stats};
    check(s, nabla_plan_get_stats(s->ctx, s->plan, &stats));
    s->pairs = stats.kept_blocks;
}

static setup make(int64_t tokens, int64_t heads, double density, nabla_dtype dtype, int32_t threads) {
    setup s = {0};
    nabla_context_options options = nabla_context_options_default();
    nabla_plan_desc desc = nabla_plan_desc_default();
    const int64_t shape[] = {1, tokens, heads, D}, lse[] = {1, heads, tokens};
    char message[256];
    options.threads = threads;
    if (nabla_context_create(&options, &s.ctx, message, sizeof message)) {
        fprintf(stderr, "%s\n", message);
        exit(1);
    }
    desc.batch = 1;
    desc.heads = heads;
    desc.q_tokens = desc.k_tokens = tokens;
    check(&s, nabla_plan_create(s.ctx, &desc, &s.plan));
    keep_share(&s, heads * ((tokens + BLOCK - 1) / BLOCK), (tokens + BLOCK - 1) / BLOCK, density);
    for (int i = 0; i < TENSORS; i++) {
        const nabla_dtype kind = i >= D_Q ? NABLA_FP32 : dtype;
        const size_t bytes = (size_t)(tokens * heads * D) * nabla_dtype_size(kind);
        s.t[i] = nabla_tensor_contiguous(malloc(bytes), kind, 4, shape);
        if (!s.t[i].data) exit(1);
        for (size_t j = 0; j < bytes / 2; j++) /* small numbers as bf16 and as fp32 alike */
            ((uint16_t *)s.t[i].data)[j] = (uint16_t)(0x3e00u + j * 40503u % 128u);
    }
    s.lse = nabla_tensor_contiguous(malloc((size_t)(heads * tokens) * 4), NABLA_FP32, 3, lse);
    return s;
}

static void destroy(setup *s) {
    for (int i = 0; i < TENSORS; i++)
        free(s->t[i].data);
    free(s->lse.data);
    nabla_plan_destroy(s->plan);
    nabla_context_destroy(s->ctx);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double seconds_of(const setup *s, bool backward) {
    const nabla_tensor *t = s->t;
    double least = INFINITY;
    for (int i = 0; i < REPEATS; i++) {
        const double start = now();
        check(s, backward ? nabla_attention_backward(s->ctx, s->plan, NULL, t + Q, t + K, t + V, t + O, &s->lse,
                                                     t + D_O, t + D_Q, t + D_K, t + D_V)
                          : nabla_attention_forward(s->ctx, s->plan, NULL, t + Q, t + K, t + V, t + O, &s->lse));
        least = fmin(least, now() - start);
    }
    return least;
}

static const char *name(nabla_dtype dtype) {
    return dtype == NABLA_BF16 ? "bf16" : "fp32";
}

/* Least squares of seconds = fixed + slope * pairs; R^2 says how straight it is. */
static void print_line(nabla_dtype dtype, const char *pass, int n, const double *x, const double *y) {
    double mx = 0, my = 0, xx = 0, xy = 0, yy = 0;
    for (int i = 0; i < n; i++) {
        mx += x[i] / n;
        my += y[i] / n;
    }
    for (int i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        xy += (x[i] - mx) * (y[i] - my);
        yy += (y[i] - my) * (y[i] - my);
    }
    printf("line,%s,%s,%.2f us a block pair,%.2f ms fixed,R2 %.5f\n", name(dtype), pass, xy / xx * 1e6,
           (my - xy / xx * mx) * 1e3, xy * xy / xx / yy);
}

static void blocks(void) {
    static const double densities[] = {0.02, 0.05, 0.1, 0.2, 0.4, 0.8};
    enum { POINTS = sizeof densities / sizeof densities[0], TOKENS = 12288 };
    printf("blocks,dtype,pass,tokens,kept_pairs,seconds,gflops\n");
    for (int dtype = NABLA_FP32; dtype <= NABLA_BF16; dtype++) {
        double pairs[POINTS], seconds[2][POINTS];
        for (int i = 0; i < POINTS; i++) {
            setup s = make(TOKENS, 1, densities[i], (nabla_dtype)dtype, 1);
            pairs[i] = (double)s.pairs;
            for (int backward = 0; backward < 2; backward++) {
                seconds[backward][i] = seconds_of(&s, backward);
                printf("blocks,%s,%s,%d,%.0f,%.6f,%.1f\n", name((nabla_dtype)dtype), backward ? "backward" : "forward",
                       TOKENS, pairs[i], seconds[backward][i],
                       (backward ? 10.0 : 4.0) * BLOCK * BLOCK * D * pairs[i] / seconds[backward][i] * 1e-9);
                fflush(stdout);
            }
            destroy(&s);
        }
        print_line((nabla_dtype)dtype, "forward", POINTS, pairs, seconds[0]);
        print_line((nabla_dtype)dtype, "backward", POINTS, pairs, seconds[1]);
    }
}

/* One size, in its own process so that its peak is its own. About 50 key blocks a query block, as windows keep. */
static void memory_at(int64_t tokens, bool backward) {
    enum { HEADS = 4, KEPT = 50 };
    setup s = make(tokens, HEADS, (double)KEPT * BLOCK / (double)tokens, NABLA_BF16, 2);
    const double start = now();
    nabla_plan_desc desc = nabla_plan_desc_default();
    struct rusage usage;
    size_t plan, scratch;
    desc.batch = 1;
    desc.heads = HEADS;
    desc.q_tokens = desc.k_tokens = tokens;
    check(&s, nabla_plan_memory(s.ctx, &desc, &plan));
    check(&s, nabla_attention_memory(s.ctx, &desc, NULL, NABLA_BF16, D, backward, &scratch));
    check(&s, nabla_attention_forward(s.ctx, s.plan, NULL, s.t + Q, s.t + K, s.t + V, s.t + O, &s.lse));
    if (backward)
        check(&s, nabla_attention_backward(s.ctx, s.plan, NULL, s.t + Q, s.t + K, s.t + V, s.t + O, &s.lse, s.t + D_O,
                                           s.t + D_Q, s.t + D_K, s.t + D_V));
    getrusage(RUSAGE_SELF, &usage);
    printf("memory,%s,%lld,%d,%.1f,%.1f,%.1f,%.2f\n", backward ? "both" : "forward", (long long)tokens, HEADS,
           (double)plan / 1e6, (double)scratch / 1e6, (double)usage.ru_maxrss / 1e3, now() - start);
    fflush(stdout);
    destroy(&s);
}

static void memory(void) {
    static const int64_t sizes[] = {10080, 20160, 40320, 80640};
    printf("memory,pass,tokens,heads,plan_mb,scratch_mb,process_peak_mb,seconds\n");
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int backward = 0; backward < 2; backward++) {
            fflush(stdout);
            const pid_t child = fork();
            if (child == 0) {
                memory_at(sizes[i], backward);
                _exit(0);
            }
            if (child < 0 || waitpid(child, NULL, 0) < 0) exit(1);
        }
}

static void threads(void) {
    nabla_context *ctx;
    if (nabla_context_create(NULL, &ctx, NULL, 0)) exit(1);
    const int32_t most = nabla_context_threads(ctx);
    nabla_context_destroy(ctx);
    printf("threads,dtype,pass,heads,threads,seconds,speedup\n");
    for (int dtype = NABLA_FP32; dtype <= NABLA_BF16; dtype++)
        for (int64_t heads = 1; heads <= 4; heads *= 4)
            for (int backward = 0; backward < 2; backward++) {
                double one = 0.0;
                for (int32_t n = 1; n <= most; n *= 2) {
                    setup s = make(12288 / heads * 2, heads, 0.2, (nabla_dtype)dtype, n);
                    const double seconds = seconds_of(&s, backward);
                    one = n == 1 ? seconds : one;
                    printf("threads,%s,%s,%lld,%d,%.4f,%.3f\n", name((nabla_dtype)dtype),
                           backward ? "backward" : "forward", (long long)heads, (int)n, seconds, one / seconds);
                    fflush(stdout);
                    destroy(&s);
                }
            }
}

static int run(const char *what) {
    if (!strcmp(what, "blocks"))
        blocks();
    else if (!strcmp(what, "memory"))
        memory();
    else if (!strcmp(what, "threads"))
        threads();
    else
        return fprintf(stderr, "unknown measurement '%s'; use blocks, memory or threads\n", what), 2;
    return 0;
}

int main(int argc, char **argv) {
    static const char *const all[] = {"memory", "blocks", "threads"}; /* memory first: it forks before any thread is */
    int code = 0;
    for (int i = 0; argc < 2 && i < 3 && !code; i++)
        code = run(all[i]);
    for (int i = 1; i < argc && !code; i++)
        code = run(argv[i]);
    return code;
}

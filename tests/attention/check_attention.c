/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_attention [test|grad|perf|mask|support] [--level LEVEL|cpu|cuda] [--every N] [--threads N] [--peak GFLOPS]: one
 * list of cases, five modes.
 *   test     every level of this machine, GPU 0's included, against the fp64 oracle, deterministic and not; guards; the
 *            same bits from 1, 2 and 3 threads, and from a GPU every time; --every N: each N-th case, on slow devices
 *   grad     the oracle's own gradients against finite differences of its forward pass
 *   perf     GFLOP/s of a core or of the GPU per level, dtype and head dim, as CSV; with --peak also the fraction of
 * it; with --threads N of N cores at once, each with a head of its own mask     milliseconds to choose a head's blocks,
 * 1260 of them, per level, as CSV support  what each level runs
 */
#include "case.h"
#include "levels.h"
#include "perf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SKIPPED = 77 }; /* an exit code that CTest tells from success and failure */

static naive_result result_create(const case_data *d) {
    const size_t q = (size_t)case_q_elements(d), k = (size_t)case_k_elements(d);
    return (naive_result){.o = calloc(q, sizeof(double)),
                          .lse = calloc(q, sizeof(double)),
                          .dq = calloc(q, sizeof(double)),
                          .dk = calloc(k, sizeof(double)),
                          .dv = calloc(k, sizeof(double))};
}

static void result_destroy(naive_result *r) {
    free(r->o);
    free(r->lse);
    free(r->dq);
    free(r->dk);
    free(r->dv);
}

/* ---- test */

/* At most twice the plain implementation's largest error, plus a few units in the last place of the largest value. NaN
   and infinities must be where the oracle has them. */
static bool within(const char *what, int64_t n, const float *x, const double *oracle, const double *plain) {
    double error = 0.0, plain_error = 0.0, largest = 0.0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(oracle[i])) {
            if (isnan(oracle[i]) ? !isnan(x[i]) : (double)x[i] != oracle[i]) {
                printf("  %s[%lld] is %g, the oracle has %g\n", what, (long long)i, (double)x[i], oracle[i]);
                return false;
            }
            continue;
        }
        if (!isfinite(x[i])) {
            printf("  %s[%lld] is %g, the oracle has %g\n", what, (long long)i, (double)x[i], oracle[i]);
            return false;
        }
        error = fmax(error, fabs((double)x[i] - oracle[i]));
        plain_error = fmax(plain_error, fabs(plain[i] - oracle[i]));
        largest = fmax(largest, fabs(oracle[i]));
    }
    const double bound = 2.0 * plain_error + 0x1p-21 * largest;
    if (error > bound)
        printf("  %s: largest error %.3g, the plain implementation's %.3g, bound %.3g\n", what, error, plain_error,
               bound);
    return error <= bound;
}

static bool same_bits(const case_data *d, const case_output *a, const case_output *b, const char *level, int run) {
    const size_t q = (size_t)case_q_elements(d) * sizeof(float), k = (size_t)case_k_elements(d) * sizeof(float);
    const size_t lse = (size_t)(d->c->batch * d->c->heads * d->q_tokens) * sizeof(float);
    const bool same = !memcmp(a->o, b->o, q) && !memcmp(a->lse, b->lse, lse) && !memcmp(a->dq, b->dq, q) &&
                      !memcmp(a->dk, b->dk, k) && !memcmp(a->dv, b->dv, k);
    if (!same)
        printf("  %s %d differs from 1 in:%s%s%s%s%s\n", level_on_gpu(level) ? "run" : "a team of", run,
               memcmp(a->o, b->o, q) ? " o" : "", memcmp(a->lse, b->lse, lse) ? " lse" : "",
               memcmp(a->dq, b->dq, q) ? " dq" : "", memcmp(a->dk, b->dk, k) ? " dk" : "",
               memcmp(a->dv, b->dv, k) ? " dv" : "");
    return same;
}

static bool agrees(const case_data *d, const case_output *x, const naive_result *oracle, const naive_result *plain) {
    const int64_t q = case_q_elements(d), k = case_k_elements(d), lse = d->c->batch * d->c->heads * d->q_tokens;
    bool fine = within("lse", lse, x->lse, oracle->lse, plain->lse);
    if (!d->c->lse_only) {
        fine = within("o", q, x->o, oracle->o, plain->o) && fine;
        fine = within("dq", q, x->dq, oracle->dq, plain->dq) && fine;
        fine = within("dk", k, x->dk, oracle->dk, plain->dk) && fine;
        fine = within("dv", k, x->dv, oracle->dv, plain->dv) && fine;
    }
    if (!x->intact) printf("  memory outside a tensor was written\n");
    return x->intact && fine;
}

static bool check_level(const case_data *d, const char *level, const naive_result *oracle, const naive_result *plain) {
    case_output one, more;
    if (d->c->lse_only && level_on_gpu(level)) return true;
    bool fine = case_run(d, level, 1, true, &one) && agrees(d, &one, oracle, plain);
    for (int threads = 2; fine && threads <= 3; threads++) {
        fine = case_run(d, level, threads, true, &more) && same_bits(d, &one, &more, level, threads) && more.intact;
        case_output_destroy(&more);
    }
    case_output_destroy(&one);
    if (!fine) return false;
    fine = case_run(d, level, 3, false, &more) && agrees(d, &more, oracle, plain);
    if (!fine) printf("  (sums in any order)\n");
    case_output_destroy(&more);
    return fine;
}

static bool runs(const attention_case *c, const char *level, const char *only) {
    return level_wanted(level, only) && level_takes(level, c->dtype);
}

static int test_case(const attention_case *c, const char *only) {
    case_data d;
    int failures = 0;
    bool any = false;
    for (int32_t i = 0; level_name(i); i++)
        any = any || runs(c, level_name(i), only);
    if (!any) return 0;
    if (!case_create(c, &d)) {
        printf("cannot make ");
        case_print(c);
        printf("\n");
        case_destroy(&d);
        return 1;
    }
    const naive_problem problem = case_problem(&d);
    naive_result oracle = result_create(&d), plain = result_create(&d);
    naive_fp64(&problem, &oracle);
    naive_plain(&problem, &plain);
    for (int32_t i = 0; level_name(i); i++) {
        if (!runs(c, level_name(i), only) || check_level(&d, level_name(i), &oracle, &plain)) continue;
        printf("FAILED on level %s: ", level_name(i));
        case_print(c);
        printf("\n");
        failures++;
    }
    result_destroy(&oracle);
    result_destroy(&plain);
    case_destroy(&d);
    return failures;
}

/* A case of random shape: what nobody thought of. */
static attention_case random_case(uint32_t seed) {
    srand(seed);
    const int frames = 1 + rand() % 3, height = 1 + rand() % 13, width = 1 + rand() % 13;
    const int th = 1 + rand() % 10, tw = 1 + rand() % 10, tf = 1 + rand() % 2;
    return (attention_case){.name = "random",
                            .batch = 1 + rand() % 2,
                            .heads = 1 + rand() % 3,
                            .grid = {frames, height, width, tf, th, tw},
                            .head_dim = 16 + 8 * (rand() % 12),
                            .dtype = rand() % 2 ? NABLA_BF16 : NABLA_FP32,
                            .density = 0.1 * (rand() % 10),
                            .layout = (layout)(rand() % 3),
                            .input = rand() % 4 == 0 ? INPUT_NAN : INPUT_NORMAL,
                            .seed = seed};
}

static bool has_level(const char *level) {
    for (int32_t i = 0; level_name(i); i++)
        if (!strcmp(level_name(i), level)) return true;
    return false;
}

/* The exit code. */
static int run_test(const char *level, int every) {
    enum { RANDOM = 40, RANDOM_FP16 = 20 };
    int failures = 0, cases = 0;
    level_print_missing(level);
    if (level && strcmp(level, "cpu") && strcmp(level, "cuda") && !has_level(level)) {
        printf("this machine has no level '%s'\n", level);
        return SKIPPED;
    }
    for (int i = 0; i < attention_case_count + RANDOM + RANDOM_FP16; i += every, cases++) {
        const int seed = i - attention_case_count + 1;
        attention_case c = seed < 1 ? attention_cases[i] : random_case((uint32_t)seed);
        if (seed > RANDOM) c.dtype = NABLA_FP16;
        failures += test_case(&c, level);
    }
    printf("%d cases, %d failures\n", cases, failures);
    return failures ? 1 : 0;
}

/* ---- grad */

/* sum of dO * O, whose gradients are dQ, dK and dV. */
static double loss(const naive_problem *p, naive_result *r, int64_t elements) {
    naive_fp64(p, r);
    double sum = 0.0;
    for (int64_t i = 0; i < elements; i++)
        sum += r->o[i] * (double)p->d_o[i];
    return sum;
}

static int check_differences(const case_data *d, float *x, int64_t n, const double *analytic, const char *what) {
    const naive_problem p = case_problem(d);
    naive_result r = result_create(d);
    int failures = 0;
    for (int64_t i = 0; i < n; i += 1 + n / 5) {
        const float kept = x[i], high = kept + 0x1p-9f, low = kept - 0x1p-9f;
        x[i] = high;
        const double above = loss(&p, &r, case_q_elements(d));
        x[i] = low;
        const double below = loss(&p, &r, case_q_elements(d));
        x[i] = kept;
        const double difference = (above - below) / ((double)high - (double)low);
        if (fabs(difference - analytic[i]) > 1e-4 * (1.0 + fabs(difference))) {
            printf("%s[%lld]: finite difference %g, analytic %g: ", what, (long long)i, difference, analytic[i]);
            case_print(d->c);
            printf("\n");
            failures++;
        }
    }
    result_destroy(&r);
    return failures;
}

static int run_grad(void) {
    int failures = 0;
    for (int i = 0; i < attention_case_count; i++) {
        const attention_case *c = attention_cases + i;
        case_data d;
        const bool steep =
            c->input == INPUT_LARGE || c->input == INPUT_RISING; /* differences drown in so large losses */
        if (c->dtype != NABLA_FP32 || c->input == INPUT_NAN || steep || c->beta != 0.0f) continue;
        if (!case_create(c, &d)) return 1;
        if (case_q_elements(&d) <= 30000) {
            const naive_problem p = case_problem(&d);
            naive_result r = result_create(&d);
            naive_fp64(&p, &r);
            failures += check_differences(&d, d.q, case_q_elements(&d), r.dq, "dq");
            failures += check_differences(&d, d.k, case_k_elements(&d), r.dk, "dk");
            failures += check_differences(&d, d.v, case_k_elements(&d), r.dv, "dv");
            result_destroy(&r);
        }
        case_destroy(&d);
    }
    printf("gradients against finite differences: %d failures\n", failures);
    return failures;
}

int main(int argc, char **argv) {
    const char *mode = "test", *level = NULL;
    double peak = 0.0;
    int every = 1, threads = 1;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--level") && i + 1 < argc)
            level = argv[++i];
        else if (!strcmp(argv[i], "--every") && i + 1 < argc)
            every = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--peak") && i + 1 < argc)
            peak = atof(argv[++i]);
        else
            mode = argv[i];
    }
    if (!strcmp(mode, "test")) return run_test(level, every > 0 ? every : 1);
    if (!strcmp(mode, "grad")) return run_grad() ? 1 : 0;
    if (threads < 1) {
        fprintf(stderr, "--threads takes a number from 1 up\n");
        return 2;
    }
    if (!strcmp(mode, "perf")) return run_perf(level, peak, threads) ? 1 : 0;
    if (!strcmp(mode, "mask")) return run_mask(level, threads) ? 1 : 0;
    if (!strcmp(mode, "support")) return run_support(level) ? 1 : 0;
    fprintf(stderr, "unknown mode '%s'; use test, grad, perf, mask or support\n", mode);
    return 2;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Every level's selection against a sort, and its scores against fp64. */
#include "check.h"

#include "attention/context.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4200, CANARY = 0x5a };

typedef enum row_kind { UNIFORM, LOG_NORMAL, TIED, EQUAL, ONE_HOT, SPARSE, SUBNORMAL, ROW_KINDS } row_kind;

static double uniform(void) {
    return (rand() + 0.5) / ((double)RAND_MAX + 1.0);
}

static void make_row(row_kind kind, int32_t n, float *probs) {
    double sum = 0.0, x[MOST];
    for (int32_t i = 0; i < n; i++) {
        const double normal = sqrt(-2.0 * log(uniform())) * cos(6.283185307179586 * uniform());
        switch (kind) {
        case UNIFORM:
            x[i] = uniform();
            break;
        case LOG_NORMAL:
            x[i] = exp(2.5 * normal);
            break;
        case TIED:
            x[i] = 1 + rand() % 4;
            break;
        case ONE_HOT:
            x[i] = i == n / 2 ? 1.0 : 1e-30;
            break;
        case SPARSE:
            x[i] = rand() % 3 ? 0.0 : exp(normal);
            break;
        case SUBNORMAL:
            x[i] = i ? 1e-40 * uniform() : 1.0;
            break;
        default:
            x[i] = 1.0;
        }
        sum += x[i];
    }
    for (int32_t i = 0; i < n; i++)
        probs[i] = (float)(sum > 0.0 ? x[i] / sum : 1.0 / n);
}

/* A probability and where it was. */
typedef struct entry {
    float p;
    int32_t index;
} entry;

/* Ascending; of equals the higher index first, so that the lower is kept first. */
static int ascending(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->p != y->p) return x->p < y->p ? -1 : 1;
    return (x->index < y->index) - (x->index > y->index);
}

/* The rule, by its words. Blocks whose cumulative sum is within rounding of the line may go either way. */
static void check_row(const nabla_kernels *kernels, const float *probs, int32_t n, float thr) {
    entry sorted[MOST];
    uint64_t bits[MOST / 64 + 2];
    double total = 0.0, kept_mass = 0.0, cumulative = 0.0;
    const int32_t words = (n + 63) / 64;
    memset(bits, CANARY, sizeof bits);
    const double mass = kernels->select_row(probs, n, thr, bits);
    for (size_t byte = (size_t)words * 8; byte < sizeof bits; byte++)
        assert_int_equal(((unsigned char *)bits)[byte], CANARY);
    if (n % 64) assert_int_equal(bits[words - 1] >> (n % 64), 0);
    for (int32_t i = 0; i < n; i++) {
        sorted[i] = (entry){probs[i], i};
        total += (double)probs[i];
        kept_mass += bits[i / 64] >> (i % 64) & 1 ? (double)probs[i] : 0.0;
    }
    assert_true(fabs(mass - kept_mass) < 1e-5);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    const double line = (1.0 - (double)thr) * total;
    int before = 1; /* whether the sorted entry before this one was dropped */
    for (int32_t i = 0; i < n; i++) {
        const int kept = (int)(bits[sorted[i].index / 64] >> (sorted[i].index % 64) & 1);
        cumulative += (double)sorted[i].p;
        if (fabs(cumulative - line) > 1e-6) assert_int_equal(kept, cumulative >= line);
        assert_true(kept || before); /* what is kept is a tail of the sorted row: ties go by index */
        before = !kept;
    }
    assert_false(before); /* the largest is always kept */
}

static nabla_kernels table_of(int32_t level) {
    nabla_kernels kernels;
    char message[200];
    assert_int_equal(nabla_kernels_select(nabla_level_name(level), &kernels, message, sizeof message), NABLA_OK);
    return kernels;
}

static void keeps_what_a_sort_keeps(void **state) {
    static const int32_t sizes[] = {1, 2, 3, 7, 16, 31, 63, 64, 65, 72, 100, 127, 128, 500, 1260, 4095, 4096, 4097};
    static const float thrs[] = {1e-6f, 0.05f, 0.2f, 0.4f, 0.5f, 0.7f, 0.9f, 0.999f, 1.0f};
    (void)state;
    for (int32_t level = 0; nabla_level_name(level); level++) {
        const nabla_kernels kernels = table_of(level);
        srand(7);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            for (int kind = 0; kind < ROW_KINDS; kind++)
                for (size_t t = 0; t < sizeof thrs / sizeof thrs[0]; t++) {
                    float probs[MOST];
                    make_row((row_kind)kind, sizes[s], probs);
                    check_row(&kernels, probs, sizes[s], thrs[t]);
                }
    }
}

static void equals_are_kept_by_lowest_index(void **state) {
    (void)state;
    for (int32_t level = 0; nabla_level_name(level); level++) {
        const nabla_kernels kernels = table_of(level);
        float probs[128];
        uint64_t bits[2];
        for (int i = 0; i < 128; i++)
            probs[i] = 1.0f / 128.0f;
        kernels.select_row(probs, 128, 0.25f, bits); /* c = 96 / 128 is the first >= 0.75: the last 33 of the sort */
        assert_true(bits[0] == (UINT64_C(1) << 33) - 1);
        assert_true(bits[1] == 0);
    }
}

static void all_at_one(void **state) {
    (void)state;
    for (int32_t level = 0; nabla_level_name(level); level++) {
        const nabla_kernels kernels = table_of(level);
        float probs[70] = {0};
        uint64_t bits[2];
        probs[69] = 1.0f; /* zeros count too */
        kernels.select_row(probs, 70, 1.0f, bits);
        assert_true(bits[0] == ~UINT64_C(0) && bits[1] == 63);
    }
}

static void nonsense_keeps_everything(void **state) {
    (void)state;
    for (int32_t level = 0; nabla_level_name(level); level++) {
        const nabla_kernels kernels = table_of(level);
        const float values[] = {NAN, -NAN, INFINITY, -INFINITY};
        for (int i = 0; i < 4; i++) {
            float probs[100];
            uint64_t bits[2];
            for (int j = 0; j < 100; j++)
                probs[j] = 0.01f;
            probs[i * 31] = values[i];
            kernels.select_row(probs, 100, 0.5f, bits);
            assert_true(bits[0] == ~UINT64_C(0) && bits[1] == (UINT64_C(1) << 36) - 1);
        }
    }
}

/* ---- scores */

/* exp of x[n] over its sum; none of what is -inf. */
static void softmax(double *x, int32_t n) {
    double max = -INFINITY, sum = 0.0;
    for (int32_t j = 0; j < n; j++)
        max = fmax(max, x[j]);
    for (int32_t j = 0; j < n; j++)
        sum += x[j] = x[j] > -INFINITY ? exp(x[j] - max) : 0.0;
    for (int32_t j = 0; j < n && sum > 0.0; j++)
        x[j] /= sum;
}

/* Probabilities of one row: from scores in fp64, and in fp32 sums as anybody would write them. */
static void expected_row(const float *q, const float *k, int32_t n, int32_t dim, float scale, const uint64_t *allowed,
                         double *exact, double *plain) {
    for (int32_t j = 0; j < n; j++) {
        float sum = 0.0f;
        exact[j] = 0.0;
        for (int32_t d = 0; d < dim; d++) {
            exact[j] += (double)q[d] * (double)k[j * dim + d];
            sum += q[d] * k[j * dim + d];
        }
        exact[j] *= (double)scale;
        plain[j] = (double)(sum * scale);
        if (allowed && !(allowed[j / 64] >> (j % 64) & 1)) exact[j] = plain[j] = -INFINITY;
    }
    softmax(exact, n);
    softmax(plain, n);
}

/* Relative errors are at most twice those of the plain sums: that tells products of rounded means from those of fp32.
 */
static void check_scores(const nabla_kernels *kernels, int32_t rows, int32_t n, int32_t dim, float scale, bool masked) {
    const int32_t keys = (n + NABLA_SCORE_KEYS - 1) / NABLA_SCORE_KEYS * NABLA_SCORE_KEYS, words = (n + 63) / 64;
    float *q = malloc((size_t)(rows * dim) * 4), *k = malloc((size_t)(n * dim) * 4);
    void *put = aligned_alloc(64, kernels->score.keys_size(keys, dim));
    float *probs = aligned_alloc(64, (size_t)(kernels->score.rows * keys) * 4);
    uint64_t *allowed = calloc((size_t)(rows * words), 8);
    double *exact = malloc((size_t)n * sizeof *exact), *plain = malloc((size_t)n * sizeof *plain);
    double error = 0.0, plain_error = 0.0;
    const float zeros[256] = {0};
    for (int32_t i = 0; i < rows * dim; i++)
        q[i] = (float)(2.0 * uniform() - 1.0);
    for (int32_t i = 0; i < n * dim; i++)
        k[i] = (float)(2.0 * uniform() - 1.0);
    for (int32_t j = 0; j < keys; j++)
        kernels->score.put_key(j < n ? k + j * dim : zeros, j, dim, put);
    for (int32_t i = 0; i < rows * n; i++)
        if (i / n != 1 && rand() % 3) /* row 1 is allowed nothing */
            allowed[i / n * words + i % n / 64] |= UINT64_C(1) << (i % n % 64);
    kernels->score.products(q, rows, put, n, dim, scale, probs, keys);
    for (int32_t r = 0; r < rows; r++) {
        const uint64_t *open = masked ? allowed + r * words : NULL;
        kernels->score.softmax(probs + r * keys, n, open);
        expected_row(q + r * dim, k, n, dim, scale, open, exact, plain);
        for (int32_t j = 0; j < n; j++) {
            const double p = (double)probs[r * keys + j];
            if (exact[j] < 1e-30) {
                assert_true(p >= 0.0 && p < 2e-30);
                continue;
            }
            assert_true(p >= 0.0); /* no NaN, which fmax would leave out */
            error = fmax(error, fabs(p / exact[j] - 1.0));
            plain_error = fmax(plain_error, fabs(plain[j] / exact[j] - 1.0));
        }
    }
    if (error > 2.0 * plain_error + 2e-6)
        fail_msg("level %s, %d rows, %d keys, D %d, scale %g: error %.3g, plain sums have %.3g", kernels->level, rows,
                 n, dim, (double)scale, error, plain_error);
    free(q);
    free(k);
    free(put);
    free(probs);
    free(allowed);
    free(exact);
    free(plain);
}

static void scores_are_softmax(void **state) {
    static const int32_t sizes[] = {1, 15, 16, 17, 33, 64, 72, 130, 257};
    (void)state;
    for (int32_t level = 0; nabla_level_name(level); level++) {
        const nabla_kernels kernels = table_of(level);
        srand(11);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++)
            for (int32_t rows = 1; rows <= kernels.score.rows; rows += rows < 8 ? 1 : 5)
                for (int32_t dim = 16; dim <= 256; dim += 56)
                    check_scores(&kernels, rows, sizes[s], dim, rows % 4 > 1 ? 4.0f : 0.25f, rows % 2);
    }
}

static void means_are_means(void **state) {
    (void)state;
    for (int32_t level = 0; nabla_level_name(level); level++) {
        const nabla_kernels kernels = table_of(level);
        float x[70 * 80], mean[72];
        uint16_t narrow[70 * 80];
        for (int i = 0; i < 70 * 80; i++) {
            uint32_t bits;
            x[i] = (float)(uniform() - 0.5);
            memcpy(&bits, x + i, 4);
            narrow[i] = (uint16_t)(bits >> 16);
        }
        for (int32_t last = 4; last <= 70; last += 11)
            for (int dtype = 0; dtype < NABLA_CPU_DTYPES; dtype++) {
                const nabla_rows rows = {.data = dtype == NABLA_BF16 ? (void *)narrow : x, .stride = 80};
                kernels.of[dtype].block_mean(rows, 3, last, 72, mean);
                for (int d = 0; d < 72; d++) {
                    double sum = 0.0;
                    for (int32_t t = 3; t < last; t++) {
                        const uint32_t bits = (uint32_t)narrow[t * 80 + d] << 16;
                        float wide;
                        memcpy(&wide, &bits, 4);
                        sum += (double)(dtype == NABLA_BF16 ? wide : x[t * 80 + d]);
                    }
                    assert_true(fabs((double)mean[d] - sum / (last - 3)) < 1e-6);
                }
            }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_a_sort_keeps),
        cmocka_unit_test(equals_are_kept_by_lowest_index),
        cmocka_unit_test(all_at_one),
        cmocka_unit_test(nonsense_keeps_everything),
        cmocka_unit_test(scores_are_softmax),
        cmocka_unit_test(means_are_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "tensor/random.h"
#include "weights/safetensors.h"

/* ------------------------------------------------------------------ torch */

static void check_part(const nv_st_entry *e) {
    uint64_t seed;
    size_t n, begin, count = (size_t)e->shape[0];
    float expected[32];
    assert_int_equal(sscanf(e->name, "%" SCNu64 "/%zu/%zu", &seed, &n, &begin), 3);
    assert_int_equal(nv_st_read_f32(e, expected, count, NULL), NABLA_OK);
    float *x = malloc(n * sizeof *x);
    nv_torch_randn(seed, x, n);
    for (size_t i = 0; i < count; i++) {
        if (fabsf(x[begin + i] - expected[i]) > 1e-6f) fail_msg("%s: [%zu] is %g", e->name, i, (double)x[begin + i]);
    }
    free(x);
}

static void torch_gives_the_same(void **state) {
    (void)state;
    nv_st_file *file;
    assert_int_equal(nv_st_open(NABLA_TEST_DATA "/random.safetensors", &file, NULL), NABLA_OK);
    assert_true(nv_st_count(file) > 36);
    for (size_t i = 0; i < nv_st_count(file); i++) {
        check_part(nv_st_at(file, i));
    }
    nv_st_close(file);
}

/* ------------------------------------------------------------------ Philox */

/* Of Random123's file of known answers (kat_vectors): counter, key, result. */
static const uint32_t known[3][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
     0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
     0x24126ea1},
};

static void known_answers(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        nv_philox g = nv_philox_at(0, 0);
        memcpy(g.counter, known[i], sizeof g.counter);
        memcpy(g.key, known[i] + 4, sizeof g.key);
        for (int j = 0; j < 4; j++) {
            assert_int_equal(nv_philox_u32(&g), known[i][6 + j]);
        }
    }
}

static void seed_stream_and_carry(void **state) {
    (void)state;
    nv_philox g = nv_philox_at(0x299f31d0a4093822u, 0x0370734413198a2eu);
    assert_int_equal(g.counter[0] | g.counter[1], 0);
    g.counter[0] = 0xffffffff;
    g.counter[1] = 0x85a308d2;
    for (int i = 0; i < 4; i++) {
        nv_philox_u32(&g);
    }
    assert_int_equal(g.counter[0], 0);
    assert_int_equal(g.counter[1], 0x85a308d3);
    g.counter[0] = 0x243f6a88;
    assert_int_equal(nv_philox_u32(&g), 0xd16cfe09);
}

static void uniforms(void **state) {
    (void)state;
    nv_philox g = nv_philox_at(1, 2);
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        float u = nv_philox_uniform(&g);
        assert_true(u >= 0.0f && u < 1.0f);
        sum += (double)u;
    }
    assert_true(fabs(sum / 100000 - 0.5) < 0.004);
}

static void below_is_uniform(void **state) {
    (void)state;
    nv_philox g = nv_philox_at(3, 4);
    int counts[6] = {0};
    for (int i = 0; i < 60000; i++) {
        uint32_t x = nv_philox_below(&g, 6);
        assert_true(x < 6);
        counts[x]++;
    }
    double chi2 = 0;
    for (int i = 0; i < 6; i++) {
        chi2 += (counts[i] - 10000.0) * (counts[i] - 10000.0) / 10000.0;
    }
    assert_true(chi2 < 20.5); /* 0.1 % of 5 degrees of freedom */
    assert_int_equal(nv_philox_below(&g, 1), 0);
    int high = 0;
    for (int i = 0; i < 30000; i++) { /* where a plain product would favour two values of three */
        uint32_t x = nv_philox_below(&g, 0xc0000000u);
        assert_true(x < 0xc0000000u);
        high += x >= 0x80000000u;
    }
    assert_true(abs(high - 10000) < 300);
}

/* ------------------------------------------------------------------ normals */

/* Box-Muller in double from the generator's own words, the first rounded as the generator rounds it. */
static void plain_normals(nv_philox *g, double *out, size_t pairs) {
    for (size_t i = 0; i < pairs; i++) {
        double u = (double)((float)(nv_philox_u32(g) / 2) + 0.25f) * 0x1p-31, turn = nv_philox_u32(g) * 0x1p-32;
        double r = sqrt(-2.0 * log(u)), angle = turn * 2.0 * acos(-1.0);
        out[2 * i] = r * cos(angle);
        out[2 * i + 1] = r * sin(angle);
    }
}

static void normals_are_box_muller(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    float *x = malloc(N * sizeof *x);
    double *y = malloc(N * sizeof *y), worst = 0;
    nv_philox g = nv_philox_at(5, 6), h = g;
    nv_philox_normal(&g, x, N);
    plain_normals(&h, y, N / 2);
    for (int i = 0; i < N; i++) {
        worst = fmax(worst, fabs((double)x[i] - y[i]));
    }
    assert_true(worst < 1e-6);
    assert_memory_equal(g.counter, h.counter, sizeof g.counter);
    free(x);
    free(y);
}

/* The shares of a million normals below -4, -3.9 ... against the distribution (Kolmogorov-Smirnov), and moments. */
static void normals_are_normal(void **state) {
    (void)state;
    enum { N = 1 << 20, BINS = 80 };
    float *x = malloc(N * sizeof *x);
    nv_philox g = nv_philox_at(7, 8);
    nv_philox_normal(&g, x, N);
    double sum = 0, square = 0, fourth = 0, next = 0;
    int counts[BINS + 1] = {0};
    for (int i = 0; i < N; i++) {
        double v = (double)x[i];
        sum += v;
        square += v * v;
        fourth += v * v * v * v;
        next += v * (double)x[(i + 1) % N];
        counts[(int)fmin(fmax(ceil((v + 4.0) * 10.0), 0.0), BINS)]++;
    }
    assert_true(fabs(sum / N) < 0.004 && fabs(next / N) < 0.004);
    assert_true(fabs(square / N - 1.0) < 0.006 && fabs(fourth / N - 3.0) < 0.04);
    int below = 0;
    for (int b = 0; b < BINS; b++) {
        below += counts[b];
        double expected = 0.5 * erfc(-(b * 0.1 - 4.0) / sqrt(2.0));
        assert_true(fabs((double)below / N - expected) < 1.95 / sqrt(N));
    }
    free(x);
}

static void normals_do_not_depend_on_the_call(void **state) {
    (void)state;
    float all[700], part[700];
    nv_philox g = nv_philox_at(9, 10);
    nv_philox_normal(&g, all, 700);
    for (size_t n = 0; n <= 700; n += n < 10 ? 1 : 13) {
        nv_philox h = nv_philox_at(9, 10);
        nv_philox_normal(&h, part, n);
        assert_memory_equal(all, part, n * sizeof *part);
        assert_int_equal(h.counter[0], (n + 3) / 4);
        size_t next = (n + 3) / 4 * 4;
        if (next >= 700) continue;
        nv_philox_normal(&h, part, 700 - next);
        assert_memory_equal(all + next, part, (700 - next) * sizeof *part);
    }
    nv_philox h = nv_philox_at(9, 10);
    nv_philox_u32(&h); /* a block that was begun is left */
    nv_philox_normal(&h, part, 8);
    assert_memory_equal(all + 4, part, 8 * sizeof *part);
}

/* Training noise must not change with compilers and machines: these are its bits. */
static void normals_have_pinned_bits(void **state) {
    (void)state;
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    float x[4096];
    nv_philox g = nv_philox_at(0x123456789abcdefu, 42);
    g.counter[0] = 0xffffff00u; /* so that the position carries */
    nv_philox_normal(&g, x, 4096);
    for (size_t i = 0; i < sizeof x; i++) {
        hash = (hash ^ ((const unsigned char *)x)[i]) * 0x100000001b3u;
    }
    if (hash != 0x7b0e5d8318d159bau) fail_msg("hash %016" PRIx64, hash);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_gives_the_same),     cmocka_unit_test(known_answers),
        cmocka_unit_test(seed_stream_and_carry),    cmocka_unit_test(uniforms),
        cmocka_unit_test(below_is_uniform),         cmocka_unit_test(normals_are_box_muller),
        cmocka_unit_test(normals_are_normal),       cmocka_unit_test(normals_do_not_depend_on_the_call),
        cmocka_unit_test(normals_have_pinned_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

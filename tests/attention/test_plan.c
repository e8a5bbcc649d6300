/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: windows and documents by brute force, the adaptive part by a sort. */
#include "mass.h"
#include "plan_fixture.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ---- static sets */

static bool in_window(const nabla_grid *g, const nabla_policy *p, int64_t a, int64_t b) {
    const int64_t down = (g->height + g->tile_height - 1) / g->tile_height;
    const int64_t across = (g->width + g->tile_width - 1) / g->tile_width;
    return llabs(a / (down * across) - b / (down * across)) <= p->sta_frames / 2 &&
           llabs(a / across % down - b / across % down) <= p->sta_height / 2 &&
           llabs(a % across - b % across) <= p->sta_width / 2;
}

static void windows_are_windows(void **state) {
    static const char *const policies[] = {"sta-1-1-1", "sta-2-2-2", "sta-3-1-5", "sta-9-3-3", "sta-99-99-99"};
    static const nabla_grid grids[] = {
        {5, 40, 56, 1, 8, 8}, {4, 9, 17, 1, 8, 8}, {7, 10, 6, 2, 3, 4}, {1, 8, 600, 1, 8, 8}};
    (void)state;
    for (size_t g = 0; g < sizeof grids / sizeof grids[0]; g++) {
        nabla_order *order = make_order(grids[g]);
        const nabla_plan_desc desc = describe(1, 2, order);
        nabla_plan *plan;
        ok(nabla_plan_create(ctx, &desc, &plan));
        for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
            const nabla_policy policy = parse(policies[i]);
            nabla_plan_stats stats;
            ok(nabla_plan_build(ctx, plan, &policy, NULL));
            uint8_t *kept = bitmap_of(plan, 2, &stats);
            const int32_t *at = nabla_order_offsets(order);
            double pairs = 0.0;
            int64_t count = 0;
            for (int64_t j = 0; j < 2 * stats.q_blocks * stats.k_blocks; j++) {
                const int64_t q = j / stats.k_blocks % stats.q_blocks, k = j % stats.k_blocks;
                assert_int_equal(kept[j], in_window(grids + g, &policy, q, k));
                pairs += kept[j] ? (double)(at[q + 1] - at[q]) * (at[k + 1] - at[k]) : 0.0;
                count += kept[j];
            }
            assert_int_equal(stats.kept_blocks, count);
            assert_true(fabs(stats.density - pairs / 2.0 / pow((double)stats.q_tokens, 2.0)) < 1e-12);
            assert_true(isnan(stats.kept_mass));
            free(kept);
        }
        nabla_plan_destroy(plan);
        nabla_order_destroy(order);
    }
}

/* ---- the adaptive rule */

static float *noise(size_t n, unsigned seed) {
    float *x = malloc(n * sizeof *x);
    srand(seed);
    for (size_t i = 0; i < n; i++)
        x[i] = 4.0f * ((float)rand() / (float)RAND_MAX - 0.5f) + (float)((i / 1024) % 7) * 0.1f;
    return x;
}

enum { HEADS = 2, DIM = 16 };

/* documents: the first frames of the packed samples, or NULL. */
static void check_adaptive(nabla_grid grid, const char *text, const int32_t *documents, int64_t document_count) {
    nabla_order *order = make_order(grid);
    const nabla_policy policy = parse(text);
    const int64_t tokens = nabla_order_tokens(order), n = nabla_order_blocks(order), shape[] = {1, tokens, HEADS, DIM};
    nabla_plan_desc desc = describe(1, HEADS, order);
    desc.documents = documents;
    desc.document_count = document_count;
    float *q = noise((size_t)(tokens * HEADS * DIM), 1), *k = noise((size_t)(tokens * HEADS * DIM), 2);
    const nabla_tensor tq = nabla_tensor_contiguous(q, NABLA_FP32, 4, shape);
    const nabla_tensor tk = nabla_tensor_contiguous(k, NABLA_FP32, 4, shape);
    nabla_plan_inputs in = nabla_plan_inputs_default();
    in.q = &tq;
    in.k = &tk;
    nabla_plan *plan;
    nabla_plan_stats stats;
    ok(nabla_plan_create(ctx, &desc, &plan));
    ok(nabla_plan_build(ctx, plan, &policy, &in));
    uint8_t *got = bitmap_of(plan, HEADS, &stats), *wanted = malloc((size_t)n);
    double *mq = malloc((size_t)(n * DIM) * 8), *mk = malloc((size_t)(n * DIM) * 8), *probs = malloc((size_t)n * 8);
    const int64_t per_frame = n / ((grid.frames + grid.tile_frames - 1) / grid.tile_frames);
    double mass = 0.0;
    for (int64_t h = 0; h < HEADS; h++) {
        mean_rows(q, nabla_order_offsets(order), n, HEADS, h, DIM, mq);
        mean_rows(k, nabla_order_offsets(order), n, HEADS, h, DIM, mk);
        for (int64_t i = 0; i < n; i++) {
            double sum = 0.0;
            int64_t first = 0, last = n; /* the blocks of the row's document */
            for (int64_t d = 0; d < document_count; d++) {
                const int64_t begin = documents[d] / grid.tile_frames * per_frame;
                first = begin <= i ? begin : first;
                last = begin > i && begin < last ? begin : last;
            }
            for (int64_t j = 0; j < n; j++) {
                double dot = 0.0;
                for (int64_t d = 0; d < DIM; d++)
                    dot += mq[i * DIM + d] * mk[j * DIM + d];
                probs[j] = j >= first && j < last ? exp(dot / 4.0) : 0.0;
                sum += probs[j];
            }
            for (int64_t j = 0; j < n; j++)
                probs[j] /= sum;
            if (policy.has_nabla) {
                const double line = mass_line(probs, n, (double)policy.thr);
                for (int64_t j = 0; j < n; j++)
                    wanted[j] = probs[j] >= line;
            }
            for (int64_t j = 0; j < n; j++) {
                if (policy.has_sta) wanted[j] = wanted[j] || in_window(&grid, &policy, i, j);
                wanted[j] = wanted[j] && j >= first && j < last;
                mass += wanted[j] ? probs[j] : 0.0;
            }
            assert_memory_equal(got + (h * n + i) * n, wanted, (size_t)n);
        }
    }
    assert_true(fabs(stats.kept_mass - mass / (double)(HEADS * n)) < 1e-5);
    free(got);
    free(wanted);
    free(mq);
    free(mk);
    free(probs);
    free(q);
    free(k);
    nabla_plan_destroy(plan);
    nabla_order_destroy(order);
}

static void adaptive_sets_are_top_mass(void **state) {
    (void)state;
    check_adaptive(nabla_grid_default(2, 24, 24), "nabla-0.5", NULL, 0);
    check_adaptive(nabla_grid_default(3, 20, 30), "nabla-0.8", NULL, 0);
    check_adaptive(nabla_grid_default(3, 20, 30), "nabla-1", NULL, 0);
    check_adaptive(nabla_grid_default(3, 20, 30), "nabla-0.3_sta-1-3-3", NULL, 0);
    check_adaptive((nabla_grid){6, 12, 10, 2, 3, 4}, "nabla-0.4_sta-3-3-1", NULL, 0);
}

static void documents_do_not_meet(void **state) {
    static const int32_t three[] = {0, 2, 3}, tiled[] = {0, 4};
    (void)state;
    check_adaptive(nabla_grid_default(5, 20, 24), "nabla-0.5", three, 3);
    check_adaptive(nabla_grid_default(5, 20, 24), "nabla-1", three, 3);
    check_adaptive(nabla_grid_default(5, 20, 24), "nabla-0.2_sta-5-3-3", three, 3);
    check_adaptive((nabla_grid){6, 12, 10, 2, 4, 4}, "nabla-0.6", tiled, 2);
    check_adaptive(nabla_grid_default(5, 20, 24), "nabla-0.5", three, 1);
}

static void means_stand_in_for_tokens(void **state) {
    const int64_t shape[] = {2, 130, 3, 24}, mean_shape[] = {2, 3, 3, 24};
    float *x = noise(2 * 130 * 3 * 24, 3), mean[2 * 3 * 3 * 24];
    const nabla_tensor tokens = nabla_tensor_contiguous(x, NABLA_FP32, 4, shape);
    const nabla_tensor means = nabla_tensor_contiguous(mean, NABLA_FP32, 4, mean_shape);
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_plan_inputs in = nabla_plan_inputs_default();
    const nabla_policy policy = parse("nabla-0.5");
    nabla_plan_stats stats;
    nabla_plan *plan;
    (void)state;
    desc.batch = 2;
    desc.heads = 3;
    desc.q_tokens = desc.k_tokens = 130;
    ok(nabla_plan_create(ctx, &desc, &plan));
    in.q = in.k = &tokens;
    ok(nabla_plan_build(ctx, plan, &policy, &in));
    uint8_t *a = bitmap_of(plan, 6, &stats);
    for (int64_t i = 0; i < 2 * 3 * 3 * 24; i++) {
        const int64_t d = i % 24, block = i / 24 % 3, h = i / 72 % 3, b = i / 216,
                      last = block == 2 ? 130 : block * 64 + 64;
        float sum = 0.0f;
        for (int64_t t = block * 64; t < last; t++)
            sum += x[((b * 130 + t) * 3 + h) * 24 + d];
        mean[i] = sum / (float)(last - block * 64);
    }
    in.q = in.k = NULL;
    in.q_mean = in.k_mean = &means;
    ok(nabla_plan_build(ctx, plan, &policy, &in));
    uint8_t *b = bitmap_of(plan, 6, &stats);
    assert_memory_equal(a, b, 6 * 3 * 3);
    free(a);
    free(b);
    free(x);
    nabla_plan_destroy(plan);
}

static void nonsense_is_defined(void **state) {
    static const float values[] = {NAN, INFINITY, -INFINITY, 3e38f};
    const int64_t shape[] = {1, 300, 1, 16};
    float *x = noise(300 * 16, 5);
    const nabla_tensor t = nabla_tensor_contiguous(x, NABLA_FP32, 4, shape);
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_plan_inputs in = nabla_plan_inputs_default();
    const nabla_policy policy = parse("nabla-0.5");
    nabla_plan *plan;
    (void)state;
    desc.batch = desc.heads = 1;
    desc.q_tokens = desc.k_tokens = 300;
    in.q = in.k = &t;
    ok(nabla_plan_create(ctx, &desc, &plan));
    for (int i = 0; i < 4; i++) {
        nabla_plan_stats stats;
        x[70 * 16 + i] = values[i];
        ok(nabla_plan_build(ctx, plan, &policy, &in));
        uint8_t *kept = bitmap_of(plan, 1, &stats);
        for (int64_t q = 0; q < 5; q++) /* whatever a row is, it keeps something */
            assert_non_null(memchr(kept + q * 5, 1, 5));
        assert_true(isfinite(stats.kept_mass));
        free(kept);
    }
    free(x);
    nabla_plan_destroy(plan);
}

/* The same plan and figures from any number of threads. */
static void threads_change_nothing(void **state) {
    nabla_order *order = make_order(nabla_grid_default(3, 20, 30));
    const int64_t n = nabla_order_blocks(order), tokens = nabla_order_tokens(order), shape[] = {1, tokens, HEADS, DIM};
    const nabla_plan_desc desc = describe(1, HEADS, order);
    const nabla_policy policy = parse("nabla-0.6_sta-1-1-3");
    float *x = noise((size_t)(tokens * HEADS * DIM), 1);
    const nabla_tensor t = nabla_tensor_contiguous(x, NABLA_FP32, 4, shape);
    nabla_plan_inputs in = nabla_plan_inputs_default();
    uint8_t *kept[3];
    nabla_plan_stats stats[3];
    (void)state;
    in.q = in.k = &t;
    for (int32_t i = 0; i < 3; i++) {
        nabla_context_options options = nabla_context_options_default();
        nabla_context *other;
        nabla_plan *plan;
        options.threads = i + 1;
        ok(nabla_context_create(&options, &other, NULL, 0));
        ok(nabla_plan_create(other, &desc, &plan));
        ok(nabla_plan_build(other, plan, &policy, &in));
        kept[i] = bitmap_of(plan, HEADS, stats + i);
        nabla_plan_destroy(plan);
        nabla_context_destroy(other);
        assert_memory_equal(kept[i], kept[0], (size_t)(HEADS * n * n));
        assert_memory_equal(stats + i, stats, sizeof *stats);
    }
    for (int i = 0; i < 3; i++)
        free(kept[i]);
    free(x);
    nabla_order_destroy(order);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_are_windows),   cmocka_unit_test(adaptive_sets_are_top_mass),
        cmocka_unit_test(documents_do_not_meet), cmocka_unit_test(means_stand_in_for_tokens),
        cmocka_unit_test(nonsense_is_defined),   cmocka_unit_test(threads_change_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: windows and documents by brute force, the adaptive part by a sort, lists in and out, memory, refusals. */
#include "check.h"

#include "nabla/nabla.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static nabla_context *ctx;

static int setup(void **state) {
    (void)state;
    return nabla_context_create(NULL, &ctx, NULL, 0) != NABLA_OK;
}

static int teardown(void **state) {
    (void)state;
    nabla_context_destroy(ctx);
    return 0;
}

#define ok(call) assert_int_equal(call, NABLA_OK)

static void refuse(nabla_status got, nabla_status wanted, const char *message) {
    assert_int_equal(got, wanted);
    assert_string_equal(nabla_context_message(ctx), message);
}

static nabla_order *make_order(nabla_grid grid) {
    nabla_order *order;
    ok(nabla_order_create(ctx, &grid, &order));
    return order;
}

static nabla_plan_desc describe(int64_t batch, int64_t heads, const nabla_order *order) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    desc.batch = batch;
    desc.heads = heads;
    desc.q_order = desc.k_order = order;
    return desc;
}

static nabla_policy parse(const char *text) {
    nabla_policy policy;
    ok(nabla_policy_parse(ctx, text, &policy));
    return policy;
}

/* A plan's bitmap, [B, H, nq, nk]. */
static uint8_t *bitmap_of(const nabla_plan *plan, int64_t heads, nabla_plan_stats *stats) {
    *stats = (nabla_plan_stats){.size = sizeof *stats};
    ok(nabla_plan_get_stats(ctx, plan, stats));
    uint8_t *bytes = malloc((size_t)(heads * stats->q_blocks * stats->k_blocks));
    ok(nabla_plan_export_bitmap(ctx, plan, bytes));
    return bytes;
}

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

/* One head's block means and probabilities in fp64, by their definition. x: [B, S, H, D] */
static void mean_rows(const float *x, const int32_t *at, int64_t blocks, int64_t heads, int64_t h, int64_t dim,
                      double *means) {
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t d = 0; d < dim; d++) {
            double sum = 0.0;
            for (int32_t t = at[b]; t < at[b + 1]; t++)
                sum += (double)x[(t * heads + h) * dim + d];
            means[b * dim + d] = sum / (at[b + 1] - at[b]);
        }
}

static int descending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Keeps what is larger than the value that crosses thr when the row is summed from its largest. Returns the kept
   mass. */
static double keep_top(const double *probs, int64_t n, double thr, uint8_t *kept) {
    double *sorted = malloc((size_t)n * sizeof *sorted), sum = 0.0, mass = 0.0, line = 0.0;
    memcpy(sorted, probs, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, descending);
    for (int64_t i = 0; i < n && (i == 0 || sum <= thr); sum += sorted[i++])
        line = sorted[i];
    for (int64_t i = 0; i < n; i++) {
        kept[i] = probs[i] >= line;
        mass += kept[i] ? probs[i] : 0.0;
    }
    free(sorted);
    return mass;
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
            if (policy.has_nabla) keep_top(probs, n, (double)policy.thr, wanted);
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

/* ---- lists and bitmaps */

enum { NQ = 3, NK = 70, ROWS = 2 * 2 * NQ };

static nabla_plan *make_plan(void) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_plan *plan;
    desc.batch = desc.heads = 2;
    desc.q_tokens = NQ * 64 - 5;
    desc.k_tokens = NK * 64 - 63;
    ok(nabla_plan_create(ctx, &desc, &plan));
    return plan;
}

static void lists_come_back(void **state) {
    nabla_plan *plan = make_plan();
    uint8_t bytes[ROWS * NK], again[ROWS * NK];
    int32_t num[ROWS], indices[ROWS * NK], num_again[ROWS], indices_again[ROWS * NK];
    (void)state;
    srand(3);
    for (int i = 0; i < ROWS * NK; i++)
        bytes[i] = (uint8_t)(i / NK != 4 && rand() % 3 == 0);
    ok(nabla_plan_import_bitmap(ctx, plan, bytes));
    ok(nabla_plan_export_bitmap(ctx, plan, again));
    assert_memory_equal(bytes, again, sizeof bytes);
    ok(nabla_plan_export_lists(ctx, plan, num, indices));
    for (int i = 0; i < ROWS; i++) {
        int32_t count = 0;
        for (int32_t k = 0; k < NK; k++)
            if (bytes[i * NK + k]) assert_int_equal(indices[i * NK + count++], k);
        assert_int_equal(num[i], count);
        for (; count < NK; count++)
            assert_int_equal(indices[i * NK + count], -1);
    }
    memcpy(indices_again, indices, sizeof indices);
    for (int i = 0; i < ROWS; i++) { /* any order will do, and what follows is ignored */
        for (int32_t a = 0, b = num[i] - 1; a < b; a++, b--) {
            const int32_t swap = indices_again[i * NK + a];
            indices_again[i * NK + a] = indices_again[i * NK + b];
            indices_again[i * NK + b] = swap;
        }
        if (num[i] < NK) indices_again[i * NK + num[i]] = 12345;
    }
    memset(bytes, 0, sizeof bytes);
    ok(nabla_plan_import_bitmap(ctx, plan, bytes));
    ok(nabla_plan_import_lists(ctx, plan, num, indices_again));
    ok(nabla_plan_export_lists(ctx, plan, num_again, indices_again));
    assert_memory_equal(num, num_again, sizeof num);
    assert_memory_equal(indices, indices_again, sizeof indices);
    nabla_plan_destroy(plan);
}

static void bad_lists_are_named(void **state) {
    nabla_plan *plan = make_plan();
    int32_t num[ROWS] = {0}, indices[ROWS * NK] = {0};
    uint8_t bytes[ROWS * NK] = {0};
    nabla_plan_stats before, after;
    (void)state;
    bytes[5] = 1;
    ok(nabla_plan_import_bitmap(ctx, plan, bytes));
    free(bitmap_of(plan, 4, &before));
    num[7] = 71;
    refuse(nabla_plan_import_lists(ctx, plan, num, indices), NABLA_INVALID_ARGUMENT,
           "num[1, 0, 1] is 71; a query block keeps 0 to 70 key blocks");
    num[7] = -1;
    refuse(nabla_plan_import_lists(ctx, plan, num, indices), NABLA_INVALID_ARGUMENT,
           "num[1, 0, 1] is -1; a query block keeps 0 to 70 key blocks");
    num[7] = 2;
    refuse(nabla_plan_import_lists(ctx, plan, num, indices), NABLA_INVALID_ARGUMENT,
           "indices[1, 0, 1, 1] is 0 for the second time; list each key block once");
    indices[7 * NK + 1] = 70;
    refuse(nabla_plan_import_lists(ctx, plan, num, indices), NABLA_INVALID_ARGUMENT,
           "indices[1, 0, 1, 1] is 70; key blocks are 0 to 69");
    indices[7 * NK + 1] = -1;
    refuse(nabla_plan_import_lists(ctx, plan, num, indices), NABLA_INVALID_ARGUMENT,
           "indices[1, 0, 1, 1] is -1; key blocks are 0 to 69");
    refuse(nabla_plan_import_lists(ctx, plan, num, NULL), NABLA_INVALID_ARGUMENT, "indices is NULL");
    refuse(nabla_plan_import_lists(ctx, plan, NULL, indices), NABLA_INVALID_ARGUMENT, "num is NULL");
    bytes[8] = 2;
    refuse(nabla_plan_import_bitmap(ctx, plan, bytes), NABLA_INVALID_ARGUMENT, "byte 8 of the bitmap is 2; use 0 or 1");
    free(bitmap_of(plan, 4, &after)); /* what was there stays */
    assert_int_equal(before.kept_blocks, after.kept_blocks);
    nabla_plan_destroy(plan);
}

/* ---- sizes and refusals */

static void memory_is_told_before(void **state) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    size_t bytes, without;
    (void)state;
    desc.batch = 1;
    desc.heads = 40;
    desc.q_tokens = desc.k_tokens = 80640;
    ok(nabla_plan_memory(ctx, &desc, &bytes));
    assert_true(bytes >= 40 * 1260 * 20 * 8 * 2 && bytes < 40 * 1260 * 20 * 8 * 2 + 100000);
    desc.backward = 0;
    ok(nabla_plan_memory(ctx, &desc, &without));
    assert_true(without < bytes / 2 + 100000);
    desc.heads = INT64_MAX / 2;
    refuse(nabla_plan_memory(ctx, &desc, &bytes), NABLA_OVERFLOW,
           "a plan of 1 batches x 4611686018427387903 heads x 1260 x 1260 blocks is too large");
    desc.batch = 0;
    refuse(nabla_plan_memory(ctx, &desc, &bytes), NABLA_INVALID_ARGUMENT,
           "a plan of 0 batches and 4611686018427387903 heads; both must be at least 1");
}

static void bad_descriptions_are_named(void **state) {
    static const int32_t late[] = {1, 2}, back[] = {0, 3, 3}, beyond[] = {0, 6}, inside[] = {0, 3};
    nabla_order *order = make_order((nabla_grid){6, 8, 8, 2, 8, 8}), *longer = make_order(nabla_grid_default(7, 8, 8));
    nabla_plan_desc desc = describe(1, 1, order);
    nabla_plan *plan;
    (void)state;
    desc.documents = late;
    desc.document_count = 2;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "the first document begins at frame 1; it must be 0");
    assert_null(plan);
    desc.documents = back;
    desc.document_count = 3;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "document 1 begins at frame 3, inside a tile of 2 frames; begin at a multiple of it");
    desc.documents = beyond;
    desc.document_count = 2;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "document 1 begins at frame 6; it must come after the one before (0) and below 6");
    desc.documents = inside;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "document 1 begins at frame 3, inside a tile of 2 frames; begin at a multiple of it");
    desc.document_count = 7;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "document_count is 7; 6 frames hold 1 to 6 documents");
    desc.k_order = longer;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "documents need grids of equal frames; queries have 6 and keys 7");
    desc.k_order = NULL;
    desc.k_tokens = 5;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "documents need q_order and k_order, to know the frames");
    desc.k_tokens = 0;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "k_tokens is 0; without an order it must be 1 to 2147483647");
    desc.size = 3;
    refuse(nabla_plan_create(ctx, &desc, &plan), NABLA_INVALID_ARGUMENT,
           "nabla_plan_desc.size is 3 and this library's is 80; set it by the type's default function or sizeof");
    refuse(nabla_plan_create(ctx, NULL, &plan), NABLA_INVALID_ARGUMENT, "desc is NULL");
    nabla_order_destroy(order);
    nabla_order_destroy(longer);
}

static void bad_builds_are_named(void **state) {
    const int64_t shape[] = {1, 64, 1, 20}, fine_shape[] = {1, 64, 1, 24}, short_shape[] = {1, 63, 1, 24};
    float x[64 * 24] = {0};
    const nabla_tensor bad = nabla_tensor_contiguous(x, NABLA_FP32, 4, shape);
    const nabla_tensor fine = nabla_tensor_contiguous(x, NABLA_FP32, 4, fine_shape);
    const nabla_tensor less = nabla_tensor_contiguous(x, NABLA_FP32, 4, short_shape);
    nabla_tensor half = fine;
    nabla_order *order = make_order(nabla_grid_default(1, 8, 8)), *wide = make_order(nabla_grid_default(1, 8, 16));
    nabla_plan_inputs in = nabla_plan_inputs_default();
    nabla_policy nabla = parse("nabla-0.5"), sta = parse("sta-1-1-1");
    nabla_plan_desc desc = describe(1, 1, order);
    nabla_plan *plan;
    (void)state;
    ok(nabla_plan_create(ctx, &desc, &plan));
    refuse(nabla_plan_build(ctx, plan, &nabla, NULL), NABLA_INVALID_ARGUMENT,
           "a nabla policy looks at q and k, and inputs is NULL");
    refuse(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_INVALID_ARGUMENT,
           "a nabla policy needs either q and k or q_mean and k_mean in its inputs");
    in.q = in.k = &bad;
    refuse(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_UNSUPPORTED,
           "head dim 20 is not supported; use 16 to 256 in steps of 8");
    in.q = &fine;
    in.k = &less;
    refuse(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_INVALID_ARGUMENT,
           "k has shape [1, 63, 1, 24]; it must be [1, 64, 1, 24]");
    in.k = &fine;
    in.scale = NAN;
    assert_int_equal(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_INVALID_ARGUMENT);
    in.scale = 0.0f;
    half.dtype = NABLA_FP16;
    in.q = in.k = &half;
    refuse(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_UNSUPPORTED, "q is fp16; it must be fp32 or bf16 here");
    nabla.thr = 0.0f;
    refuse(nabla_plan_build(ctx, plan, &nabla, &in), NABLA_INVALID_ARGUMENT,
           "policy thr is 0; it must be above 0 and at most 1");
    refuse(nabla_plan_build(ctx, plan, NULL, &in), NABLA_INVALID_ARGUMENT, "policy is NULL");
    refuse(nabla_plan_build(ctx, NULL, &sta, &in), NABLA_INVALID_ARGUMENT, "plan is NULL");
    nabla_plan_destroy(plan);

    desc.k_order = wide;
    ok(nabla_plan_create(ctx, &desc, &plan));
    refuse(nabla_plan_build(ctx, plan, &sta, NULL), NABLA_INVALID_ARGUMENT,
           "an sta policy needs equal tiles for queries (1x1x1) and keys (1x1x2)");
    nabla_plan_destroy(plan);
    desc.k_order = NULL;
    desc.k_tokens = 64;
    ok(nabla_plan_create(ctx, &desc, &plan));
    refuse(nabla_plan_build(ctx, plan, &sta, NULL), NABLA_INVALID_ARGUMENT,
           "an sta policy needs a plan made with q_order and k_order");
    nabla_plan_destroy(plan);
    nabla_order_destroy(order);
    nabla_order_destroy(wide);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_are_windows),        cmocka_unit_test(adaptive_sets_are_top_mass),
        cmocka_unit_test(documents_do_not_meet),      cmocka_unit_test(means_stand_in_for_tokens),
        cmocka_unit_test(nonsense_is_defined),        cmocka_unit_test(lists_come_back),
        cmocka_unit_test(bad_lists_are_named),        cmocka_unit_test(memory_is_told_before),
        cmocka_unit_test(bad_descriptions_are_named), cmocka_unit_test(bad_builds_are_named),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

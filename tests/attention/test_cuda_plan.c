/* SPDX-License-Identifier: Apache-2.0 */
/* Plans of a GPU against the CPU's: the same but for blocks whose probability lies on the line, and exactly the same
   where no probability is looked at. Lists and bitmaps in and out, from host and GPU memory. */
#include "cuda_fixture.h"
#include "listed_plan.h"
#include "mass.h"

#include <stdbool.h>

/* ---- builds */

typedef struct plan_case {
    nabla_grid grid; /* frames 0: q_tokens and k_tokens */
    int64_t q_tokens, k_tokens, batch, heads, dim;
    const char *policy;
    nabla_dtype dtype;
    int32_t documents[3];
    int64_t document_count;
} plan_case;

#define GRID(f, h, w) .grid = {f, h, w, 1, 8, 8}

static const plan_case plan_cases[] = {
    {GRID(2, 24, 24), .batch = 1, .heads = 2, .dim = 64, .policy = "dense"},
    {GRID(5, 40, 56), .batch = 1, .heads = 2, .dim = 64, .policy = "sta-3-1-5"},
    {GRID(4, 9, 17), .batch = 2, .heads = 1, .dim = 64, .policy = "sta-2-2-2"},
    {.grid = {7, 10, 6, 2, 3, 4}, .batch = 1, .heads = 1, .dim = 64, .policy = "sta-99-99-99"},
    {GRID(5, 20, 24), .batch = 1, .heads = 2, .dim = 16, .policy = "dense", .documents = {0, 2, 3},
     .document_count = 3},
    {GRID(5, 20, 24), .batch = 1, .heads = 2, .dim = 16, .policy = "sta-5-3-3", .documents = {0, 1},
     .document_count = 2},
    {GRID(2, 24, 24), .batch = 1, .heads = 2, .dim = 64, .policy = "nabla-0.5"},
    {GRID(3, 20, 30), .batch = 2, .heads = 3, .dim = 128, .policy = "nabla-0.8", .dtype = NABLA_BF16},
    {GRID(3, 20, 30), .batch = 1, .heads = 2, .dim = 40, .policy = "nabla-1", .dtype = NABLA_FP16},
    {GRID(3, 20, 30), .batch = 1, .heads = 2, .dim = 96, .policy = "nabla-0.3_sta-1-3-3", .dtype = NABLA_BF16},
    {.grid = {6, 12, 10, 2, 3, 4}, .batch = 1, .heads = 2, .dim = 16, .policy = "nabla-0.4_sta-3-3-1"},
    {.grid = {6, 12, 10, 2, 4, 4},
     .batch = 1,
     .heads = 2,
     .dim = 256,
     .policy = "nabla-0.6",
     .documents = {0, 4},
     .document_count = 2},
    {GRID(5, 20, 24), .batch = 2, .heads = 2, .dim = 64, .policy = "nabla-0.2_sta-5-3-3", .documents = {0, 2, 3},
     .document_count = 3, .dtype = NABLA_BF16},
    {.grid = {4, 16, 26, 2, 8, 8}, .batch = 1, .heads = 2, .dim = 64, .policy = "nabla-0.5"}, /* blocks of 128 */
    {.grid = {9, 24, 24, 1, 2, 2}, .batch = 1, .heads = 1, .dim = 32, .policy = "nabla-0.7"}, /* 1296 blocks */
    {.q_tokens = 300, .k_tokens = 1000, .batch = 2, .heads = 3, .dim = 64, .policy = "nabla-0.5", .dtype = NABLA_FP16},
    {.q_tokens = 1, .k_tokens = 5000, .batch = 1, .heads = 2, .dim = 24, .policy = "nabla-0.9"},
    {.q_tokens = 700, .k_tokens = 30, .batch = 1, .heads = 2, .dim = 64, .policy = "dense", .dtype = NABLA_BF16},
};

/* A case on one device: its plan, built. */
typedef struct built {
    nabla_order *order;
    nabla_plan *plan;
    nabla_plan_stats stats;
    uint8_t *kept;
    double *densities;
} built;

/* What is counted without waiting is what the densities say. */
static void check_pairs(nabla_context *ctx, const built *b, int64_t heads) {
    const size_t bytes = (size_t)heads * sizeof(int64_t);
    int64_t *pairs = malloc(bytes);
    void *there;
    ok_on(ctx, nabla_memory_allocate(ctx, bytes, &there));
    ok_on(ctx, nabla_plan_count(ctx, b->plan, there));
    ok_on(ctx, nabla_memory_download(ctx, pairs, there, bytes));
    for (int64_t i = 0; i < heads; i++)
        assert_true((double)pairs[i] == round(b->densities[i] * (double)(b->stats.q_tokens * b->stats.k_tokens)));
    assert_int_equal(nabla_plan_count(ctx, b->plan, NULL), NABLA_INVALID_ARGUMENT);
    nabla_memory_free(ctx, there);
    free(pairs);
}

static built build_on(nabla_context *ctx, const plan_case *c, void *q, void *k, nabla_dtype dtype) {
    built b = {0};
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_plan_inputs in = nabla_plan_inputs_default();
    const nabla_policy policy = parse(c->policy);
    if (c->grid.frames) b.order = order_on(ctx, c->grid);
    desc.batch = c->batch;
    desc.heads = c->heads;
    desc.q_order = desc.k_order = b.order;
    desc.q_tokens = c->q_tokens;
    desc.k_tokens = c->k_tokens;
    desc.documents = c->document_count ? c->documents : NULL;
    desc.document_count = c->document_count;
    const int64_t tokens = nabla_order_tokens(b.order);
    const int64_t q_shape[] = {c->batch, b.order ? tokens : c->q_tokens, c->heads, c->dim};
    const int64_t k_shape[] = {c->batch, b.order ? tokens : c->k_tokens, c->heads, c->dim};
    const nabla_tensor tq = nabla_tensor_contiguous(q, dtype, 4, q_shape);
    const nabla_tensor tk = nabla_tensor_contiguous(k, dtype, 4, k_shape);
    in.q = &tq;
    in.k = &tk;
    ok_on(ctx, nabla_plan_create(ctx, &desc, &b.plan));
    ok_on(ctx, nabla_plan_build(ctx, b.plan, &policy, &in));
    b.kept = bitmap_of(ctx, b.plan, c->batch * c->heads, &b.stats);
    b.densities = malloc((size_t)(c->batch * c->heads) * sizeof *b.densities);
    ok_on(ctx, nabla_plan_densities(ctx, b.plan, b.densities));
    check_pairs(ctx, &b, c->batch * c->heads);
    return b;
}

static void built_destroy(built *b) {
    free(b->kept);
    free(b->densities);
    nabla_plan_destroy(b->plan);
    nabla_order_destroy(b->order);
}

static int32_t *offsets_of(const nabla_order *order, int64_t tokens, int64_t blocks) {
    int32_t *at = malloc(((size_t)blocks + 1) * sizeof *at);
    for (int64_t b = 0; b <= blocks; b++)
        at[b] = order ? nabla_order_offsets(order)[b] : (int32_t)(b < blocks ? b * 64 : tokens);
    return at;
}

/* A row's probabilities; those that its document forbids are 0. dense: the same case's dense bitmap row. */
static void probabilities(const double *mq, const double *mk, int64_t n, int64_t dim, const uint8_t *allowed,
                          double *probs) {
    double sum = 0.0, most = -INFINITY;
    for (int64_t j = 0; j < n; j++) {
        probs[j] = 0.0;
        for (int64_t d = 0; d < dim; d++)
            probs[j] += mq[d] * mk[j * dim + d];
        probs[j] /= sqrt((double)dim);
        if (allowed[j]) most = fmax(most, probs[j]);
    }
    for (int64_t j = 0; j < n; j++) {
        probs[j] = allowed[j] ? exp(probs[j] - most) : 0.0;
        sum += probs[j];
    }
    for (int64_t j = 0; j < n; j++)
        probs[j] /= sum;
}

/* Whether block j's place in the ascending sum begins or ends where rounding may see the line that parts kept from
   dropped. */
static bool touches_line(const double *probs, int64_t n, int64_t j, double line) {
    const double rounding = 4e-6;
    double below = 0.0, through = 0.0;
    for (int64_t i = 0; i < n; i++) {
        below += probs[i] < probs[j] ? probs[i] : 0.0;
        through += probs[i] <= probs[j] ? probs[i] : 0.0;
    }
    return below <= line + rounding && through >= line - rounding;
}

/* Where the two differ, it must be at the line that parts kept from dropped. */
static void compare_rows(const plan_case *c, const float *q, const float *k, const built *a, const built *b,
                         const uint8_t *allowed) {
    const nabla_plan_stats *s = &a->stats;
    const int64_t nq = s->q_blocks, nk = s->k_blocks, dim = c->dim;
    int32_t *q_at = offsets_of(a->order, s->q_tokens, nq), *k_at = offsets_of(a->order, s->k_tokens, nk);
    double *mq = malloc((size_t)(nq * dim) * sizeof *mq), *mk = malloc((size_t)(nk * dim) * sizeof *mk);
    double *probs = malloc((size_t)nk * sizeof *probs);
    int64_t differences = 0;
    for (int64_t bh = 0; bh < c->batch * c->heads; bh++) {
        const int64_t batch = bh / c->heads, h = bh % c->heads, row = c->heads * dim;
        mean_rows(q + batch * s->q_tokens * row, q_at, nq, c->heads, h, dim, mq);
        mean_rows(k + batch * s->k_tokens * row, k_at, nk, c->heads, h, dim, mk);
        for (int64_t i = 0; i < nq; i++) {
            const uint8_t *x = a->kept + (bh * nq + i) * nk, *y = b->kept + (bh * nq + i) * nk;
            if (!memcmp(x, y, (size_t)nk)) continue;
            probabilities(mq + i * dim, mk, nk, dim, allowed + (bh * nq + i) * nk, probs);
            for (int64_t j = 0; j < nk; j++)
                if (x[j] != y[j]) {
                    differences++;
                    assert_true(touches_line(probs, nk, j, 1.0 - (double)parse(c->policy).thr));
                }
        }
    }
    assert_true(differences <= c->batch * c->heads * nq); /* one a row is a tie; more is something else */
    free(q_at);
    free(k_at);
    free(mq);
    free(mk);
    free(probs);
}

static void check_plan(const plan_case *c) {
    plan_case all = *c;
    all.policy = "dense";
    const int64_t tokens = (int64_t)c->grid.frames * c->grid.height * c->grid.width, row = c->heads * c->dim;
    const size_t q_count = (size_t)(c->batch * (tokens ? tokens : c->q_tokens) * row);
    const size_t k_count = (size_t)(c->batch * (tokens ? tokens : c->k_tokens) * row);
    float *q = rounded_noise(q_count, 1, c->dtype), *k = rounded_noise(k_count, 2, c->dtype);
    void *gpu_q = up_as(q, q_count, c->dtype), *gpu_k = up_as(k, k_count, c->dtype);
    built here = build_on(cpu, c, q, k, NABLA_FP32), there = build_on(gpu, c, gpu_q, gpu_k, c->dtype);
    built allowed = build_on(cpu, &all, q, k, NABLA_FP32);
    const nabla_plan_stats *a = &here.stats, *b = &there.stats;
    const bool scored = !strncmp(c->policy, "nabla", 5);
    assert_int_equal(a->q_blocks, b->q_blocks);
    assert_int_equal(a->k_blocks, b->k_blocks);
    if (scored) {
        compare_rows(c, q, k, &here, &there, allowed.kept);
        assert_true(fabs(a->kept_mass - b->kept_mass) < 1e-4);
        assert_true(fabs(a->density - b->density) < 1e-3);
    } else {
        assert_memory_equal(here.kept, there.kept, (size_t)(c->batch * c->heads * a->q_blocks * a->k_blocks));
        assert_int_equal(a->kept_blocks, b->kept_blocks);
        assert_true(fabs(a->density - b->density) < 1e-12);
        assert_true(isnan(a->kept_mass) ? isnan(b->kept_mass) : a->kept_mass == b->kept_mass);
    }
    double mean = 0.0;
    for (int64_t i = 0; i < c->batch * c->heads; i++)
        mean += there.densities[i] / (double)(c->batch * c->heads);
    assert_true(fabs(mean - b->density) < 1e-12);
    built_destroy(&here);
    built_destroy(&there);
    built_destroy(&allowed);
    nabla_memory_free(gpu, gpu_q);
    nabla_memory_free(gpu, gpu_k);
    free(q);
    free(k);
}

static void plans_are_the_cpus(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof plan_cases / sizeof plan_cases[0]; i++) {
        print_message("plan %zu: %s\n", i, plan_cases[i].policy);
        check_plan(plan_cases + i);
    }
}

/* Rows with NaN or infinity keep something, and nothing hangs. */
static void nonsense_is_defined(void **state) {
    static const float values[] = {NAN, INFINITY, -INFINITY, 3e38f};
    const plan_case c = {.q_tokens = 300, .k_tokens = 300, .batch = 1, .heads = 1, .dim = 16, .policy = "nabla-0.5"};
    float *x = rounded_noise(300 * 16, 5, NABLA_FP32);
    (void)state;
    for (int i = 0; i < 4; i++) {
        x[70 * 16 + i] = values[i];
        void *memory = up(x, 300 * 16 * sizeof *x);
        built b = build_on(gpu, &c, memory, memory, NABLA_FP32);
        for (int64_t q = 0; q < 5; q++)
            assert_non_null(memchr(b.kept + q * 5, 1, 5));
        assert_true(isfinite(b.stats.kept_mass));
        built_destroy(&b);
        nabla_memory_free(gpu, memory);
    }
    free(x);
}

static void means_stand_in_for_tokens(void **state) {
    enum { B = 2, S = 130, H = 3, D = 24, N = 3 };
    const plan_case c = {.q_tokens = S, .k_tokens = S, .batch = B, .heads = H, .dim = D, .policy = "nabla-0.5"};
    const int64_t shape[] = {B, H, N, D};
    float *x = rounded_noise(B * S * H * D, 3, NABLA_FP32), mean[B * H * N * D];
    (void)state;
    for (int i = 0; i < B * H * N * D; i++) {
        const int d = i % D, block = i / D % N, h = i / (D * N) % H, b = i / (D * N * H);
        const int last = block == N - 1 ? S : block * 64 + 64;
        double sum = 0.0;
        for (int t = block * 64; t < last; t++)
            sum += (double)x[((b * S + t) * H + h) * D + d];
        mean[i] = (float)(sum / (last - block * 64));
    }
    void *memory = up(x, B * S * H * D * sizeof *x), *means = up(mean, sizeof mean);
    built b = build_on(gpu, &c, memory, memory, NABLA_FP32);
    nabla_tensor t = nabla_tensor_contiguous(means, NABLA_FP32, 4, shape);
    nabla_plan_inputs in = nabla_plan_inputs_default();
    nabla_plan_stats stats;
    const nabla_policy policy = parse("nabla-0.5");
    in.q_mean = in.k_mean = &t;
    ok_on(gpu, nabla_plan_build(gpu, b.plan, &policy, &in));
    uint8_t *kept = bitmap_of(gpu, b.plan, B * H, &stats);
    assert_memory_equal(kept, b.kept, B * H * N * N);
    t.stride[1] *= 2;
    refuse_on(gpu, nabla_plan_build(gpu, b.plan, &policy, &in), NABLA_INVALID_ARGUMENT,
              "q_mean must be contiguous, [B, H, blocks, D]");
    t = nabla_tensor_contiguous((float *)means + 1, NABLA_FP32, 4, shape);
    refuse_on(gpu, nabla_plan_build(gpu, b.plan, &policy, &in), NABLA_INVALID_ARGUMENT,
              "q_mean must begin on a 16-byte boundary");
    free(kept);
    free(x);
    built_destroy(&b);
    nabla_memory_free(gpu, memory);
    nabla_memory_free(gpu, means);
}

/* ---- lists and bitmaps */

static void lists_come_back(void **state) {
    nabla_plan *plan = make_plan(gpu);
    uint8_t bytes[ROWS * NK], again[ROWS * NK];
    int32_t num[ROWS], indices[ROWS * NK], num_again[ROWS], indices_again[ROWS * NK];
    (void)state;
    random_lists(bytes, num, indices);
    ok_on(gpu, nabla_plan_import_bitmap(gpu, plan, bytes)); /* host to host */
    ok_on(gpu, nabla_plan_export_lists(gpu, plan, num_again, indices_again));
    assert_memory_equal(num, num_again, sizeof num);
    assert_memory_equal(indices, indices_again, sizeof indices);

    int32_t *gpu_num = up(num, sizeof num), *gpu_indices = up(indices, sizeof indices);
    uint8_t *gpu_bytes = up(NULL, sizeof bytes);
    memset(again, 0, sizeof again);
    ok_on(gpu, nabla_plan_import_bitmap(gpu, plan, again));
    ok_on(gpu, nabla_plan_import_lists(gpu, plan, gpu_num, gpu_indices)); /* GPU to GPU */
    ok_on(gpu, nabla_plan_export_bitmap(gpu, plan, gpu_bytes));
    ok_on(gpu, nabla_context_synchronize(gpu));
    uint8_t *back = down(gpu_bytes, sizeof bytes);
    assert_memory_equal(back, bytes, sizeof bytes);
    free(back);
    memset(again, 0, sizeof again);
    ok_on(gpu, nabla_plan_import_bitmap(gpu, plan, again));
    ok_on(gpu, nabla_plan_import_bitmap(gpu, plan, gpu_bytes));
    ok_on(gpu, nabla_memory_upload(gpu, gpu_num, again, sizeof num));
    ok_on(gpu, nabla_plan_export_lists(gpu, plan, gpu_num, gpu_indices));
    ok_on(gpu, nabla_context_synchronize(gpu));
    int32_t *num_back = down(gpu_num, sizeof num), *indices_back = down(gpu_indices, sizeof indices);
    assert_memory_equal(num_back, num, sizeof num);
    assert_memory_equal(indices_back, indices, sizeof indices);
    ok_on(gpu, nabla_plan_export_bitmap(gpu, plan, again));
    assert_memory_equal(again, bytes, sizeof bytes);
    free(num_back);
    free(indices_back);
    nabla_memory_free(gpu, gpu_num);
    nabla_memory_free(gpu, gpu_indices);
    nabla_memory_free(gpu, gpu_bytes);
    nabla_plan_destroy(plan);
}

/* The sentence comes at once for host lists, and from the synchronisation for those in GPU memory. */
static void refuse_lists(nabla_plan *plan, const int32_t *num, const int32_t *indices, const char *message) {
    refuse_on(gpu, nabla_plan_import_lists(gpu, plan, num, indices), NABLA_INVALID_ARGUMENT, message);
    int32_t *gpu_num = up(num, ROWS * sizeof *num), *gpu_indices = up(indices, (size_t)ROWS * NK * sizeof *indices);
    ok_on(gpu, nabla_plan_import_lists(gpu, plan, gpu_num, gpu_indices));
    refuse_on(gpu, nabla_context_synchronize(gpu), NABLA_INVALID_ARGUMENT, message);
    ok_on(gpu, nabla_context_synchronize(gpu)); /* told once */
    nabla_memory_free(gpu, gpu_num);
    nabla_memory_free(gpu, gpu_indices);
}

static void bad_lists_are_named(void **state) {
    nabla_plan *plan = make_plan(gpu);
    uint8_t bytes[ROWS * NK];
    int32_t num[ROWS], indices[ROWS * NK];
    (void)state;
    random_lists(bytes, num, indices);
    num[7] = NK + 1;
    refuse_lists(plan, num, indices, "num[1, 0, 1] is 71; a query block keeps 0 to 70 key blocks");
    random_lists(bytes, num, indices);
    indices[5 * NK + 1] = 70;
    refuse_lists(plan, num, indices, "indices[0, 1, 2, 1] is 70; key blocks are 0 to 69");
    random_lists(bytes, num, indices);
    indices[5 * NK + 2] = indices[5 * NK];
    char repeated[120];
    snprintf(repeated, sizeof repeated, "indices[0, 1, 2, 2] is %d for the second time; list each key block once",
             (int)indices[5 * NK]);
    refuse_lists(plan, num, indices, repeated);
    random_lists(bytes, num, indices);
    bytes[3 * NK + 8] = 2;
    refuse_on(gpu, nabla_plan_import_bitmap(gpu, plan, bytes), NABLA_INVALID_ARGUMENT,
              "byte 218 of the bitmap is 2; use 0 or 1");
    uint8_t *gpu_bytes = up(bytes, sizeof bytes);
    for (int i = 0; i < 20; i++) /* more than are watched at a time */
        if (nabla_plan_import_bitmap(gpu, plan, gpu_bytes)) {
            assert_string_equal(nabla_context_message(gpu), "byte 218 of the bitmap is 2; use 0 or 1");
            break;
        }
    refuse_on(gpu, nabla_context_synchronize(gpu), NABLA_INVALID_ARGUMENT, "byte 218 of the bitmap is 2; use 0 or 1");
    while (nabla_context_synchronize(gpu)) /* each import tells once */
        continue;
    int32_t *gpu_num = up(num, sizeof num);
    refuse_on(gpu, nabla_plan_import_lists(gpu, plan, gpu_num, indices), NABLA_INVALID_ARGUMENT,
              "num is in GPU memory and indices in host memory; use one of them");
    nabla_memory_free(gpu, gpu_num);
    nabla_memory_free(gpu, gpu_bytes);
    nabla_plan_destroy(plan);
}

/* Read by the CPU, 8 bits do not get onto the GPU by a plan either. */
static void int8_is_refused(void **state) {
    nabla_plan *plan = make_plan(gpu);
    nabla_policy policy;
    const nabla_policy read = parse("dense_int8");
    const char *const sentence = "int8 attention runs on the CPU alone, this context is a GPU's: leave _int8 out";
    (void)state;
    refuse_on(gpu, nabla_policy_parse(gpu, "dense_int8", &policy), NABLA_UNSUPPORTED, sentence);
    refuse_on(gpu, nabla_plan_build(gpu, plan, &read, NULL), NABLA_UNSUPPORTED, sentence);
    nabla_plan_destroy(plan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_are_the_cpus),        cmocka_unit_test(nonsense_is_defined),
        cmocka_unit_test(means_stand_in_for_tokens), cmocka_unit_test(lists_come_back),
        cmocka_unit_test(bad_lists_are_named),       cmocka_unit_test(int8_is_refused),
    };
    return no_gpu() ? 0 : cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts of a GPU: what they refuse, memory and its limit, orders and merges against the CPU's, CUDA graphs, two
   contexts at once. */
#include "cuda_fixture.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <omp.h>

#define cuda(call) assert_int_equal(call, cudaSuccess)

/* ---- options */

static void refuse_options(nabla_context_options options, nabla_status status, const char *start) {
    nabla_context *ctx;
    char text[512];
    assert_int_equal(nabla_context_create(&options, &ctx, text, sizeof text), status);
    assert_null(ctx);
    assert_memory_equal(text, start, strlen(start));
}

static void options_are_checked(void **state) {
    nabla_context_options options = nabla_context_options_default();
    nabla_device_info info = {.size = sizeof info};
    (void)state;
    ok_on(gpu, nabla_device_describe(NABLA_CUDA, 0, &info, NULL, 0));
    assert_true(info.memory_total >= info.memory_free && info.multiprocessors > 0 && info.capability_major >= 8);
    assert_string_equal(info.level, nabla_context_level(gpu));
    assert_int_equal(nabla_context_device(gpu), NABLA_CUDA);
    options.device = NABLA_CUDA;
    options.ordinal = 99;
    refuse_options(options, NABLA_INVALID_ARGUMENT, "there is no GPU 99; this machine has ");
    options.ordinal = 0;
    options.level = "avx2";
    refuse_options(options, NABLA_UNSUPPORTED, "level 'avx2' is not a level of GPU 0, of compute capability ");
    options.level = "sm80";
    nabla_context *ctx;
    assert_int_equal(nabla_context_create(&options, &ctx, NULL, 0), NABLA_OK);
    assert_string_equal(nabla_context_level(ctx), "sm80");
    nabla_context_destroy(ctx);
}

/* ---- a small problem */

enum { B = 2, H = 3, S = 200, D = 64, N = B * S * H * D, ROWS = B * H * S };

typedef struct problem {
    nabla_plan *plan;
    nabla_tensor q, k, v, o, lse, d_o, d_q, d_k, d_v;
} problem;

enum { TENSORS = 9 };

static nabla_tensor *tensors_at(problem *p, int i) {
    nabla_tensor *const all[TENSORS] = {&p->q, &p->k, &p->v, &p->d_o, &p->o, &p->d_q, &p->d_k, &p->d_v, &p->lse};
    return all[i];
}

static problem problem_create(nabla_context *ctx) {
    const int64_t shape[] = {B, S, H, D}, lse_shape[] = {B, H, S};
    nabla_plan_desc desc = nabla_plan_desc_default();
    problem p = {0};
    for (int i = 0; i < TENSORS; i++) {
        float *x = rounded_noise(N, (unsigned)i + 1, NABLA_BF16);
        const nabla_dtype dtype = i < 5 ? NABLA_BF16 : NABLA_FP32;
        *tensors_at(&p, i) = i == TENSORS - 1 ? nabla_tensor_contiguous(up_as(x, ROWS, dtype), dtype, 3, lse_shape)
                                              : nabla_tensor_contiguous(up_as(x, N, dtype), dtype, 4, shape);
        free(x);
    }
    desc.batch = B;
    desc.heads = H;
    desc.q_tokens = desc.k_tokens = S;
    ok_on(ctx, nabla_plan_create(ctx, &desc, &p.plan));
    return p;
}

static void problem_destroy(problem *p) {
    nabla_plan_destroy(p->plan);
    for (int i = 0; i < TENSORS; i++)
        nabla_memory_free(gpu, tensors_at(p, i)->data);
}

/* Plan, forward, backward: all of it only queued. */
static nabla_status queue_all(nabla_context *ctx, problem *p) {
    const nabla_policy policy = parse("nabla-0.5");
    nabla_plan_inputs in = nabla_plan_inputs_default();
    in.q = &p->q;
    in.k = &p->k;
    nabla_status status = nabla_plan_build(ctx, p->plan, &policy, &in);
    if (!status) status = nabla_attention_forward(ctx, p->plan, NULL, &p->q, &p->k, &p->v, &p->o, &p->lse);
    if (!status)
        status = nabla_attention_backward(ctx, p->plan, NULL, &p->q, &p->k, &p->v, &p->o, &p->lse, &p->d_o, &p->d_q,
                                          &p->d_k, &p->d_v);
    return status;
}

static size_t result_bytes(const problem *p, const nabla_tensor *t) {
    return t == &p->lse ? ROWS * sizeof(float) : N * nabla_dtype_size(t->dtype);
}

/* The results, one after the other, and zeros in their place. */
static char *take_results(problem *p) {
    nabla_tensor *const all[] = {&p->o, &p->lse, &p->d_q, &p->d_k, &p->d_v};
    char *bytes = calloc(5 * N, sizeof(float)), *zeros = calloc(N, sizeof(float)), *at = bytes;
    for (int i = 0; i < 5; at += result_bytes(p, all[i++])) {
        ok_on(gpu, nabla_memory_download(gpu, at, all[i]->data, result_bytes(p, all[i])));
        ok_on(gpu, nabla_memory_upload(gpu, all[i]->data, zeros, result_bytes(p, all[i])));
    }
    free(zeros);
    return bytes;
}

enum { RESULTS = N * 2 + ROWS * 4 + 3 * N * 4 };

/* ---- refusals */

static void host_memory_is_refused(void **state) {
    problem p = problem_create(gpu), bad = p;
    float host[16];
    (void)state;
    ok_on(gpu, queue_all(gpu, &p));
    bad.k.data = host;
    refuse_on(gpu, nabla_attention_forward(gpu, p.plan, NULL, &p.q, &bad.k, &p.v, &p.o, &p.lse), NABLA_INVALID_ARGUMENT,
              "k is in host memory; a CUDA context needs device memory");
    bad.lse.data = host;
    refuse_on(gpu, nabla_attention_forward(gpu, p.plan, NULL, &p.q, &p.k, &p.v, &p.o, &bad.lse), NABLA_INVALID_ARGUMENT,
              "lse is in host memory; a CUDA context needs device memory");
    ok_on(gpu, nabla_context_synchronize(gpu));
    problem_destroy(&p);
}

static void devices_are_not_mixed(void **state) {
    const nabla_grid grid = nabla_grid_default(1, 8, 8);
    const int64_t shape[] = {1, 64, 1, 16};
    float x[64 * 16] = {0}, y[64 * 16];
    const nabla_tensor src = nabla_tensor_contiguous(x, NABLA_FP32, 4, shape);
    const nabla_tensor dst = nabla_tensor_contiguous(y, NABLA_FP32, 4, shape);
    nabla_order *order = order_on(cpu, grid);
    problem p = problem_create(gpu);
    nabla_plan_stats stats = {.size = sizeof stats};
    (void)state;
    refuse_on(cpu, nabla_plan_get_stats(cpu, p.plan, &stats), NABLA_INVALID_ARGUMENT,
              "the plan was made by a context of another device; make one by this");
    refuse_on(gpu, nabla_order_apply(gpu, order, &src, &dst), NABLA_INVALID_ARGUMENT,
              "the order was made by a context of another device; make one by this");
    problem_destroy(&p);
    nabla_order_destroy(order);
}

static void memory_is_limited(void **state) {
    nabla_context_options options = nabla_context_options_default();
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_plan *plans[2];
    nabla_context *ctx;
    size_t bytes, scratch;
    (void)state;
    desc.batch = 1;
    desc.heads = 40;
    desc.q_tokens = desc.k_tokens = 8064;
    ok_on(gpu, nabla_plan_memory(gpu, &desc, &bytes));
    assert_true(bytes >= 40 * 126 * 2 * 8 * 2 && bytes < 40 * 126 * 2 * 8 * 2 + 100000);
    ok_on(gpu, nabla_attention_memory(gpu, &desc, NULL, NABLA_BF16, 128, 1, &scratch));
    assert_true(scratch > 0);
    options.device = NABLA_CUDA;
    options.memory_limit = bytes + bytes / 2;
    ok_on(gpu, nabla_context_create(&options, &ctx, NULL, 0));
    ok_on(ctx, nabla_plan_create(ctx, &desc, plans));
    assert_int_equal(nabla_plan_create(ctx, &desc, plans + 1), NABLA_OUT_OF_MEMORY);
    assert_null(plans[1]);
    assert_non_null(strstr(nabla_context_message(ctx), "memory_limit"));
    assert_int_equal(nabla_context_reserve(ctx, bytes), NABLA_OUT_OF_MEMORY);
    nabla_plan_destroy(plans[0]);
    ok_on(ctx, nabla_plan_create(ctx, &desc, plans));
    nabla_plan_destroy(plans[0]);
    nabla_context_destroy(ctx);
    options.memory_reserve = 2 * bytes;
    assert_int_equal(nabla_context_create(&options, &ctx, NULL, 0), NABLA_OUT_OF_MEMORY);
}

static unsigned long long used_of(cudaMemPool_t pool) {
    unsigned long long used = 0;
    cuda(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used));
    return used;
}

/* Two contexts may share it, and it is there when they are gone. */
static void memory_comes_from_the_callers_pool(void **state) {
    const struct cudaMemPoolProps properties = {.allocType = cudaMemAllocationTypePinned,
                                                .location = {cudaMemLocationTypeDevice, 0}};
    nabla_context_options options = nabla_context_options_default();
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_context *ctx, *other;
    nabla_plan *plan;
    cudaMemPool_t pool;
    size_t bytes;
    (void)state;
    desc.batch = 1;
    desc.heads = 4;
    desc.q_tokens = desc.k_tokens = 8064;
    ok_on(gpu, nabla_plan_memory(gpu, &desc, &bytes));
    cuda(cudaMemPoolCreate(&pool, &properties));
    options.device = NABLA_CUDA;
    options.memory_pool = pool;
    ok_on(gpu, nabla_context_create(&options, &ctx, NULL, 0));
    const unsigned long long before = used_of(pool);
    ok_on(ctx, nabla_plan_create(ctx, &desc, &plan));
    assert_true(used_of(pool) >= before + bytes);
    options.memory_reserve = 1 << 20;
    ok_on(gpu, nabla_context_create(&options, &other, NULL, 0));
    assert_true(used_of(pool) >= before + bytes + options.memory_reserve);
    nabla_context_destroy(other);
    nabla_plan_destroy(plan);
    nabla_context_destroy(ctx);
    cuda(cudaMemPoolTrimTo(pool, 0));
    assert_int_equal(used_of(pool), 0);
    cuda(cudaMemPoolDestroy(pool));
}

static void too_many_heads_are_refused(void **state) {
    nabla_plan_desc desc = nabla_plan_desc_default();
    size_t bytes;
    (void)state;
    desc.batch = 3;
    desc.q_tokens = desc.k_tokens = 64;
    desc.heads = 21845;
    ok_on(gpu, nabla_attention_memory(gpu, &desc, NULL, NABLA_BF16, 64, 1, &bytes));
    desc.heads++;
    refuse_on(
        gpu, nabla_attention_memory(gpu, &desc, NULL, NABLA_BF16, 64, 1, &bytes), NABLA_UNSUPPORTED,
        "3 batches x 21846 heads are 65538; attention on a GPU takes at most 65535, so make plans of fewer batches");
}

/* ---- tokens */

static void orders_are_the_cpus(void **state) {
    static const nabla_grid grids[] = {
        {1, 1, 1, 1, 8, 8}, {2, 16, 24, 1, 8, 8}, {3, 9, 17, 1, 8, 8}, {5, 7, 3, 2, 4, 2}};
    (void)state;
    for (size_t i = 0; i < sizeof grids / sizeof grids[0]; i++)
        for (int64_t width = 1; width <= 72; width += 71) {
            nabla_order *here = order_on(cpu, grids[i]), *there = order_on(gpu, grids[i]);
            const int64_t tokens = nabla_order_tokens(here), shape[] = {2, tokens, 3, width};
            const size_t n = (size_t)(2 * tokens * 3 * width), bytes = n * sizeof(float);
            float *x = noise(n, 1), *y = malloc(bytes);
            void *gpu_x = up(x, bytes), *gpu_y = up(NULL, bytes);
            const nabla_tensor from = nabla_tensor_contiguous(x, NABLA_FP32, 4, shape);
            const nabla_tensor to = nabla_tensor_contiguous(y, NABLA_FP32, 4, shape);
            nabla_tensor gpu_from = from, gpu_to = to;
            gpu_from.data = gpu_x;
            gpu_to.data = gpu_y;
            ok_on(cpu, nabla_order_apply(cpu, here, &from, &to));
            ok_on(gpu, nabla_order_apply(gpu, there, &gpu_from, &gpu_to));
            float *got = down(gpu_y, bytes);
            assert_memory_equal(got, y, bytes);
            free(got);
            ok_on(gpu, nabla_memory_upload(gpu, gpu_x, y, bytes));
            ok_on(gpu, nabla_order_undo(gpu, there, &gpu_to, &gpu_from));
            got = down(gpu_x, bytes);
            assert_memory_equal(got, x, bytes);
            free(got);
            free(x);
            free(y);
            nabla_memory_free(gpu, gpu_x);
            nabla_memory_free(gpu, gpu_y);
            nabla_order_destroy(here);
            nabla_order_destroy(there);
        }
}

static void merges_are_the_cpus(void **state) {
    const int64_t shape[] = {B, S, H, D}, lse_shape[] = {B, H, S};
    float *o_a = noise(N, 1), *o_b = noise(N, 2), *lse_a = noise(ROWS, 3), *lse_b = noise(ROWS, 4);
    (void)state;
    lse_a[0] = lse_b[1] = lse_a[2] = lse_b[2] = -INFINITY; /* one side, the other, neither has anything */
    nabla_tensor t[] = {
        nabla_tensor_contiguous(o_a, NABLA_FP32, 4, shape), nabla_tensor_contiguous(lse_a, NABLA_FP32, 3, lse_shape),
        nabla_tensor_contiguous(o_b, NABLA_FP32, 4, shape), nabla_tensor_contiguous(lse_b, NABLA_FP32, 3, lse_shape)};
    nabla_tensor g[4];
    for (int i = 0; i < 4; i++) {
        g[i] = t[i];
        g[i].data = up(t[i].data, (size_t)(i % 2 ? ROWS : N) * sizeof(float));
    }
    ok_on(cpu, nabla_attention_merge(cpu, t, t + 1, t + 2, t + 3));
    ok_on(gpu, nabla_attention_merge(gpu, g, g + 1, g + 2, g + 3));
    float *o = down(g[0].data, N * sizeof(float)), *lse = down(g[1].data, ROWS * sizeof(float));
    for (int i = 0; i < N; i++)
        assert_true(fabsf(o[i] - o_a[i]) < 1e-5f);
    for (int i = 0; i < ROWS; i++)
        assert_true(lse[i] == lse_a[i] || fabsf(lse[i] - lse_a[i]) < 1e-5f);
    for (int i = 0; i < 4; i++) {
        free(t[i].data);
        nabla_memory_free(gpu, g[i].data);
    }
    free(o);
    free(lse);
}

static float bf16_at(const char *bytes, int i) {
    const uint32_t bits = (uint32_t)((const uint16_t *)bytes)[i] << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Keys and values of head 0 for every head, by a stride of 0: head 0's results are what they were. */
static void heads_may_share_keys(void **state) {
    problem p = problem_create(gpu);
    (void)state;
    ok_on(gpu, queue_all(gpu, &p));
    char *own = down(p.o.data, N * 2);
    p.k.stride[2] = p.v.stride[2] = 0;
    ok_on(gpu, queue_all(gpu, &p));
    char *shared = down(p.o.data, N * 2);
    ok_on(gpu, nabla_context_synchronize(gpu));
    for (int i = 0; i < N; i++)
        if (i / D % H == 0) assert_true(fabsf(bf16_at(own, i) - bf16_at(shared, i)) < 0.03f);
    free(own);
    free(shared);
    problem_destroy(&p);
}

/* ---- graphs and streams */

static void graphs_replay(void **state) {
    nabla_context_options options = nabla_context_options_default();
    nabla_plan_desc desc = nabla_plan_desc_default();
    nabla_context *ctx;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    size_t bytes;
    (void)state;
    desc.batch = B;
    desc.heads = H;
    desc.q_tokens = desc.k_tokens = S;
    cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    options.device = NABLA_CUDA;
    options.stream = stream;
    ok_on(gpu, nabla_context_create(&options, &ctx, NULL, 0));
    problem p = problem_create(ctx);

    cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal)); /* with no scratch yet */
    assert_int_equal(queue_all(ctx, &p), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(nabla_context_message(ctx), "nabla_context_reserve()"));
    assert_int_equal(nabla_context_synchronize(ctx), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(nabla_context_message(ctx), "captured in a graph"));
    cuda(cudaStreamEndCapture(stream, &graph));
    cuda(cudaGraphDestroy(graph));

    ok_on(ctx, nabla_attention_memory(ctx, &desc, NULL, NABLA_BF16, D, 1, &bytes));
    ok_on(ctx, nabla_context_reserve(ctx, bytes));
    assert_int_equal(nabla_context_reserved(ctx), bytes);
    cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    ok_on(ctx, queue_all(ctx, &p));
    assert_int_equal(nabla_context_trim(ctx), NABLA_INVALID_ARGUMENT); /* the graph has it */
    cuda(cudaStreamEndCapture(stream, &graph));
    cuda(cudaGraphInstantiate(&exec, graph, 0));
    ok_on(ctx, queue_all(ctx, &p));
    ok_on(ctx, nabla_context_synchronize(ctx));
    char *direct = take_results(&p);
    for (int i = 0; i < 2; i++) {
        cuda(cudaGraphLaunch(exec, stream));
        ok_on(ctx, nabla_context_synchronize(ctx));
        char *replayed = take_results(&p);
        assert_memory_equal(direct, replayed, RESULTS);
        free(replayed);
    }
    free(direct);
    cuda(cudaGraphExecDestroy(exec));
    cuda(cudaGraphDestroy(graph));
    ok_on(ctx, nabla_context_trim(ctx));
    assert_int_equal(nabla_context_reserved(ctx), 0);
    ok_on(ctx, queue_all(ctx, &p));
    ok_on(ctx, nabla_context_synchronize(ctx));
    problem_destroy(&p);
    nabla_context_destroy(ctx);
    cuda(cudaStreamDestroy(stream));
}

/* An import that is captured and never run has nothing bad in it. */
static void captured_imports_wait(void **state) {
    enum { BLOCKS = (S + 63) / 64, BYTES = B * H * BLOCKS * BLOCKS };
    nabla_context_options options = nabla_context_options_default();
    const uint8_t nothing[BYTES] = {0};
    nabla_context *ctx;
    cudaStream_t stream;
    cudaGraph_t graph;
    (void)state;
    cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    options.device = NABLA_CUDA;
    options.stream = stream;
    ok_on(gpu, nabla_context_create(&options, &ctx, NULL, 0));
    problem p = problem_create(ctx);
    uint8_t *bytes = up(nothing, BYTES);
    cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    ok_on(ctx, nabla_plan_import_bitmap(ctx, p.plan, bytes));
    cuda(cudaStreamEndCapture(stream, &graph));
    ok_on(ctx, nabla_context_synchronize(ctx));
    cuda(cudaGraphDestroy(graph));
    nabla_memory_free(gpu, bytes);
    problem_destroy(&p);
    nabla_context_destroy(ctx);
    cuda(cudaStreamDestroy(stream));
}

static void contexts_are_independent(void **state) {
    nabla_context_options options = nabla_context_options_default();
    nabla_context *contexts[2];
    problem problems[2];
    char *results[2];
    int failures = 0;
    (void)state;
    options.device = NABLA_CUDA;
    for (int i = 0; i < 2; i++) {
        ok_on(gpu, nabla_context_create(&options, contexts + i, NULL, 0));
        problems[i] = problem_create(contexts[i]);
    }
#pragma omp parallel for num_threads(2) reduction(+ : failures)
    for (int i = 0; i < 2; i++) {
        for (int n = 0; n < 20; n++)
            failures += queue_all(contexts[i], problems + i) != NABLA_OK;
        failures += nabla_context_synchronize(contexts[i]) != NABLA_OK;
    }
    assert_int_equal(failures, 0);
    for (int i = 0; i < 2; i++)
        results[i] = take_results(problems + i);
    assert_memory_equal(results[0], results[1], RESULTS);
    for (int i = 0; i < 2; i++) {
        free(results[i]);
        problem_destroy(problems + i);
        nabla_context_destroy(contexts[i]);
    }
}

/* Calls leave the thread's current GPU as it was. */
static void current_device_stays(void **state) {
    const int32_t last = nabla_device_count(NABLA_CUDA) - 1;
    int now;
    (void)state;
    cuda(cudaSetDevice(last));
    problem p = problem_create(gpu);
    ok_on(gpu, queue_all(gpu, &p));
    ok_on(gpu, nabla_context_synchronize(gpu));
    problem_destroy(&p);
    cuda(cudaGetDevice(&now));
    assert_int_equal(now, last);
    cuda(cudaSetDevice(0));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(host_memory_is_refused),
        cmocka_unit_test(devices_are_not_mixed),
        cmocka_unit_test(memory_is_limited),
        cmocka_unit_test(orders_are_the_cpus),
        cmocka_unit_test(merges_are_the_cpus),
        cmocka_unit_test(graphs_replay),
        cmocka_unit_test(contexts_are_independent),
        cmocka_unit_test(current_device_stays),
        cmocka_unit_test(too_many_heads_are_refused),
        cmocka_unit_test(heads_may_share_keys),
        cmocka_unit_test(captured_imports_wait),
        cmocka_unit_test(memory_comes_from_the_callers_pool),
    };
    return no_gpu() ? 0 : cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products by cuBLASLt: factors in bf16 or fp32, sums in fp32 (never TF32). What it is asked is kept with the
   algorithm that was chosen, so that equal shapes always get the same one: results depend on shapes, the card, the
   library and, where a product is large enough for a trial, on that choice, which checkpoints keep. A row-major matrix
   is the transpose of a column-major one, so it is asked for y^T = w x^T. */
#include "device/cuda/products.h"
#include "device/cuda/answers.h"
#include "device/cuda/ops.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ALIGNMENT = 256, BIAS_BYTES = 128 << 10 };

/* ------------------------------------------------------------------------------------------ life */

static nabla_status lt_check(int error, const char *doing, nv_error *err) {
    if (error == 0) return NABLA_OK;
    return nv_fail(err, error == NV_LT_NOT_SUPPORTED ? NABLA_UNSUPPORTED : NABLA_INTERNAL, "cuBLASLt, %s: error %d",
                   doing, error);
}

/* Room for a bias in bf16. */
static nabla_status make_room(nv_cuda *d, size_t bytes, nv_error *err) {
    struct nv_cuda_products *p = d->products;
    void *larger;
    if (bytes <= p->bias_bytes) return NABLA_OK;
    NV_TRY(nv_cuda_take(d, bytes, &larger, err));
    d->moves++;
    nv_cuda_release(&d->base, p->bias); /* once what uses it now is done */
    p->bias = larger;
    p->bias_bytes = bytes;
    return NABLA_OK;
}

nabla_status nv_cuda_products_open(nv_cuda *d, nv_error *err) {
    struct nv_cuda_products *p = calloc(1, sizeof *p);
    const uint64_t most = NV_CUDA_WORKSPACE;
    const uint32_t reductions = NV_LT_REDUCE_NONE | NV_LT_REDUCE_IN_FP32;
    if (!p) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a device");
    d->products = p;
    NV_TRY(nv_cublaslt_open(&p->lt, err));
    NV_TRY(lt_check(p->lt.create(&p->handle), "setting up", err));
    NV_TRY(lt_check(p->lt.preference_create(&p->preference), "setting up", err));
    NV_TRY(lt_check(p->lt.preference_set(p->preference, NV_LT_MOST_WORKSPACE, &most, sizeof most), "setting up", err));
    NV_TRY(lt_check(p->lt.preference_set(p->preference, NV_LT_REDUCTIONS, &reductions, sizeof reductions), "setting up",
                    err));
    const size_t version = p->lt.version(); /* 130100 is 13.1.0; before 11 it was 10000 a major version */
    snprintf(p->name, sizeof p->name, "cuBLASLt %zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
    return make_room(d, BIAS_BYTES, err);
}

void nv_cuda_products_close(nv_cuda *d) {
    struct nv_cuda_products *p = d->products;
    if (!p) return;
    for (int32_t i = 0; i < p->count; i++)
        nv_cuda_answer_close(p, p->answers[i]);
    free(p->answers);
    nv_cuda_trial_close(p);
    if (p->preference) p->lt.preference_destroy(p->preference);
    if (p->handle) p->lt.destroy(p->handle);
    nv_cuda_release(&d->base, p->workspace);
    nv_cuda_release(&d->base, p->bias);
    nv_cublaslt_close(&p->lt);
    free(p);
    d->products = NULL;
}

const char *nv_cuda_products_name(const nv_device *dev, nabla_dtype dtype) {
    (void)dtype;
    return ((const nv_cuda *)(const void *)dev)->products->name;
}

/* ------------------------------------------------------------------------------------------ one product */

/* A factor as stored, row-major; `turned`: its transpose is meant. */
typedef struct factor {
    nv_matrix m;
    int32_t turned;
} factor;

static uint32_t alignment_of(const void *data, int64_t stride, nabla_dtype dtype) {
    const uintptr_t bits = (uintptr_t)data | ((uintptr_t)stride * nabla_dtype_size(dtype)) | MOST_ALIGNMENT;
    return (uint32_t)(bits & (~bits + 1));
}

static int type_of(nabla_dtype dtype) {
    return dtype == NABLA_BF16 ? NV_LT_BF16 : NV_LT_FP32;
}

static nv_cuda_question question_of(factor left, factor right, nv_matrix y, int add, int epilogue) {
    nv_cuda_question q;
    memset(&q, 0, sizeof q);
    q.m = y.cols;
    q.n = y.rows;
    q.k = left.turned ? left.m.rows : left.m.cols;
    q.a_ld = right.m.stride;
    q.b_ld = left.m.stride;
    q.d_ld = y.stride;
    q.a_turned = right.turned;
    q.b_turned = left.turned;
    q.in = type_of(left.m.dtype);
    q.out = type_of(y.dtype);
    q.epilogue = epilogue;
    q.add = add;
    q.alignment[0] = alignment_of(right.m.data, right.m.stride, right.m.dtype);
    q.alignment[1] = alignment_of(left.m.data, left.m.stride, left.m.dtype);
    q.alignment[2] = alignment_of(y.data, y.stride, y.dtype);
    return q;
}

/* A small product gets what is advised first. */
static nabla_status answer_to(nv_cuda *d, const nv_cuda_question *q, const nv_cuda_operands *o, nv_cuda_answer **out,
                              nv_error *err) {
    struct nv_cuda_products *p = d->products;
    nv_lt_heuristic advice[NV_CUDA_ADVISED];
    int count = nv_cuda_worth_trying(q) ? NV_CUDA_ADVISED : 1;
    *out = nv_cuda_answer_find(p, q);
    if (*out) return NABLA_OK;
    NV_TRY(nv_cuda_answer_open(d, q, advice, &count, out, err));
    const nabla_status status = count > 1 ? nv_cuda_try(d, *out, advice, count, o, err) : NABLA_OK;
    if (status == NABLA_OK) return nv_cuda_answer_keep(p, *out, err);
    nv_cuda_answer_close(p, *out);
    return status;
}

/* y (+)= left right, then the epilogue. */
static nabla_status multiply(nv_cuda *d, factor left, factor right, nv_matrix y, int add, int epilogue, nv_error *err) {
    struct nv_cuda_products *p = d->products;
    const nv_cuda_question q = question_of(left, right, y, add, epilogue);
    const nv_cuda_operands o = {right.m.data, left.m.data, y.data};
    nv_cuda_answer *a;
    if (q.m == 0 || q.n == 0) return NABLA_OK;
    if (q.k == 0 && add) return NABLA_OK; /* a sum over nothing; cuBLASLt knows no such matrices */
    if (q.k == 0)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "a product of %lld x 0 and 0 x %lld numbers: give factors that have columns", (long long)q.n,
                       (long long)q.m);
    NV_TRY(answer_to(d, &q, &o, &a, err));
    if (epilogue & NV_LT_EPILOGUE_BIAS)
        NV_TRY(lt_check(p->lt.desc_set(a->desc, NV_LT_BIAS_POINTER, &p->bias, sizeof p->bias), "setting a bias", err));
    const int error = nv_cuda_answer_run(d, a, &a->algo, &o, y.data);
    nv_cuda_count_flop(d, 2.0 * (double)q.m * (double)q.n * (double)q.k);
    return lt_check(error, "multiplying", err);
}

/* The same in its phase. */
static nabla_status timed(nv_cuda *d, factor left, factor right, nv_matrix y, int add, int epilogue, nv_error *err) {
    const nv_phase before = nv_cuda_phase(&d->base, NV_PRODUCTS);
    const nabla_status status = multiply(d, left, right, y, add, epilogue, err);
    nv_cuda_phase(&d->base, before);
    return status;
}

nabla_status nv_cuda_multiply(nv_cuda *d, nv_matrix x, nv_matrix w, nv_matrix y, int add, nv_error *err) {
    return multiply(d, (factor){x, 0}, (factor){w, 1}, y, add, NV_LT_EPILOGUE_PLAIN, err);
}

/* ------------------------------------------------------------------------------------------ linear layers */

/* An epilogue's bias has the type of the output. */
static nabla_status round_bias(nv_cuda *d, const float *bias, int64_t count, nv_error *err) {
    struct nv_cuda_products *p = d->products;
    NV_TRY(make_room(d, (size_t)count * nabla_dtype_size(NABLA_BF16), err));
    return nv_cuda_cast(&d->base, nv_matrix_of(bias, NABLA_FP32, 1, count), nv_matrix_of(p->bias, NABLA_BF16, 1, count),
                        err);
}

/* Into fp32 the bias goes unrounded: it is there before the product is added. */
static nabla_status linear(nv_cuda *d, nv_matrix x, nv_matrix w, const float *bias, nv_matrix y, int gelu,
                           nv_error *err) {
    const factor left = {x, 0}, right = {w, 1};
    int epilogue = gelu ? NV_LT_EPILOGUE_GELU : NV_LT_EPILOGUE_PLAIN, add = 0;
    if (bias && y.dtype == NABLA_BF16) {
        NV_TRY(round_bias(d, bias, y.cols, err));
        epilogue = gelu ? NV_LT_EPILOGUE_GELU | NV_LT_EPILOGUE_BIAS : NV_LT_EPILOGUE_BIAS;
    } else if (bias) {
        NV_TRY(nv_cuda_check(d, nv_cuda_launch_bias(bias, y.data, y.rows, y.cols, y.stride, 0, d->stream),
                             "adding a bias", err));
        add = 1;
    }
    return timed(d, left, right, y, add, epilogue, err);
}

nabla_status nv_cuda_linear(nv_device *dev, nv_matrix x, nv_matrix w, const float *bias, nv_matrix y, nv_error *err) {
    return linear(nv_cuda_of(dev), x, w, bias, y, 0, err);
}

nabla_status nv_cuda_linear_activate(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix w, const float *bias,
                                     nv_matrix y, nv_error *err) {
    if (act == NV_GELU_TANH && y.dtype == NABLA_BF16) return linear(nv_cuda_of(dev), x, w, bias, y, 1, err);
    NV_TRY(linear(nv_cuda_of(dev), x, w, bias, y, 0, err));
    return nv_cuda_activate(dev, act, y, y, err);
}

nabla_status nv_cuda_linear_backward_input(nv_device *dev, nv_matrix d_y, nv_matrix w, nv_matrix d_x, int add,
                                           nv_error *err) {
    return timed(nv_cuda_of(dev), (factor){d_y, 0}, (factor){w, 0}, d_x, add, NV_LT_EPILOGUE_PLAIN, err);
}

nabla_status nv_cuda_linear_backward_weight(nv_device *dev, nv_matrix d_y, nv_matrix x, float *d_w, float *d_bias,
                                            nv_error *err) {
    const nv_matrix sum = nv_matrix_of(d_w, NABLA_FP32, d_y.cols, x.cols);
    NV_TRY(timed(nv_cuda_of(dev), (factor){d_y, 1}, (factor){x, 0}, sum, 1, NV_LT_EPILOGUE_PLAIN, err));
    return d_bias ? nv_cuda_column_sums(dev, d_y, d_bias, err) : NABLA_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products by cuBLASLt: factors in bf16 or fp32, sums in fp32 (never TF32). What it is asked is kept with the
   algorithm that it advised, the first of its list, so that equal shapes always get the same one: results depend on
   shapes, the card and the library, not on time. A row-major matrix is the transpose of a column-major one, so it is
   asked for y^T = w x^T. */
#include "device/cuda/products.h"
#include "device/cuda/cublaslt.h"
#include "device/cuda/ops.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ALIGNMENT = 256 };

/* Column-major D [m, n] = op(A) op(B): what decides over an algorithm. Compared as bytes. */
typedef struct question {
    int64_t m, n, k, a_ld, b_ld, d_ld;
    int32_t a_turned, b_turned; /* op is the transpose */
    int32_t in, out;            /* cuBLASLt's types */
    int32_t epilogue, add;
    uint32_t alignment[3]; /* of A, B, D: bytes */
    uint32_t unused;
} question;

typedef struct answer {
    question q;
    nv_lt_desc desc;
    nv_lt_layout a, b, d;
    nv_lt_heuristic advice;
} answer;

struct nv_cuda_products {
    nv_cublaslt lt;
    nv_lt_handle handle;
    nv_lt_preference preference;
    struct room {
        void *data; /* grows as products ask for it */
        size_t bytes;
    } workspace, bias; /* bias: one, in bf16 */
    answer **answers;
    int32_t count, room, last; /* last: the answer that was used last, where the next search begins */
    char name[64];
};

/* ------------------------------------------------------------------------------------------ life */

static nabla_status lt_check(int error, const char *doing, nv_error *err) {
    if (error == 0) return NABLA_OK;
    return nv_fail(err, error == NV_LT_NOT_SUPPORTED ? NABLA_UNSUPPORTED : NABLA_INTERNAL, "cuBLASLt, %s: error %d",
                   doing, error);
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
    return NABLA_OK;
}

static nabla_status make_room(nv_cuda *d, struct room *room, size_t bytes, nv_error *err) {
    void *larger;
    if (bytes <= room->bytes) return NABLA_OK;
    NV_TRY(nv_cuda_take(d, bytes, &larger, err));
    d->moves++;
    nv_cuda_release(&d->base, room->data); /* once what uses it now is done */
    *room = (struct room){larger, bytes};
    return NABLA_OK;
}

static void forget(struct nv_cuda_products *p, answer *a) {
    if (a->desc) p->lt.desc_destroy(a->desc);
    if (a->a) p->lt.layout_destroy(a->a);
    if (a->b) p->lt.layout_destroy(a->b);
    if (a->d) p->lt.layout_destroy(a->d);
    free(a);
}

void nv_cuda_products_close(nv_cuda *d) {
    struct nv_cuda_products *p = d->products;
    if (!p) return;
    for (int32_t i = 0; i < p->count; i++)
        forget(p, p->answers[i]);
    free(p->answers);
    if (p->preference) p->lt.preference_destroy(p->preference);
    if (p->handle) p->lt.destroy(p->handle);
    nv_cuda_release(&d->base, p->workspace.data);
    nv_cuda_release(&d->base, p->bias.data);
    nv_cublaslt_close(&p->lt);
    free(p);
    d->products = NULL;
}

const char *nv_cuda_products_name(const nv_device *dev, nabla_dtype dtype) {
    (void)dtype;
    return ((const nv_cuda *)(const void *)dev)->products->name;
}

/* ------------------------------------------------------------------------------------------ questions */

static uint32_t alignment_of(const void *data, int64_t stride, nabla_dtype dtype) {
    const uintptr_t bits = (uintptr_t)data | ((uintptr_t)stride * nabla_dtype_size(dtype)) | MOST_ALIGNMENT;
    return (uint32_t)(bits & (~bits + 1));
}

static int type_of(nabla_dtype dtype) {
    return dtype == NABLA_BF16 ? NV_LT_BF16 : NV_LT_FP32;
}

static int describe(struct nv_cuda_products *p, answer *a) {
    const question *q = &a->q;
    const nv_cublaslt *lt = &p->lt;
    const int32_t turned = 1;
    int error = lt->desc_create(&a->desc, NV_LT_COMPUTE_FP32, NV_LT_FP32);
    if (!error && q->a_turned) error = lt->desc_set(a->desc, NV_LT_TRANSPOSE_A, &turned, sizeof turned);
    if (!error && q->b_turned) error = lt->desc_set(a->desc, NV_LT_TRANSPOSE_B, &turned, sizeof turned);
    if (!error) error = lt->desc_set(a->desc, NV_LT_EPILOGUE, &q->epilogue, sizeof q->epilogue);
    if (!error && (q->epilogue & NV_LT_EPILOGUE_BIAS))
        error = lt->desc_set(a->desc, NV_LT_BIAS_POINTER, &p->bias.data, sizeof p->bias.data);
    const int64_t a_rows = q->a_turned ? q->k : q->m, a_cols = q->a_turned ? q->m : q->k,
                  b_rows = q->b_turned ? q->n : q->k, b_cols = q->b_turned ? q->k : q->n;
    if (!error) error = lt->layout_create(&a->a, q->in, (uint64_t)a_rows, (uint64_t)a_cols, q->a_ld);
    if (!error) error = lt->layout_create(&a->b, q->in, (uint64_t)b_rows, (uint64_t)b_cols, q->b_ld);
    if (!error) error = lt->layout_create(&a->d, q->out, (uint64_t)q->m, (uint64_t)q->n, q->d_ld);
    for (int i = 0; i < 4 && !error; i++) {
        const uint32_t *alignment = &q->alignment[i < 2 ? i : 2];
        error = lt->preference_set(p->preference, NV_LT_ALIGNMENT_A + i, alignment, sizeof *alignment);
    }
    return error;
}

static nabla_status ask(struct nv_cuda_products *p, answer *a, nv_error *err) {
    const question *q = &a->q;
    int count = 0, error = describe(p, a);
    if (!error)
        error = p->lt.heuristic(p->handle, a->desc, a->a, a->b, a->d, a->d, p->preference, 1, &a->advice, &count);
    if (!error && count > 0) return NABLA_OK;
    return nv_fail(err, NABLA_UNSUPPORTED,
                   "%s has no way to multiply %s matrices of %lld x %lld and %lld x %lld (rows %lld, %lld and %lld "
                   "apart), error %d",
                   p->name, q->in == NV_LT_BF16 ? "bf16" : "fp32", (long long)q->n, (long long)q->k, (long long)q->k,
                   (long long)q->m, (long long)q->b_ld, (long long)q->a_ld, (long long)q->d_ld, error);
}

static nabla_status add_answer(struct nv_cuda_products *p, const question *q, answer **out, nv_error *err) {
    if (p->count == p->room) {
        const int32_t room = p->room ? 2 * p->room : 64;
        answer **grown = realloc(p->answers, (size_t)room * sizeof *grown);
        if (!grown) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a product");
        p->answers = grown;
        p->room = room;
    }
    answer *a = calloc(1, sizeof *a);
    if (!a) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a product");
    a->q = *q;
    const nabla_status status = ask(p, a, err);
    if (status != NABLA_OK) {
        forget(p, a);
        return status;
    }
    p->last = p->count;
    p->answers[p->count++] = *out = a;
    return NABLA_OK;
}

/* Models go through the same shapes in the same order: the next is mostly the one after the last. */
static nabla_status answer_to(struct nv_cuda_products *p, const question *q, answer **out, nv_error *err) {
    for (int32_t i = 0; i < p->count; i++) {
        const int32_t at = (p->last + i) % p->count;
        if (memcmp(&p->answers[at]->q, q, sizeof *q) != 0) continue;
        p->last = at;
        *out = p->answers[at];
        return NABLA_OK;
    }
    return add_answer(p, q, out, err);
}

/* ------------------------------------------------------------------------------------------ one product */

/* A factor as stored, row-major; `turned`: its transpose is meant. */
typedef struct factor {
    nv_matrix m;
    int32_t turned;
} factor;

/* y (+)= left right, then the epilogue. */
static nabla_status multiply(nv_cuda *d, factor left, factor right, nv_matrix y, int add, int epilogue, nv_error *err) {
    struct nv_cuda_products *p = d->products;
    const float one = 1.0f, beta = add ? 1.0f : 0.0f;
    question q;
    answer *a;
    memset(&q, 0, sizeof q);
    q.m = y.cols;
    q.n = y.rows;
    q.k = left.turned ? left.m.rows : left.m.cols;
    if (q.m == 0 || q.n == 0) return NABLA_OK;
    if (q.k == 0 && add) return NABLA_OK; /* a sum over nothing; cuBLASLt knows no such matrices */
    if (q.k == 0)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "a product of %lld x 0 and 0 x %lld numbers: give factors that have columns", (long long)q.n,
                       (long long)q.m);
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
    NV_TRY(answer_to(p, &q, &a, err));
    if (epilogue & NV_LT_EPILOGUE_BIAS)
        NV_TRY(lt_check(p->lt.desc_set(a->desc, NV_LT_BIAS_POINTER, &p->bias.data, sizeof p->bias.data),
                        "setting a bias", err));
    NV_TRY(make_room(d, &p->workspace, a->advice.workspace, err));
    const int error = p->lt.matmul(p->handle, a->desc, &one, right.m.data, a->a, left.m.data, a->b, &beta, y.data, a->d,
                                   y.data, a->d, &a->advice.algo, p->workspace.data, p->workspace.bytes, d->stream);
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
    NV_TRY(make_room(d, &p->bias, (size_t)count * nabla_dtype_size(NABLA_BF16), err));
    return nv_cuda_cast(&d->base, nv_matrix_of(bias, NABLA_FP32, 1, count),
                        nv_matrix_of(p->bias.data, NABLA_BF16, 1, count), err);
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

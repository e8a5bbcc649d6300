/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cuda/answers.h"
#include <stdlib.h>
#include <string.h>

/* Models go through the same shapes in the same order: the next is mostly the one after the last. */
nv_cuda_answer *nv_cuda_answer_find(struct nv_cuda_products *p, const nv_cuda_question *q) {
    for (int32_t i = 0; i < p->count; i++) {
        const int32_t at = (p->last + i) % p->count;
        if (memcmp(&p->answers[at]->q, q, sizeof *q) != 0) continue;
        p->last = at;
        return p->answers[at];
    }
    return NULL;
}

static int describe(struct nv_cuda_products *p, nv_cuda_answer *a) {
    const nv_cuda_question *q = &a->q;
    const nv_cublaslt *lt = &p->lt;
    const int32_t turned = 1;
    int error = lt->desc_create(&a->desc, NV_LT_COMPUTE_FP32, NV_LT_FP32);
    if (!error && q->a_turned) error = lt->desc_set(a->desc, NV_LT_TRANSPOSE_A, &turned, sizeof turned);
    if (!error && q->b_turned) error = lt->desc_set(a->desc, NV_LT_TRANSPOSE_B, &turned, sizeof turned);
    if (!error) error = lt->desc_set(a->desc, NV_LT_EPILOGUE, &q->epilogue, sizeof q->epilogue);
    if (!error && (q->epilogue & NV_LT_EPILOGUE_BIAS))
        error = lt->desc_set(a->desc, NV_LT_BIAS_POINTER, &p->bias, sizeof p->bias);
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

/* Whole where any of these algorithms wants a part of it. */
static nabla_status make_workspace(nv_cuda *d, const nv_lt_heuristic *advice, int count, nv_error *err) {
    struct nv_cuda_products *p = d->products;
    for (int i = 0; i < count && !p->workspace; i++)
        if (advice[i].workspace > 0) NV_TRY(nv_cuda_take(d, NV_CUDA_WORKSPACE, &p->workspace, err));
    return NABLA_OK;
}

/* Those that will not run stay out of the list. */
static int ask(struct nv_cuda_products *p, nv_cuda_answer *a, nv_lt_heuristic *advice, int *count) {
    int given = 0, kept = 0, error = describe(p, a);
    if (!error) {
        memset(advice, 0, (size_t)*count * sizeof *advice);
        error = p->lt.heuristic(p->handle, a->desc, a->a, a->b, a->d, a->d, p->preference, *count, advice, &given);
    }
    for (int i = 0; i < given && !error; i++)
        if (advice[i].state == 0 && advice[i].workspace <= NV_CUDA_WORKSPACE) advice[kept++] = advice[i];
    *count = kept;
    return error;
}

nabla_status nv_cuda_answer_open(nv_cuda *d, const nv_cuda_question *q, nv_lt_heuristic *advice, int *count,
                                 nv_cuda_answer **out, nv_error *err) {
    struct nv_cuda_products *p = d->products;
    nv_cuda_answer *a = calloc(1, sizeof *a);
    *out = NULL;
    if (!a) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a product");
    a->q = *q;
    const int error = ask(p, a, advice, count);
    const nabla_status status = error ? NABLA_OK : make_workspace(d, advice, *count, err);
    if (!error && !status && *count > 0) {
        nv_cuda_answer_take(a, advice, 0);
        *out = a;
        return NABLA_OK;
    }
    nv_cuda_answer_close(p, a);
    if (status) return status;
    return nv_fail(err, NABLA_UNSUPPORTED,
                   "%s has no way to multiply %s matrices of %lld x %lld and %lld x %lld (rows %lld, %lld and %lld "
                   "apart), error %d",
                   p->name, q->in == NV_LT_BF16 ? "bf16" : "fp32", (long long)q->n, (long long)q->k, (long long)q->k,
                   (long long)q->m, (long long)q->b_ld, (long long)q->a_ld, (long long)q->d_ld, error);
}

void nv_cuda_answer_take(nv_cuda_answer *a, const nv_lt_heuristic *advice, int32_t place) {
    a->algo = advice[place].algo;
    a->place = place;
}

nabla_status nv_cuda_answer_keep(struct nv_cuda_products *p, nv_cuda_answer *a, nv_error *err) {
    if (p->count == p->room) {
        const int32_t room = p->room ? 2 * p->room : 64;
        nv_cuda_answer **grown = realloc(p->answers, (size_t)room * sizeof *grown);
        if (!grown) {
            nv_cuda_answer_close(p, a);
            return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a product");
        }
        p->answers = grown;
        p->room = room;
    }
    p->last = p->count;
    p->answers[p->count++] = a;
    return NABLA_OK;
}

void nv_cuda_answer_close(struct nv_cuda_products *p, nv_cuda_answer *a) {
    if (a->desc) p->lt.desc_destroy(a->desc);
    if (a->a) p->lt.layout_destroy(a->a);
    if (a->b) p->lt.layout_destroy(a->b);
    if (a->d) p->lt.layout_destroy(a->d);
    free(a);
}

int nv_cuda_answer_run(nv_cuda *d, const nv_cuda_answer *a, const nv_lt_algo *algo, const nv_cuda_operands *o,
                       const void *c) {
    const struct nv_cuda_products *p = d->products;
    const float one = 1.0f, beta = a->q.add ? 1.0f : 0.0f;
    return p->lt.matmul(p->handle, a->desc, &one, o->a, a->a, o->b, a->b, &beta, c, a->d, o->d, a->d, algo,
                        p->workspace, p->workspace ? NV_CUDA_WORKSPACE : 0, d->stream);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Included twice by naive.c, with REAL (the type of every sum), EXP, LOG, OPERAND(x) (what a computed operand of a
   product becomes), STORE(x, dtype) (what a result becomes) and NAME. One query row at a time. */

static int64_t NAME(row_offset)(const naive_problem *p, int64_t tokens, int64_t b, int64_t h, int64_t t) {
    return ((b * tokens + t) * p->heads + h) * p->head_dim;
}

static REAL NAME(dot)(const naive_problem *p, const float *a, const float *b) {
    REAL sum = 0;
    for (int64_t d = 0; d < p->head_dim; d++)
        sum += (REAL)a[d] * (REAL)b[d];
    return sum;
}

static bool NAME(sees)(const naive_problem *p, int64_t b, int64_t h, int64_t i, int64_t j) {
    return p->kept[((b * p->heads + h) * p->nq + p->q_block[i]) * p->nk + p->k_block[j]];
}

/* probs[j] of row i, 0 where it does not see j; returns LSE. */
static REAL NAME(softmax)(const naive_problem *p, int64_t b, int64_t h, int64_t i, REAL *probs) {
    const float *q = p->q + NAME(row_offset)(p, p->q_tokens, b, h, i);
    REAL max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < p->k_tokens; j++) {
        probs[j] = 0;
        if (!NAME(sees)(p, b, h, i, j)) continue;
        probs[j] = NAME(dot)(p, q, p->k + NAME(row_offset)(p, p->k_tokens, b, h, j)) * (REAL)p->scale;
        if (probs[j] > max) max = probs[j];
    }
    for (int64_t j = 0; j < p->k_tokens; j++)
        if (NAME(sees)(p, b, h, i, j)) {
            probs[j] = EXP(probs[j] - max);
            sum += probs[j];
        }
    for (int64_t j = 0; j < p->k_tokens; j++)
        if (NAME(sees)(p, b, h, i, j)) probs[j] /= sum;
    return sum == 0 ? (REAL)-INFINITY : max + LOG(sum);
}

static void NAME(row)(const naive_problem *p, int64_t b, int64_t h, int64_t i, REAL *probs, REAL *dq, REAL *dk,
                      REAL *dv, naive_result *r) {
    const int64_t n = p->head_dim, at = NAME(row_offset)(p, p->q_tokens, b, h, i);
    REAL o[256] = {0}, delta = 0;
    r->lse[(b * p->heads + h) * p->q_tokens + i] = (double)NAME(softmax)(p, b, h, i, probs);
    for (int64_t j = 0; j < p->k_tokens; j++)
        if (NAME(sees)(p, b, h, i, j))
            for (int64_t d = 0; d < n; d++)
                o[d] += OPERAND(probs[j]) * (REAL)p->v[NAME(row_offset)(p, p->k_tokens, b, h, j) + d];
    for (int64_t d = 0; d < n; d++) {
        const REAL before = p->beta != 0.0f ? (REAL)p->beta * (REAL)p->o_before[at + d] : 0;
        r->o[at + d] = (double)STORE(before + (REAL)p->alpha * o[d], p->o_dtype);
        delta += (REAL)p->alpha * (REAL)p->d_o[at + d] * STORE(o[d], p->o_dtype);
    }
    for (int64_t j = 0; j < p->k_tokens; j++) {
        if (!NAME(sees)(p, b, h, i, j)) continue;
        const int64_t key = NAME(row_offset)(p, p->k_tokens, b, h, j);
        const REAL dp = (REAL)p->alpha * NAME(dot)(p, p->d_o + at, p->v + key);
        const REAL ds = OPERAND(probs[j] * (dp - delta));
        for (int64_t d = 0; d < n; d++) {
            dq[at + d] += (REAL)p->scale * ds * (REAL)p->k[key + d];
            dk[key + d] += (REAL)p->scale * ds * (REAL)p->q[at + d];
            dv[key + d] += (REAL)p->alpha * OPERAND(probs[j]) * (REAL)p->d_o[at + d];
        }
    }
}

void NAME(naive)(const naive_problem *p, naive_result *r) {
    const int64_t q_count = p->batch * p->q_tokens * p->heads * p->head_dim;
    const int64_t k_count = p->batch * p->k_tokens * p->heads * p->head_dim;
    REAL *probs = calloc((size_t)p->k_tokens, sizeof *probs);
    REAL *dq = calloc((size_t)q_count, sizeof *dq), *dk = calloc((size_t)k_count, sizeof *dk);
    REAL *dv = calloc((size_t)k_count, sizeof *dv);
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t h = 0; h < p->heads; h++)
            for (int64_t i = 0; i < p->q_tokens; i++)
                NAME(row)(p, b, h, i, probs, dq, dk, dv, r);
    for (int64_t i = 0; i < q_count; i++)
        r->dq[i] = (double)STORE(dq[i], p->grad_dtype);
    for (int64_t i = 0; i < k_count; i++) {
        r->dk[i] = (double)STORE(dk[i], p->grad_dtype);
        r->dv[i] = (double)STORE(dv[i], p->grad_dtype);
    }
    free(probs);
    free(dq);
    free(dk);
    free(dv);
}

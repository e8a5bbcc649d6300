/* SPDX-License-Identifier: Apache-2.0 */
/* Choices of algorithms as text, a line each: the numbers of the question, the place of the algorithm in the list of
   advice, and what it is. A line that is read back is only compared with what cuBLASLt advises here and now: nothing of
   it reaches the library but sizes that were checked. */
#include "device/cuda/answers.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIZES = 6,                             /* m, n, k and the distances between rows */
    QUESTION = SIZES + 9,                  /* then turned twice, types twice, epilogue, add, alignments */
    NUMBERS = QUESTION + 1 + NV_LT_CONFIG, /* then place and configuration */
    LINE = 21 * NUMBERS + 2,
    MOST_LINES = 1 << 12 /* far more than models have shapes */
};

/* What an algorithm is; 0 where the library's version does not tell. */
static void config_of(const struct nv_cuda_products *p, const nv_lt_algo *algo, int64_t *out) {
    for (int i = 0; i < NV_LT_CONFIG; i++) {
        uint32_t wide = 0;
        uint16_t narrow = 0;
        size_t written = 0;
        if (i < NV_LT_CONFIG - 2)
            p->lt.config_get(algo, i, &wide, sizeof wide, &written);
        else
            p->lt.config_get(algo, i, &narrow, sizeof narrow, &written);
        out[i] = (int64_t)wide + narrow;
    }
}

/* ------------------------------------------------------------------------------------------ out */

static void numbers_of(const struct nv_cuda_products *p, const nv_cuda_answer *a, int64_t out[NUMBERS]) {
    const nv_cuda_question *q = &a->q;
    const int64_t numbers[QUESTION] = {
        q->m,  q->n,   q->k,        q->a_ld, q->b_ld,         q->d_ld,         q->a_turned,    q->b_turned,
        q->in, q->out, q->epilogue, q->add,  q->alignment[0], q->alignment[1], q->alignment[2]};
    memcpy(out, numbers, sizeof numbers);
    out[QUESTION] = a->place;
    config_of(p, &a->algo, out + QUESTION + 1);
}

nabla_status nv_cuda_choices(nv_device *dev, char **out, nv_error *err) {
    const struct nv_cuda_products *p = nv_cuda_of(dev)->products;
    const size_t size = (size_t)p->count * LINE + 1;
    size_t n = 0;
    *out = calloc(1, size);
    if (!*out) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a text of %zu bytes", size);
    for (int32_t i = 0; i < p->count && i < MOST_LINES; i++) {
        int64_t numbers[NUMBERS];
        if (!p->answers[i]->tried) continue;
        numbers_of(p, p->answers[i], numbers);
        for (int k = 0; k < NUMBERS; k++)
            n += (size_t)snprintf(*out + n, size - n, "%lld%c", (long long)numbers[k], k + 1 < NUMBERS ? ' ' : '\n');
    }
    return NABLA_OK;
}

/* ------------------------------------------------------------------------------------------ in */

/* Numbers from 0 on, a blank between them, up to the line's end. */
static int read_line(const char **text, int64_t out[NUMBERS]) {
    for (int k = 0; k < NUMBERS; k++) {
        char *end;
        if (!isdigit((unsigned char)**text)) return 0;
        errno = 0;
        out[k] = strtoll(*text, &end, 10);
        if (errno || *end != (k + 1 < NUMBERS ? ' ' : '\n')) return 0;
        *text = end + 1;
    }
    return 1;
}

static int is_alignment(int64_t bytes) {
    return bytes >= 1 && bytes <= 256 && (bytes & (bytes - 1)) == 0;
}

static int is_type(int64_t type) {
    return type == NV_LT_FP32 || type == NV_LT_BF16;
}

static int is_epilogue(int64_t e) {
    return e == NV_LT_EPILOGUE_PLAIN || e == NV_LT_EPILOGUE_BIAS || e == NV_LT_EPILOGUE_GELU ||
           e == (NV_LT_EPILOGUE_GELU | NV_LT_EPILOGUE_BIAS);
}

/* Whether the numbers are a question that products could have asked. */
static int read_question(const int64_t *v, nv_cuda_question *q) {
    for (int i = 0; i < SIZES; i++)
        if (v[i] < 1 || v[i] > INT32_MAX) return 0;
    for (int i = QUESTION - 3; i < QUESTION; i++)
        if (!is_alignment(v[i])) return 0;
    if (v[6] > 1 || v[7] > 1 || !is_type(v[8]) || !is_type(v[9]) || !is_epilogue(v[10]) || v[11] > 1) return 0;
    memset(q, 0, sizeof *q);
    q->m = v[0], q->n = v[1], q->k = v[2];
    q->a_ld = v[3], q->b_ld = v[4], q->d_ld = v[5];
    q->a_turned = (int32_t)v[6], q->b_turned = (int32_t)v[7];
    q->in = (int32_t)v[8], q->out = (int32_t)v[9];
    q->epilogue = (int32_t)v[10], q->add = (int32_t)v[11];
    for (int i = 0; i < 3; i++)
        q->alignment[i] = (uint32_t)v[QUESTION - 3 + i];
    return nv_cuda_worth_trying(q);
}

/* The algorithm of that place and configuration among those that are advised, or NULL. */
static const nv_lt_heuristic *find(const struct nv_cuda_products *p, const nv_lt_heuristic *advice, int count,
                                   const int64_t *wanted) {
    int64_t config[NV_LT_CONFIG];
    if (wanted[0] >= count) return NULL;
    config_of(p, &advice[wanted[0]].algo, config);
    return memcmp(config, wanted + 1, sizeof config) == 0 ? &advice[wanted[0]] : NULL;
}

static nabla_status take_line(nv_cuda *d, const int64_t *numbers, int32_t *lost, nv_error *err) {
    struct nv_cuda_products *p = d->products;
    nv_lt_heuristic advice[NV_CUDA_ADVISED];
    int count = NV_CUDA_ADVISED;
    nv_cuda_question q;
    nv_cuda_answer *a;
    if (!read_question(numbers, &q)) return nv_fail(err, NABLA_CORRUPT, "a choice of no product's algorithm");
    if (nv_cuda_answer_find(p, &q)) return NABLA_OK; /* met already, or told twice */
    const nabla_status status = nv_cuda_answer_open(d, &q, advice, &count, &a, err);
    if (status == NABLA_OUT_OF_MEMORY) return status;
    const nv_lt_heuristic *found = status ? NULL : find(p, advice, count, numbers + QUESTION);
    if (!found) {
        (*lost)++;
        if (!status) nv_cuda_answer_close(p, a);
        return NABLA_OK;
    }
    nv_cuda_answer_take(a, advice, (int32_t)(found - advice));
    a->tried = 1;
    return nv_cuda_answer_keep(p, a, err);
}

nabla_status nv_cuda_choose(nv_device *dev, const char *text, int32_t *lost, nv_error *err) {
    int64_t numbers[NUMBERS];
    *lost = 0;
    for (int32_t line = 1; *text; line++) {
        if (line > MOST_LINES || !read_line(&text, numbers))
            return nv_fail(err, NABLA_CORRUPT, "line %d of the choices of algorithms is malformed", line);
        NV_TRY(take_line(nv_cuda_of(dev), numbers, lost, err));
    }
    return NABLA_OK;
}

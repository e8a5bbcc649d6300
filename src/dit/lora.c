/* SPDX-License-Identifier: Apache-2.0 */
#include "dit/lora.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dit/model.h"
#include "dit/name_list.h"

typedef enum part { UP, DOWN, ALPHA, DIFF, DIFF_BIAS, PARTS } part;

static const struct {
    const char *end;
    part part;
} endings[] = {
    {".lora_B.weight", UP},
    {".lora_A.weight", DOWN},
    {".lora_B.default.weight", UP},
    {".lora_A.default.weight", DOWN},
    {".lora_up.weight", UP},
    {".lora_down.weight", DOWN},
    {".alpha", ALPHA},
    {".diff", DIFF},
    {".diff_b", DIFF_BIAS},
};

/* What a file says of one weight. */
typedef struct change {
    const nv_st_entry *parts[PARTS];
} change;

typedef struct merger {
    nv_dit *m;
    const nv_weights *file;
    float strength;
    change *changes; /* [parameters]: of weights; a bias' change is kept with its weight */
    nv_error *err;
} merger;

/* ------------------------------------------------------------------ names */

/* The ending of a name, or -1; *length: what stands in front of it. */
static int ending_of(const char *name, size_t *length) {
    const size_t whole = strlen(name);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const size_t end = strlen(endings[i].end);
        if (whole <= end || strcmp(name + whole - end, endings[i].end) != 0) continue;
        *length = whole - end;
        return (int)i;
    }
    return -1;
}

/* Whether `flat` is `name` up to ".weight" with '_' for every full stop. */
static int same_flat(const char *flat, const char *name) {
    const char *end = strstr(name, ".weight");
    const size_t length = end ? (size_t)(end - name) : 0;
    if (length == 0 || strlen(flat) != length) return 0;
    for (size_t i = 0; i < length; i++)
        if (flat[i] != (name[i] == '.' ? '_' : name[i])) return 0;
    return 1;
}

static nv_parameter *find_flat(nv_dit *m, const char *flat) {
    char original[NV_DIT_NAME_SIZE];
    for (size_t i = 0; i < m->count; i++) {
        nv_parameter *p = &m->parameters[i];
        if (same_flat(flat, p->name)) return p;
        if (nv_dit_translate(NV_DIT_DIFFUSERS, p->name, NV_DIT_ORIGINAL, original) && same_flat(flat, original))
            return p;
    }
    return NULL;
}

/* The weight of the layer `name`, in either layout and under any of the prefixes. */
static nv_parameter *find_weight(nv_dit *m, const char *name) {
    static const char *const prefixes[] = {"model.diffusion_model.", "base_model.model.", "diffusion_model.",
                                           "transformer.", ""};
    static const char flat[] = "lora_unet_";
    if (strncmp(name, flat, sizeof flat - 1) == 0) return find_flat(m, name + sizeof flat - 1);
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        const size_t skip = strlen(prefixes[i]);
        char weight[2 * NV_DIT_NAME_SIZE], own[NV_DIT_NAME_SIZE];
        if (strncmp(name, prefixes[i], skip) != 0) continue;
        if (snprintf(weight, sizeof weight, "%s.weight", name + skip) >= (int)sizeof weight) continue;
        for (int layout = NV_DIT_DIFFUSERS; layout <= NV_DIT_ORIGINAL; layout++)
            if (nv_dit_translate((nv_dit_layout)layout, weight, NV_DIT_DIFFUSERS, own)) return nv_dit_find(m, -1, own);
    }
    return NULL;
}

static nv_parameter *bias_of(nv_dit *m, const nv_parameter *weight) {
    char name[NV_DIT_NAME_SIZE];
    const size_t length = strlen(weight->name) - strlen("weight");
    snprintf(name, sizeof name, "%.*sbias", (int)length, weight->name);
    return nv_dit_find(m, -1, name);
}

/* Places one tensor; 0 if it has no place. */
static int place(merger *g, const nv_st_entry *e, nabla_status *status) {
    char name[2 * NV_DIT_NAME_SIZE];
    size_t length = 0;
    const int ending = ending_of(e->name, &length);
    if (ending < 0 || length >= sizeof name) return 0;
    memcpy(name, e->name, length);
    name[length] = '\0';
    const nv_parameter *weight = find_weight(g->m, name);
    if (!weight) return 0;
    if (endings[ending].part == DIFF_BIAS && !bias_of(g->m, weight)) return 0;
    const nv_st_entry **slot = &g->changes[weight - g->m->parameters].parts[endings[ending].part];
    if (*slot)
        *status = nv_fail(g->err, NABLA_CORRUPT, "%s changes %s twice: \"%s\" and \"%s\"", nv_weights_path(g->file),
                          weight->name, (*slot)->name, e->name);
    *slot = e;
    return 1;
}

static nabla_status place_all(merger *g) {
    nv_name_list strays = {0};
    nabla_status status = NABLA_OK;
    char more[32];
    for (size_t i = 0; i < nv_weights_count(g->file) && status == NABLA_OK; i++) {
        const nv_st_entry *e = nv_weights_at(g->file, i);
        if (!place(g, e, &status)) nv_name_list_add(&strays, e->name);
    }
    if (status != NABLA_OK || strays.count == 0) return status;
    return nv_fail(g->err, NABLA_CORRUPT, "%s: %s%s match nothing in this model: is it a LoRA of Wan2.1 text-to-video?",
                   nv_weights_path(g->file), strays.text, nv_name_list_more(&strays, more));
}

/* ------------------------------------------------------------------ shapes */

static size_t elements(const nv_st_entry *e) {
    return e->bytes / nv_st_dtype_size(e->dtype);
}

/* Whether e has a * b numbers. A tensor of none may claim any size on its other side. */
static int has_product(const nv_st_entry *e, size_t a, size_t b) {
    size_t product;
    return !__builtin_mul_overflow(a, b, &product) && elements(e) == product;
}

/* Here rather than when it is added: a run loads the whole model before that. */
static nabla_status check_dtypes(const merger *g, const change *c) {
    for (int i = 0; i < PARTS; i++) {
        const nv_st_entry *e = c->parts[i];
        if (e && e->dtype != NV_ST_F32 && e->dtype != NV_ST_BF16 && e->dtype != NV_ST_F16 && e->dtype != NV_ST_F64)
            return nv_fail(g->err, NABLA_CORRUPT, "%s: \"%s\" is of %s: a LoRA's tensors are F32, BF16, F16 or F64",
                           nv_weights_path(g->file), e->name, nv_st_dtype_name(e->dtype));
    }
    return NABLA_OK;
}

/* up [out, rank], down [rank, in], of a convolution with sizes of its kernel behind them. */
static nabla_status check_change(const merger *g, const nv_parameter *p, const change *c) {
    const nv_st_entry *up = c->parts[UP], *down = c->parts[DOWN], *alpha = c->parts[ALPHA];
    const nv_st_entry *diff = c->parts[DIFF], *diff_b = c->parts[DIFF_BIAS];
    const char *file = nv_weights_path(g->file);
    NV_TRY(check_dtypes(g, c));
    if (!up != !down || (alpha && !up))
        return nv_fail(g->err, NABLA_CORRUPT, "%s: \"%s\" has no other half", file,
                       (up     ? up
                        : down ? down
                               : alpha)
                           ->name);
    if (up) {
        const size_t out = (size_t)p->shape[0], in = p->count / out;
        const size_t rank = down->rank >= 2 ? (size_t)down->shape[0] : 0;
        if (rank == 0 || up->rank < 2 || up->shape[0] != p->shape[0] || !has_product(up, out, rank) ||
            !has_product(down, rank, in))
            return nv_fail(g->err, NABLA_CORRUPT, "%s: \"%s\" and its other half do not make a %zu x %zu matrix", file,
                           up->name, out, in);
    }
    if (alpha && elements(alpha) != 1)
        return nv_fail(g->err, NABLA_CORRUPT, "%s: \"%s\" is no single number", file, alpha->name);
    if (diff && elements(diff) != p->count)
        return nv_fail(g->err, NABLA_CORRUPT, "%s: \"%s\" has %zu numbers, its weight %zu", file, diff->name,
                       elements(diff), p->count);
    if (diff_b && elements(diff_b) != bias_of(g->m, p)->count)
        return nv_fail(g->err, NABLA_CORRUPT, "%s: \"%s\" has not as many numbers as its bias", file, diff_b->name);
    return NABLA_OK;
}

/* ------------------------------------------------------------------ adding */

/* sum += factor * tensor */
static nabla_status add_scaled(const merger *g, float *sum, const nv_st_entry *e, float factor) {
    nv_device *dev = g->m->device;
    const size_t count = elements(e);
    float *host = malloc(count * sizeof *host);
    void *piece = NULL;
    if (!host) return nv_fail(g->err, NABLA_OUT_OF_MEMORY, "no memory for tensor \"%s\"", e->name);
    nabla_status status = nv_st_read_f32(e, host, count, g->err);
    for (size_t i = 0; i < count; i++)
        host[i] *= factor;
    if (status == NABLA_OK) status = dev->ops->allocate(dev, count * sizeof *host, &piece, g->err);
    if (status == NABLA_OK) {
        dev->ops->upload(dev, piece, host, count * sizeof *host);
        status = dev->ops->add(dev, sum, piece, (int64_t)count, g->err);
    }
    if (piece) dev->ops->release(dev, piece);
    free(host);
    return status;
}

/* Both halves in fp32, [rank, out] times the factor and [rank, in]: the product's gradient of a weight is then just the
   sum that is wanted, on any device. */
static nabla_status read_halves(const merger *g, const change *c, size_t rank, size_t out, size_t in, float factor,
                                float *halves) {
    float *up = malloc(out * rank * sizeof *up);
    if (!up) return nv_fail(g->err, NABLA_OUT_OF_MEMORY, "no memory for tensor \"%s\"", c->parts[UP]->name);
    nabla_status status = nv_st_read_f32(c->parts[UP], up, out * rank, g->err);
    for (size_t o = 0; o < out && status == NABLA_OK; o++)
        for (size_t r = 0; r < rank; r++)
            halves[r * out + o] = up[o * rank + r] * factor;
    free(up);
    return status == NABLA_OK ? nv_st_read_f32(c->parts[DOWN], halves + rank * out, rank * in, g->err) : status;
}

/* sum += factor * up down */
static nabla_status add_product(const merger *g, float *sum, const nv_parameter *p, const change *c) {
    nv_device *dev = g->m->device;
    const size_t out = (size_t)p->shape[0], in = p->count / out, rank = (size_t)c->parts[DOWN]->shape[0];
    const size_t bytes = rank * (out + in) * sizeof(float);
    float factor = g->strength, alpha;
    if (c->parts[ALPHA]) {
        NV_TRY(nv_st_read_f32(c->parts[ALPHA], &alpha, 1, g->err));
        factor *= alpha / (float)rank;
    }
    float *host = malloc(bytes);
    void *halves = NULL;
    if (!host) return nv_fail(g->err, NABLA_OUT_OF_MEMORY, "no memory for tensor \"%s\"", c->parts[UP]->name);
    nabla_status status = read_halves(g, c, rank, out, in, factor, host);
    if (status == NABLA_OK) status = dev->ops->allocate(dev, bytes, &halves, g->err);
    if (status == NABLA_OK) {
        dev->ops->upload(dev, halves, host, bytes);
        const nv_matrix up = nv_matrix_of(halves, NABLA_FP32, (int64_t)rank, (int64_t)out);
        const nv_matrix down = nv_matrix_of((float *)halves + rank * out, NABLA_FP32, (int64_t)rank, (int64_t)in);
        status = dev->ops->linear_backward_weight(dev, up, down, sum, NULL, g->err);
    }
    if (halves) dev->ops->release(dev, halves);
    free(host);
    return status;
}

/* ------------------------------------------------------------------ the whole */

static int changes_weight(const merger *g, size_t i) {
    return g->changes[i].parts[UP] || g->changes[i].parts[DIFF];
}

/* What all files say of weight i, added to sum. */
static nabla_status add_changes(const merger *files, int32_t count, size_t i, float *sum) {
    for (int32_t f = 0; f < count; f++) {
        const merger *g = &files[f];
        const change *c = &g->changes[i];
        if (c->parts[UP]) NV_TRY(add_product(g, sum, &g->m->parameters[i], c));
        if (c->parts[DIFF]) NV_TRY(add_scaled(g, sum, c->parts[DIFF], g->strength));
    }
    return NABLA_OK;
}

/* A weight without a master: widened, changed, rounded back. */
static nabla_status change_copy(const merger *files, int32_t count, size_t i, nv_error *err) {
    const nv_dit *m = files[0].m;
    nv_device *dev = m->device;
    const nv_matrix copy = nv_dit_stored(&m->parameters[i]);
    void *sum;
    NV_TRY(dev->ops->allocate(dev, m->parameters[i].count * sizeof(float), &sum, err));
    const nv_matrix wide = nv_matrix_of(sum, NABLA_FP32, copy.rows, copy.cols);
    nabla_status status = dev->ops->cast(dev, copy, wide, err);
    if (status == NABLA_OK) status = add_changes(files, count, i, sum);
    if (status == NABLA_OK) status = dev->ops->cast(dev, wide, copy, err);
    dev->ops->release(dev, sum);
    return status;
}

static nabla_status apply(const merger *files, int32_t count, size_t i, nv_error *err) {
    nv_dit *m = files[0].m;
    const nv_parameter *p = &m->parameters[i];
    int weight = 0, bias = 0;
    for (int32_t f = 0; f < count; f++) {
        weight |= changes_weight(&files[f], i);
        bias |= files[f].changes[i].parts[DIFF_BIAS] != NULL;
    }
    if (weight || bias) nv_dit_reach(m, p, 1); /* the bias is of the same block */
    for (int32_t f = 0; f < count && bias; f++) {
        const merger *g = &files[f];
        const nv_st_entry *diff = g->changes[i].parts[DIFF_BIAS];
        if (diff) NV_TRY(add_scaled(g, bias_of(m, p)->value, diff, g->strength));
    }
    if (!weight) return NABLA_OK;
    return p->value ? add_changes(files, count, i, p->value) : change_copy(files, count, i, err);
}

/* The files side by side, their changes placed and checked. */
static nabla_status read_files(nv_dit *m, const nv_dit_lora *loras, int32_t count, merger *files, nv_error *err) {
    for (int32_t f = 0; f < count; f++) {
        files[f] = (merger){.m = m, .file = loras[f].file, .strength = loras[f].strength, .err = err};
        files[f].changes = calloc(m->count, sizeof *files[f].changes);
        if (!files[f].changes)
            return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to read %s", nv_weights_path(loras[f].file));
        NV_TRY(place_all(&files[f]));
        for (size_t i = 0; i < m->count; i++)
            NV_TRY(check_change(&files[f], &m->parameters[i], &files[f].changes[i]));
    }
    return NABLA_OK;
}

static nabla_status run(nv_dit *m, const nv_dit_lora *loras, int32_t count, int merge, nv_error *err) {
    merger *files = calloc((size_t)count + 1, sizeof *files);
    if (!files) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to read %d LoRA files", count);
    nabla_status status = read_files(m, loras, count, files, err);
    for (size_t i = 0; merge && i < m->count && status == NABLA_OK; i++)
        status = apply(files, count, i, err);
    for (int32_t f = 0; f < count; f++)
        free(files[f].changes);
    free(files);
    return status;
}

nabla_status nv_dit_merge_loras(nv_dit *m, const nv_dit_lora *loras, int32_t count, nv_error *err) {
    if (count == 0) return NABLA_OK;
    NV_TRY(run(m, loras, count, 1, err));
    return nv_dit_update(m, err);
}

nabla_status nv_dit_check_loras(const nv_dit_config *config, const nv_weights *const *files, int32_t count,
                                nv_error *err) {
    nv_dit m = {.config = *config};
    nabla_status status = nv_dit_describe(&m, err);
    for (int32_t f = 0; f < count && status == NABLA_OK; f++) {
        const nv_dit_lora one = {files[f], 1.0f};
        status = run(&m, &one, 1, 0, err);
    }
    nv_dit_forget(&m);
    return status;
}

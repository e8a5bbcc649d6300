/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/qkv.h"

#include <stdlib.h>
#include <string.h>

#include "cli/list.h"
#include "cli/machine.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "tensor/bf16.h"

int cli_qkv_fail(const cli_qkv *c, nabla_status status) {
    return cli_fail_status(c->verb, status, nabla_context_message(c->ctx));
}

int cli_qkv_no_memory(const cli_qkv *c) {
    return cli_fail(c->verb, "out of memory: give a file with fewer heads or tokens");
}

/* ------------------------------------------------------------------ checks */

static const char *format_shape(const nv_st_entry *e, char *text, size_t size) {
    size_t at = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < e->rank && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%lld", i ? ", " : "", (long long)e->shape[i]);
    if (at < size) snprintf(text + at, size - at, "]");
    return text;
}

/* The tensor `name` if it is there, fp32 or bf16, and [B, S, H, D] with nothing empty. */
static int find_tensor(const cli_qkv *c, const char *path, const char *name, int needed, const nv_st_entry **out) {
    char shape[256];
    const nv_st_entry *e = *out = nv_st_find(c->file, name);
    if (!e && !needed) return 0;
    if (!e) return cli_fail(c->verb, "%s has no tensor '%s': it must hold q, k and v, each [B, S, H, D]", path, name);
    if (e->dtype != NV_ST_F32 && e->dtype != NV_ST_BF16)
        return cli_fail(c->verb, "%s: tensor '%s' is %s: convert it to F32 or BF16", path, name,
                        nv_st_dtype_name(e->dtype));
    for (int i = 0; i < 4; i++)
        if (e->rank != 4 || e->shape[i] < 1 || e->shape[i] > INT32_MAX)
            return cli_fail(c->verb, "%s: tensor '%s' has shape %s: give it four axes [B, S, H, D], none empty", path,
                            name, format_shape(e, shape, sizeof shape));
    return 0;
}

/* b must be [B, S, H, D] as a, or with its own S where `own_length`, and of a's dtype where `same_dtype`. */
static int match(const cli_qkv *c, const nv_st_entry *a, const nv_st_entry *b, int own_length, int same_dtype) {
    char left[256], right[256];
    for (int i = 0; i < 4; i++)
        if (a->shape[i] != b->shape[i] && !(i == 1 && own_length))
            return cli_fail(c->verb, "tensor '%s' is %s and '%s' %s: make %s agree", b->name,
                            format_shape(b, right, sizeof right), a->name, format_shape(a, left, sizeof left),
                            own_length ? "B, H and D" : "their shapes");
    if (same_dtype && a->dtype != b->dtype)
        return cli_fail(c->verb, "tensor '%s' is %s and '%s' %s: convert one", b->name, nv_st_dtype_name(b->dtype),
                        a->name, nv_st_dtype_name(a->dtype));
    return 0;
}

static int open_file(cli_qkv *c, const char *path, int backward) {
    nv_error err = {0};
    const nabla_status status = nv_st_open(path, &c->file, &err);
    /* A file that is not what it should be is no misuse of the command. */
    if (status != NABLA_OK) return cli_fail(c->verb, "%s", err.text);
    int code = find_tensor(c, path, "q", 1, &c->q_entry);
    if (!code) code = find_tensor(c, path, "k", 1, &c->k_entry);
    if (!code) code = find_tensor(c, path, "v", backward, &c->v_entry);
    if (!code && backward) code = find_tensor(c, path, "do", 0, &c->do_entry);
    if (!code) code = match(c, c->q_entry, c->k_entry, 1, 1);
    if (!code && c->v_entry) code = match(c, c->k_entry, c->v_entry, 0, 1);
    if (!code && c->do_entry) code = match(c, c->q_entry, c->do_entry, 0, 0);
    if (code) return code;
    c->batch = c->q_entry->shape[0];
    c->q_tokens = c->q_entry->shape[1];
    c->k_tokens = c->k_entry->shape[1];
    c->heads = c->q_entry->shape[2];
    c->head_dim = c->q_entry->shape[3];
    c->input = c->q_entry->dtype == NV_ST_BF16 ? NABLA_BF16 : NABLA_FP32;
    return 0;
}

/* ------------------------------------------------------------------ grids */

static int make_order(cli_qkv *c, const char *flag, const int32_t *grid, const int32_t *tile, const char *name,
                      int64_t tokens, nabla_order **out) {
    const int64_t held = (int64_t)grid[0] * grid[1] <= INT32_MAX ? (int64_t)grid[0] * grid[1] * grid[2] : INT64_MAX;
    if (held != tokens)
        return cli_misuse(c->verb,
                          "--%s %dx%dx%d holds %lld tokens and %s has %lld: give the frames, rows and columns "
                          "of its tokens",
                          flag, grid[0], grid[1], grid[2], (long long)held, name, (long long)tokens);
    nabla_grid g = nabla_grid_default(grid[0], grid[1], grid[2]);
    g.tile_frames = tile[0];
    g.tile_height = tile[1];
    g.tile_width = tile[2];
    const nabla_status status = nabla_order_create(c->ctx, &g, out);
    return status == NABLA_OK ? 0 : cli_qkv_fail(c, status);
}

static int make_orders(cli_qkv *c, const cli_qkv_settings *s) {
    if (s->grid[0] == 0)
        return cli_misuse(c->verb,
                          "--grid is needed: give frames x height x width of the %lld tokens of q, such as "
                          "--grid 4x16x16",
                          (long long)c->q_tokens);
    int code = make_order(c, "grid", s->grid, s->tile, "q", c->q_tokens, &c->q_order);
    if (code) return code;
    if (s->k_grid[0]) return make_order(c, "k-grid", s->k_grid, s->tile, "k", c->k_tokens, &c->k_order);
    if (c->k_tokens == c->q_tokens) {
        c->k_order = c->q_order;
        return 0;
    }
    if (c->policy.dense) return 0;
    return cli_misuse(c->verb, "k has %lld tokens and q %lld: give the keys' grid with --k-grid, or --policy dense",
                      (long long)c->k_tokens, (long long)c->q_tokens);
}

/* "4,4,8", the frames of each packed sample -> the first frame of each. */
static int read_documents(cli_qkv *c, const cli_qkv_settings *s) {
    cli_list list;
    int64_t first = 0;
    int code = cli_list_read(c->verb, "documents", s->documents, &list);
    if (code) return code;
    for (int32_t i = 0; i < list.count; i++) {
        int64_t frames;
        if (!cli_read_int(list.item[i], 1, s->grid[0], &frames))
            return cli_misuse(c->verb, "--documents takes the frames of each packed sample such as 4,4,8, not '%s'",
                              s->documents);
        c->documents[i] = (int32_t)first;
        first += frames;
    }
    if (first != s->grid[0])
        return cli_misuse(c->verb, "--documents %s are %lld frames and --grid has %d: give those of every sample",
                          s->documents, (long long)first, s->grid[0]);
    c->desc.documents = c->documents;
    c->desc.document_count = list.count;
    return 0;
}

int cli_qkv_open(const char *verb, const cli_common *common, const cli_qkv_settings *s, int backward, cli_qkv *c) {
    int code;
    *c = (cli_qkv){.verb = verb, .common = common};
    if (common->argument_count == 0)
        return cli_misuse(verb, "no file given: name a .safetensors file that holds q, k and v");
    c->ctx = cli_context(verb, common, &code);
    if (!c->ctx) return code;
    code = cli_policy(verb, c->ctx, common->policy, &c->policy);
    if (!code) code = open_file(c, common->arguments[0], backward);
    if (!code) code = make_orders(c, s);
    c->desc = nabla_plan_desc_default();
    if (!code && s->documents) code = read_documents(c, s);
    if (code) return code;
    c->compute = c->input;
    if (common->dtype) c->compute = strcmp(common->dtype, "bf16") == 0 ? NABLA_BF16 : NABLA_FP32;
    c->desc.batch = c->batch;
    c->desc.heads = c->heads;
    c->desc.q_order = c->q_order;
    c->desc.k_order = c->k_order;
    c->desc.q_tokens = c->q_tokens;
    c->desc.k_tokens = c->k_tokens;
    c->desc.backward = c->do_entry != NULL;
    return 0;
}

void cli_qkv_close(cli_qkv *c) {
    cli_qkv_free(c, &c->q);
    cli_qkv_free(c, &c->k);
    cli_qkv_free(c, &c->v);
    cli_qkv_free(c, &c->d_o);
    nabla_plan_destroy(c->plan);
    if (c->k_order != c->q_order) nabla_order_destroy(c->k_order);
    nabla_order_destroy(c->q_order);
    if (c->file) nv_st_close(c->file);
    nabla_context_destroy(c->ctx);
}

int cli_qkv_check_memory(const cli_qkv *c, double bytes) {
    const char *kind;
    const double available = cli_memory_available(c->common, &kind);
    char needed[32], left[32];
    if (available == 0 || bytes <= available) return 0;
    return cli_fail(c->verb, "this needs %s and %s of %s are available: give a file with fewer heads or tokens",
                    cli_format_bytes(bytes, needed, sizeof needed), cli_format_bytes(available, left, sizeof left),
                    kind);
}

/* ------------------------------------------------------------------ tensors */

static nabla_tensor shape_of(const cli_qkv *c, int64_t tokens, nabla_dtype dtype, size_t *bytes) {
    const int64_t shape[4] = {c->batch, tokens, c->heads, c->head_dim};
    *bytes = (size_t)(c->batch * tokens * c->heads * c->head_dim) * nabla_dtype_size(dtype);
    return nabla_tensor_contiguous(NULL, dtype, 4, shape);
}

void cli_qkv_tensor(cli_qkv *c, int64_t tokens, nabla_dtype dtype, nabla_tensor *out) {
    size_t bytes;
    *out = shape_of(c, tokens, dtype, &bytes);
    nabla_memory_allocate(c->ctx, bytes, &out->data);
}

void cli_qkv_free(cli_qkv *c, nabla_tensor *t) {
    nabla_memory_free(c->ctx, t->data);
    t->data = NULL;
}

/* A view of the file where it can be used as it lies there, else a converted copy (to be freed through *copy). */
static int view_entry(const cli_qkv *c, const nv_st_entry *e, nabla_dtype dtype, nabla_tensor *out, void **copy) {
    const size_t size = nabla_dtype_size(dtype), count = e->bytes / nv_st_dtype_size(e->dtype);
    size_t bytes;
    const nabla_dtype is = e->dtype == NV_ST_BF16 ? NABLA_BF16 : NABLA_FP32;
    nv_error err = {0};
    *copy = NULL;
    if (is == dtype && (uintptr_t)e->data % size == 0) {
        *out = nabla_tensor_contiguous((void *)(uintptr_t)e->data, dtype, 4, e->shape);
        return 0;
    }
    *out = shape_of(c, e->shape[1], dtype, &bytes);
    *copy = out->data = malloc(bytes);
    if (!*copy) return cli_qkv_no_memory(c);
    if (is == dtype) {
        memcpy(out->data, e->data, e->bytes);
    } else if (dtype == NABLA_FP32) {
        const nabla_status status = nv_st_read_f32(e, out->data, count, &err);
        if (status != NABLA_OK) return cli_fail(c->verb, "%s", err.text);
    } else {
        const char *from = e->data;
        uint16_t *to = out->data;
        for (size_t i = 0; i < count; i++) {
            float value;
            memcpy(&value, from + i * sizeof value, sizeof value);
            to[i] = nv_bf16_from_float(value);
        }
    }
    return 0;
}

/* A GPU puts tokens in order itself: the tensor goes there in raster order first. *temporary is to be freed. */
static int upload(cli_qkv *c, nabla_tensor *raster, nabla_tensor *temporary) {
    size_t bytes;
    shape_of(c, raster->shape[1], raster->dtype, &bytes);
    cli_qkv_tensor(c, raster->shape[1], raster->dtype, temporary);
    if (!temporary->data) return cli_qkv_no_memory(c);
    const nabla_status status = nabla_memory_upload(c->ctx, temporary->data, raster->data, bytes);
    *raster = *temporary;
    return status == NABLA_OK ? 0 : cli_qkv_fail(c, status);
}

static int reorder(cli_qkv *c, const nabla_order *order, const nabla_tensor *raster, nabla_tensor *out) {
    const double began = cli_seconds();
    nabla_status status = nabla_order_apply(c->ctx, order, raster, out);
    if (status == NABLA_OK) status = nabla_context_synchronize(c->ctx);
    c->reorder_s += cli_seconds() - began;
    return status == NABLA_OK ? 0 : cli_qkv_fail(c, status);
}

int cli_qkv_load(cli_qkv *c, const nv_st_entry *e, const nabla_order *order, nabla_dtype dtype, nabla_tensor *out) {
    nabla_tensor raster, temporary = {0};
    void *copy;
    int code = view_entry(c, e, dtype, &raster, &copy);
    if (!code) {
        cli_qkv_tensor(c, e->shape[1], dtype, out);
        if (!out->data) code = cli_qkv_no_memory(c);
    }
    if (!code && order && nabla_context_device(c->ctx) != NABLA_CPU) code = upload(c, &raster, &temporary);
    if (!code && order) {
        code = reorder(c, order, &raster, out);
    } else if (!code) {
        size_t bytes;
        shape_of(c, e->shape[1], dtype, &bytes);
        const nabla_status status = nabla_memory_upload(c->ctx, out->data, raster.data, bytes);
        if (status != NABLA_OK) code = cli_qkv_fail(c, status);
    }
    cli_qkv_free(c, &temporary);
    free(copy);
    return code;
}

int cli_qkv_plan(cli_qkv *c, float scale) {
    nabla_status status = NABLA_OK;
    if (!c->plan) status = nabla_plan_create(c->ctx, &c->desc, &c->plan);
    if (status == NABLA_OK) {
        nabla_plan_inputs inputs = nabla_plan_inputs_default();
        inputs.q = &c->q;
        inputs.k = &c->k;
        inputs.scale = scale;
        status = nabla_plan_build(c->ctx, c->plan, &c->policy, &inputs);
    }
    if (status == NABLA_OK) status = nabla_context_synchronize(c->ctx);
    return status == NABLA_OK ? 0 : cli_qkv_fail(c, status);
}

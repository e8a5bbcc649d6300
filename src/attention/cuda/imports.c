/* SPDX-License-Identifier: Apache-2.0 */
/* Plans in and out. Host lists pass through rows of bits, which are small; lists in GPU memory are read and written by
   kernels, and what is wrong with them is told after the next wait. */
#include "host_lists.h"
#include "state.h"

#include <math.h>
#include <stdlib.h>

static size_t row_bytes(const nabla_plan *plan, int64_t sets) {
    return (size_t)(sets * plan->nq * plan->k_words) * sizeof(uint64_t);
}

static uint64_t *host_rows(nabla_context *ctx, size_t bytes) {
    uint64_t *rows = malloc(bytes);
    if (!rows) nabla_fail(ctx, NABLA_OUT_OF_MEMORY, "no memory for %zu bytes of a plan", bytes);
    return rows;
}

/* Where the arrays of a call are: all on the GPU, or all on the host. b may be NULL. */
static nabla_status find_place(nabla_context *ctx, const char *a_name, const void *a, const char *b_name, const void *b,
                               bool *gpu) {
    bool other;
    nabla_status status = nabla_cuda_reaches(ctx, a_name, a, gpu);
    if (status || !b) return status;
    status = nabla_cuda_reaches(ctx, b_name, b, &other);
    if (!status && other != *gpu)
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "%s is in %s memory and %s in %s memory; use one of them",
                          a_name, *gpu ? "GPU" : "host", b_name, other ? "GPU" : "host");
    return status;
}

/* ---- out */

static nabla_status rows_to_host(nabla_context *ctx, const nabla_plan *plan, uint64_t **out) {
    const size_t bytes = row_bytes(plan, plan->sets);
    *out = host_rows(ctx, bytes);
    if (!*out) return NABLA_OUT_OF_MEMORY;
    const nabla_status status = nabla_cuda_copy(ctx, *out, plan->cuda->view.rows, bytes);
    if (status) free(*out);
    return status;
}

nabla_status nabla_cuda_lists_out(nabla_context *ctx, const nabla_plan *plan, int32_t *num, int32_t *indices) {
    bool gpu;
    uint64_t *rows;
    nabla_status status = num ? find_place(ctx, "num", num, "indices", indices, &gpu)
                              : find_place(ctx, "indices", indices, NULL, NULL, &gpu);
    if (status) return status;
    if (gpu) {
        const nabla_cuda_plan view = nabla_cuda_view(plan);
        return nabla_cuda_check(ctx, nabla_cuda_export_lists(&view, num, indices, ctx->cuda->stream),
                                "writing a plan's lists");
    }
    status = rows_to_host(ctx, plan, &rows);
    if (status) return status;
    nabla_rows_to_lists(plan, rows, ctx->threads, num, indices);
    free(rows);
    return NABLA_OK;
}

nabla_status nabla_cuda_bitmap_out(nabla_context *ctx, const nabla_plan *plan, uint8_t *bytes) {
    bool gpu;
    uint64_t *rows;
    nabla_status status = find_place(ctx, "bytes", bytes, NULL, NULL, &gpu);
    if (status) return status;
    if (gpu) {
        const nabla_cuda_plan view = nabla_cuda_view(plan);
        return nabla_cuda_check(ctx, nabla_cuda_export_bitmap(&view, bytes, ctx->cuda->stream),
                                "writing a plan's bitmap");
    }
    status = rows_to_host(ctx, plan, &rows);
    if (status) return status;
    nabla_rows_to_bytes(plan, rows, ctx->threads, bytes);
    free(rows);
    return NABLA_OK;
}

/* ---- in */

/* The plan holds what was brought in, a set for each head; its columns are still to be made. */
static nabla_status finish(nabla_context *ctx, nabla_plan *plan) {
    plan->sets = plan->batch * plan->heads;
    plan->kept_mass = NAN;
    plan->cuda->scored = false;
    const nabla_cuda_plan view = nabla_cuda_view(plan);
    return nabla_cuda_check(ctx, nabla_cuda_finish(&view, ctx->cuda->stream), "finishing a plan");
}

static nabla_status rows_from_host(nabla_context *ctx, nabla_plan *plan, const uint64_t *rows) {
    const nabla_status status =
        nabla_cuda_copy(ctx, plan->cuda->view.rows, rows, row_bytes(plan, plan->batch * plan->heads));
    return status ? status : finish(ctx, plan);
}

static nabla_status lists_from_host(nabla_context *ctx, nabla_plan *plan, const int32_t *num, const int32_t *indices) {
    uint64_t *rows = host_rows(ctx, row_bytes(plan, plan->batch * plan->heads));
    if (!rows) return NABLA_OUT_OF_MEMORY;
    nabla_status status = nabla_check_lists(ctx, plan, num, indices, rows); /* a row of it is room enough */
    if (!status) {
        nabla_lists_to_rows(plan, num, indices, rows);
        status = rows_from_host(ctx, plan, rows);
    }
    free(rows);
    return status;
}

static nabla_status bytes_from_host(nabla_context *ctx, nabla_plan *plan, const uint8_t *bytes) {
    nabla_status status = nabla_check_bytes(ctx, plan, bytes);
    if (status) return status;
    uint64_t *rows = host_rows(ctx, row_bytes(plan, plan->batch * plan->heads));
    if (!rows) return NABLA_OUT_OF_MEMORY;
    nabla_bytes_to_rows(plan, bytes, ctx->threads, rows);
    status = rows_from_host(ctx, plan, rows);
    free(rows);
    return status;
}

/* ---- imports from GPU memory */

static const size_t record_bytes = NABLA_CUDA_IMPORTS * NABLA_CUDA_RECORD * sizeof(int32_t);

/* Records hold nothing bad at first: one may be looked at before its import runs, which may be in a graph. */
nabla_status nabla_cuda_imports_open(nabla_context *ctx) {
    int32_t none[NABLA_CUDA_IMPORTS * NABLA_CUDA_RECORD];
    void *errors;
    const nabla_status status = nabla_cuda_take(ctx, record_bytes, &errors);
    ctx->cuda->errors = errors;
    for (int32_t i = 0; i < NABLA_CUDA_IMPORTS * NABLA_CUDA_RECORD; i++)
        none[i] = INT32_MAX;
    return status ? status : nabla_cuda_copy(ctx, errors, none, record_bytes);
}

void nabla_cuda_imports_close(nabla_context *ctx) {
    nabla_cuda_give(ctx, ctx->cuda->errors, record_bytes);
}

static nabla_cuda_import *free_record(nabla_cuda_state *s) {
    for (int32_t pass = 0; pass < 2; pass++) /* first one that no graph may come back to */
        for (int32_t i = 0; i < NABLA_CUDA_IMPORTS; i++)
            if (pass ? !s->imports[i].pending : !s->imports[i].used) return s->imports + i;
    return NULL;
}

/* A record for an import to leave its error in; *error is its place on the GPU, which the import's kernels clear. */
static nabla_status take_record(nabla_context *ctx, const nabla_plan *plan, bool bitmap, int32_t **error) {
    nabla_cuda_state *s = ctx->cuda;
    nabla_cuda_import *import = free_record(s);
    if (!import) {
        nabla_status status = nabla_cuda_wait(ctx, "looking at earlier imports");
        if (!status) status = nabla_cuda_check_imports(ctx);
        if (status) return status;
        import = free_record(s);
    }
    *import = (nabla_cuda_import){
        .used = true, .pending = true, .bitmap = bitmap, .heads = plan->heads, .nq = plan->nq, .nk = plan->nk};
    *error = s->errors + (import - s->imports) * NABLA_CUDA_RECORD;
    return NABLA_OK;
}

static nabla_status fail_import(nabla_context *ctx, const nabla_cuda_import *import, const int32_t *record) {
    if (import->bitmap) return nabla_fail_byte(ctx, record[0] * import->nk + record[1], record[2]);
    return nabla_fail_list(ctx, import->heads, import->nq, import->nk, record[0], record[1], record[2]);
}

nabla_status nabla_cuda_check_imports(nabla_context *ctx) {
    static const int32_t none = INT32_MAX;
    nabla_cuda_state *s = ctx->cuda;
    int32_t records[NABLA_CUDA_IMPORTS][NABLA_CUDA_RECORD];
    bool any = false;
    for (int32_t i = 0; i < NABLA_CUDA_IMPORTS; i++)
        any = any || s->imports[i].used;
    if (!any) return NABLA_OK;
    nabla_status status = nabla_cuda_copy(ctx, records, s->errors, sizeof records);
    for (int32_t i = 0; i < NABLA_CUDA_IMPORTS && !status; i++) {
        s->imports[i].pending = false;
        if (!s->imports[i].used || records[i][0] == INT32_MAX) continue;
        /* told once; if there are more, the next synchronisation tells of them */
        status = nabla_cuda_copy(ctx, s->errors + i * NABLA_CUDA_RECORD, &none, sizeof none);
        if (!status) status = fail_import(ctx, s->imports + i, records[i]);
    }
    return status;
}

nabla_status nabla_cuda_lists_in(nabla_context *ctx, nabla_plan *plan, const int32_t *num, const int32_t *indices) {
    bool gpu;
    int32_t *error;
    nabla_status status = find_place(ctx, "num", num, "indices", indices, &gpu);
    if (status) return status;
    if (!gpu) return lists_from_host(ctx, plan, num, indices);
    status = take_record(ctx, plan, false, &error);
    if (status) return status;
    plan->sets = plan->batch * plan->heads;
    const nabla_cuda_plan view = nabla_cuda_view(plan);
    status = nabla_cuda_check(ctx, nabla_cuda_import_lists(&view, num, indices, error, ctx->cuda->stream),
                              "importing a plan's lists");
    return status ? status : finish(ctx, plan);
}

nabla_status nabla_cuda_bitmap_in(nabla_context *ctx, nabla_plan *plan, const uint8_t *bytes) {
    bool gpu;
    int32_t *error;
    nabla_status status = find_place(ctx, "bytes", bytes, NULL, NULL, &gpu);
    if (status) return status;
    if (!gpu) return bytes_from_host(ctx, plan, bytes);
    status = take_record(ctx, plan, true, &error);
    if (status) return status;
    plan->sets = plan->batch * plan->heads;
    const nabla_cuda_plan view = nabla_cuda_view(plan);
    status = nabla_cuda_check(ctx, nabla_cuda_import_bitmap(&view, bytes, error, ctx->cuda->stream),
                              "importing a plan's bitmap");
    return status ? status : finish(ctx, plan);
}

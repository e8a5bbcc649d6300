/* SPDX-License-Identifier: Apache-2.0 */
/* Queries, keys and values from a file, as `attend` and `mask` take them: raster order in the file, tile order and one
   dtype in memory, with the plan that their policy makes. */
#ifndef CLI_QKV_H
#define CLI_QKV_H

#include "cli/list.h"
#include "cli/options.h"
#include "weights/safetensors.h"

typedef struct cli_qkv_settings {
    int32_t grid[3], k_grid[3], tile[3]; /* grids all 0: not given */
    const char *documents;
    float scale; /* 0: 1 / sqrt(D) */
} cli_qkv_settings;

/* Rows of the option table; the settings hold `cli_qkv_settings qkv` after `common`. */
#define CLI_QKV_ROWS                                                                                                \
    CLI_RANGE("grid", BOX, qkv.grid, 1, 1 << 20, "tokens of the file (needed)"),                                    \
        CLI_RANGE("tile", BOX, qkv.tile, 1, 1 << 20, "tokens of a block []"),                                       \
        CLI_RANGE("k-grid", BOX, qkv.k_grid, 1, 1 << 20, "keys that have another grid [the same]"),                 \
        CLI_FLAG("documents", TEXT, "F0,F1,...", qkv.documents, "frames of each packed sample; none sees another"), \
        CLI_RANGE("scale", REAL, qkv.scale, 1e-6, 1e6, "multiplies the scores [1 / sqrt(D)]")

typedef struct cli_qkv {
    const char *verb;
    const cli_common *common;
    nabla_context *ctx;
    nv_st_file *file;
    const nv_st_entry *q_entry, *k_entry, *v_entry, *do_entry; /* do: NULL if the file has none */
    nabla_dtype input, compute;
    int64_t batch, heads, q_tokens, k_tokens, head_dim;
    nabla_order *q_order, *k_order; /* k_order: that of q, its own, or NULL (a sequence without a grid) */
    nabla_policy policy;
    nabla_plan_desc desc;
    nabla_plan *plan;
    nabla_tensor q, k, v, d_o;        /* tile order, in the device's memory; data NULL until loaded */
    int32_t documents[CLI_LIST_MOST]; /* first frames */
    double reorder_s;
} cli_qkv;

/* Opens and checks everything, allocates nothing large. Returns 0 or the exit code; close in either case. */
int cli_qkv_open(const char *verb, const cli_common *common, const cli_qkv_settings *settings, int backward,
                 cli_qkv *c);
void cli_qkv_close(cli_qkv *c);

/* Fails if `bytes` are more than the device has left. */
int cli_qkv_check_memory(const cli_qkv *c, double bytes);

/* A tensor [B, tokens, H, D] in the device's memory; out->data NULL when that ran out. */
void cli_qkv_tensor(cli_qkv *c, int64_t tokens, nabla_dtype dtype, nabla_tensor *out);
void cli_qkv_free(cli_qkv *c, nabla_tensor *t);
/* entry -> a new tensor in tile order (order NULL: as it is). Returns 0 or the exit code. */
int cli_qkv_load(cli_qkv *c, const nv_st_entry *entry, const nabla_order *order, nabla_dtype dtype, nabla_tensor *out);
/* Makes the plan from q and k, and waits for it. Call again to time it. */
int cli_qkv_plan(cli_qkv *c, float scale);
/* The exit code for a failed call on the context. */
int cli_qkv_fail(const cli_qkv *c, nabla_status status);
int cli_qkv_no_memory(const cli_qkv *c);

#endif

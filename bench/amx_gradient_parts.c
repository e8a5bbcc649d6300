/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx_gradient_parts: amx_parts (which see) for the backward kernel, 64 keys over panels of queries, dQ included; error
 * is the largest of dQ, dK and dV as a share of the largest value.
 */
#include "amx_bench.h"
#include "amx_gradients.h"

enum { P_PANEL = 8 * TILE, MOST_PANELS = 128, KEY_BLOCKS = NABLA_MOST_TOGETHER };

/* Of one head dim. */
typedef struct inputs {
    uint16_t *q, *k, *v, *d_o; /* [tokens][D], [KEY_BLOCKS * 64][D] of k and v */
    float *lse, *delta, *dq, *dk, *dv;
    char *packed_q, *packed_k;
    int32_t q_offsets[MOST_PANELS + 1], list[MOST_PANELS + 1], k_offsets[KEY_BLOCKS + 1], dim;
    void *scratch;
    gradients_job back;
} inputs;

/* The first `panels` panels of the queries. */
typedef struct length {
    inputs *in;
    int32_t panels;
} length;

/* ---- parts */

static void gradients_alone(void *of) {
    const length *x = of;
    for (int32_t i = 0; i < x->panels; i++)
        gradient_panel(&x->in->back, i * PANEL);
}

static void rival_2(void *of) {
    const length *x = of;
    walk_gradients(2, x->panels, &x->in->back);
}

static void rival_4(void *of) {
    const length *x = of;
    walk_gradients(4, x->panels, &x->in->back);
}

/* ---- the library's own kernel */

static nabla_backward_task task_of(inputs *x, int32_t panels) {
    return (nabla_backward_task){.q = {x->q, x->dim},
                                 .k = {x->k, x->dim},
                                 .v = {x->v, x->dim},
                                 .d_o = {x->d_o, x->dim},
                                 .d_o_dtype = NABLA_BF16,
                                 .q_offsets = x->q_offsets,
                                 .k_offsets = x->k_offsets,
                                 .blocks = x->list,
                                 .block_count = panels,
                                 .head_dim = x->dim,
                                 .scale = x->back.scale / LOG2_E,
                                 .alpha = 1,
                                 .lse = x->lse,
                                 .delta = x->delta,
                                 .dq = x->dq,
                                 .dk = x->dk,
                                 .dv = x->dv,
                                 .q_pieces = x->list,
                                 .k_pieces = x->list,
                                 .packed_q = x->packed_q,
                                 .packed_k = x->packed_k,
                                 .scratch = x->scratch};
}

/* The first `count` blocks of keys. */
static void run_library(length *x, int32_t count) {
    nabla_backward_task tasks[KEY_BLOCKS];
    for (int32_t i = 0; i < count; i++) {
        tasks[i] = task_of(x->in, x->panels);
        const int64_t before = (int64_t)i * PANEL * x->in->dim;
        tasks[i].block = i;
        tasks[i].dk += before;
        tasks[i].dv += before;
        tasks[i].next = i + 1 < count ? tasks + i + 1 : NULL;
    }
    amx_backward_kv(tasks);
    tile_configure(&config);
}

static void library(void *of) {
    run_library(of, 1);
}

static void together(void *of) {
    run_library(of, KEY_BLOCKS);
}

/* ---- inputs and results */

static void make_inputs(int32_t dim, int32_t panels, inputs *x) {
    const size_t d = (size_t)dim, tokens = (size_t)panels * PANEL, size = tokens * d, floats = sizeof(float);
    const size_t sums = PANEL * d * floats, form = panel_bytes(dim) * (size_t)panels;
    x->dim = dim;
    x->q = noise(size);
    x->d_o = noise(size);
    x->k = noise(KEY_BLOCKS * PANEL * d);
    x->v = noise(KEY_BLOCKS * PANEL * d);
    x->lse = take(tokens * floats);
    x->delta = take(tokens * floats);
    x->dq = take(size * floats);
    x->dk = take(KEY_BLOCKS * sums);
    x->dv = take(KEY_BLOCKS * sums);
    x->packed_q = take(amx_packed_queries(panels, dim));
    x->packed_k = take(amx_packed_keys(KEY_BLOCKS, dim));
    x->scratch = take(amx_backward_scratch(dim));
    for (int32_t i = 0; i < KEY_BLOCKS; i++)
        x->k_offsets[i + 1] = (i + 1) * PANEL;
    float *minus_lse = take(tokens * floats), *minus_delta = take(tokens * floats);
    for (size_t i = 0; i < tokens; i++) {
        x->lse[i] = 4.0f + 0.01f * (float)(i % 50);
        x->delta[i] = 0.02f * (float)(i % 30) - 0.3f;
        minus_lse[i] = -x->lse[i] * LOG2_E;
        minus_delta[i] = -x->delta[i];
    }
    char *const q_rows = take(form), *const o_rows = take(form), *const q_cols = take(form), *const o_cols = take(form);
    char *const k_dims = take(panel_bytes(dim)), *const v_dims = take(panel_bytes(dim));
    char *const k_tokens = take(panel_bytes(dim));
    for (int32_t i = 0; i < panels; i++) {
        const nabla_rows q = {x->q, dim}, d_o = {x->d_o, dim};
        x->list[i + 1] = i + 1;
        x->q_offsets[i + 1] = (i + 1) * PANEL;
        amx_pack_rows(q, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(q_rows, i, dim));
        amx_pack_rows(d_o, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(o_rows, i, dim));
        amx_pack_cols(q, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(q_cols, i, dim));
        amx_pack_cols(d_o, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(o_cols, i, dim));
    }
    amx_pack_dims((nabla_rows){x->k, dim}, NABLA_BF16, 0, PANEL, dim, k_dims);
    amx_pack_dims((nabla_rows){x->v, dim}, NABLA_BF16, 0, PANEL, dim, v_dims);
    amx_pack_tokens((nabla_rows){x->k, dim}, NABLA_BF16, 0, PANEL, dim, k_tokens);
    x->back = (gradients_job){.q_rows = q_rows,
                              .o_rows = o_rows,
                              .q_cols = q_cols,
                              .o_cols = o_cols,
                              .k_dims = k_dims,
                              .v_dims = v_dims,
                              .k_tokens = k_tokens,
                              .minus_lse = minus_lse,
                              .minus_delta = minus_delta,
                              .scale = LOG2_E / sqrtf((float)dim),
                              .s = take(16 * TILE),
                              .dp = take(16 * TILE),
                              .p_tokens = take(P_PANEL),
                              .ds_tokens = take(P_PANEL),
                              .ds_rows = take(P_PANEL),
                              .dk = take(sums),
                              .dv = take(sums),
                              .dq = take(size * floats)};
    nabla_backward_task task = task_of(x, panels);
    for (task.block = 0; task.block < KEY_BLOCKS; task.block++)
        amx_pack_keys(&task);
    for (task.block = 0; task.block < panels; task.block++)
        amx_pack_queries(&task);
}

/* [key_blocks * 64][D] for dK and dV; [tokens][D] for dQ. */
typedef struct sums {
    double *dq, *dk, *dv;
} sums;

static sums expected(const inputs *in, int32_t panels, int32_t key_blocks) {
    const int32_t dim = in->dim, keys = key_blocks * PANEL;
    sums x = {.dq = take((size_t)panels * PANEL * (size_t)dim * sizeof(double)),
              .dk = take((size_t)keys * (size_t)dim * sizeof(double)),
              .dv = take((size_t)keys * (size_t)dim * sizeof(double))};
    for (int32_t r = 0; r < panels * PANEL; r++)
        for (int32_t t = 0; t < keys; t++) {
            const uint16_t *q = in->q + r * dim, *o = in->d_o + r * dim, *k = in->k + t * dim, *v = in->v + t * dim;
            double s = 0, dp = 0;
            for (int32_t d = 0; d < dim; d++) {
                s += widen(q[d]) * widen(k[d]);
                dp += widen(o[d]) * widen(v[d]);
            }
            const double p = exp2(s * (double)in->back.scale - (double)in->lse[r] * (double)LOG2_E);
            const double ds = p * (dp - (double)in->delta[r]);
            for (int32_t d = 0; d < dim; d++) {
                x.dq[r * dim + d] += ds * widen(k[d]);
                x.dk[t * dim + d] += ds * widen(q[d]);
                x.dv[t * dim + d] += p * widen(o[d]);
            }
        }
    return x;
}

static float in_tiles(const char *tiles, int32_t columns, int32_t row, int32_t column) {
    return ((const float *)(tiles + (row / 16 * columns + column / 16) * TILE))[row % 16 * VL + column % 16];
}

/* The largest of an error and a value, of each of the three. */
typedef struct worst {
    double error, value;
} worst;

static void look(worst *w, float x, double wanted) {
    const double error = fabs((double)x - wanted);
    w->error = error <= w->error ? w->error : error; /* NaN stays */
    w->value = fmax(w->value, fabs(wanted));
}

/* A line's kernel. key_blocks: a call takes so many. */
typedef struct kernel {
    const char *name;
    part_fn run;
    int32_t key_blocks;
    bool of_library;
} kernel;

/* Of the largest value. */
static double error_of(const kernel *what, length *of) {
    inputs *in = of->in;
    const int32_t dim = in->dim, rows = of->panels * PANEL;
    const size_t dq_bytes = (size_t)rows * (size_t)dim * sizeof(float);
    const double scale = what->of_library ? (double)(in->back.scale / LOG2_E) : 1; /* which dQ gets later */
    const sums x = expected(in, of->panels, what->key_blocks);
    worst q = {0}, k = {0}, v = {0};
    memset(in->dq, 0, dq_bytes);
    memset(in->back.dq, 0, dq_bytes);
    what->run(of);
    for (int32_t d = 0; d < dim; d++) {
        for (int32_t r = 0; r < rows; r++) {
            const char *panel = in->back.dq + (int64_t)(r / PANEL) * PANEL * dim * 4;
            look(&q, what->of_library ? in->dq[r * dim + d] : in_tiles(panel, dim / 16, r % PANEL, d),
                 x.dq[r * dim + d]);
        }
        for (int32_t t = 0; t < what->key_blocks * PANEL; t++) {
            const float dk = what->of_library ? in->dk[t * dim + d] : in_tiles(in->back.dk, 4, d, t);
            const float dv = what->of_library ? in->dv[t * dim + d] : in_tiles(in->back.dv, 4, d, t);
            look(&k, dk, scale * x.dk[t * dim + d]);
            look(&v, dv, x.dv[t * dim + d]);
        }
    }
    free(x.dq);
    free(x.dk);
    free(x.dv);
    return fmax(q.error / q.value, fmax(k.error / k.value, v.error / v.value));
}

/* ---- the report */

/* Adds a head dim's lines to parts; lengths has room for one of each number of panels. Returns how many there then are.
 */
static size_t add_lines(inputs *in, const int32_t *panels, size_t count_of_lengths, length *lengths, part *parts,
                        size_t count) {
    const kernel kernels[] = {{"library", library, 1, true},
                              {"library of 4 key blocks", together, KEY_BLOCKS, true},
                              {"whole pairs one phase after the other", in->dim == 64 ? rival_2 : rival_4, 1, false}};
    for (size_t i = 0; i < count_of_lengths; i++) {
        length *x = lengths + i;
        *x = (length){in, panels[i]};
        part p = {.of = x, .dim = in->dim, .panels = panels[i]};
        for (size_t n = 0; n < sizeof kernels / sizeof *kernels; n++) {
            const kernel *what = kernels + n;
            p.name = what->name;
            p.run = what->run;
            p.products = in->dim / 32 * 80;
            p.pairs = panels[i] * what->key_blocks;
            p.error = panels[i] <= 4 ? error_of(what, x) : UNCHECKED;
            parts[count++] = p;
        }
        if (i) continue;
        p.name = "P and dS";
        p.run = gradients_alone;
        p.products = 0;
        p.pairs = panels[i];
        p.error = UNCHECKED;
        parts[count++] = p;
    }
    return count;
}

int main(void) {
#ifdef NABLA_TILES_EMULATED
    static const int32_t panels[] = {4};
#else
    static const int32_t panels[] = {4, MOST_PANELS}; /* in the second and the last level of cache */
#endif
    enum { LENGTHS = sizeof panels / sizeof *panels };
    static inputs in[2];
    static length lengths[2][LENGTHS];
    static part parts[32];
    size_t count = 0;
    if (!ask_for_tiles("amx_gradient_parts")) return 2;
    tile_configure(&config);
    for (int i = 1; i >= 0; i--) {
        make_inputs(64 << i, panels[LENGTHS - 1], in + i);
        count = add_lines(in + i, panels, LENGTHS, lengths[i], parts, count);
    }
    printf("what,head_dim,panels,ns,of_peak,error\n");
    report(parts, count);
    tile_release();
    return verdict();
}

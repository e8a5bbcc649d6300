/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx_gradient_parts: amx_parts (which see) for the backward kernel, 64 keys over panels of queries, dQ included; error
 * is the largest of dQ, dK and dV as a share of the largest value.
 */
#include "amx_bench.h"
#include "amx_gradients.h"

enum { MOST_PANELS = 128 };

static gradients_job back;

static struct {
    uint16_t *q, *k, *v, *d_o; /* [tokens][D], [64][D] of k and v */
    float *lse, *delta, *dq, *dk, *dv;
    char *packed_q, *packed_k;
    int32_t q_offsets[MOST_PANELS + 1], list[MOST_PANELS + 1], k_offsets[2], dim;
    void *scratch;
} in;

/* ---- parts */

#define PART(name, body)       \
    static void name(job *j) { \
        (void)j;               \
        body                   \
    }

#define GRADIENTS_ALONE(soft)                                                 \
    for (int32_t row = 0; row < PANEL; row += 2) {                            \
        gradient_rows(soft, &back, 0, row, 0, back.p_tokens, back.ds_tokens); \
        gradient_rows(soft, &back, 0, row, 1, back.p_tokens, back.ds_tokens); \
    }
PART(gradients_5, GRADIENTS_ALONE(SOFT_5))
PART(gradients_3, GRADIENTS_ALONE(SOFT_3))

#define WHOLE(name, rt, shape, chunk, soft, text)              \
    static __attribute__((noinline)) void name##_64(job *j) {  \
        (void)j;                                               \
        walk_gradients(2, rt, shape, chunk, soft, &back);      \
    }                                                          \
    static __attribute__((noinline)) void name##_128(job *j) { \
        (void)j;                                               \
        walk_gradients(4, rt, shape, chunk, soft, &back);      \
    }
#define WHOLES(_)                                                    \
    _(w0, 4, PAIRS, 1, SOFT_5, "64 rows, pairs, chunk 1, exp 5")     \
    _(w1, 2, PAIRS, 1, SOFT_5, "32 rows, pairs, chunk 1, exp 5")     \
    _(w2, 2, PAIRS, 2, SOFT_5, "32 rows, pairs, chunk 2, exp 5")     \
    _(w3, 2, PAIRS, 2, SOFT_3, "32 rows, pairs, chunk 2, exp 3")     \
    _(w4, 2, PAIRS, 4, SOFT_3, "32 rows, pairs, chunk 4, exp 3")     \
    _(w5, 4, PAIRS, 4, SOFT_3, "64 rows, pairs, chunk 4, exp 3")     \
    _(w6, 4, SQUARES, 1, SOFT_3, "64 rows, squares, chunk 1, exp 3") \
    _(w7, 2, SQUARES, 2, SOFT_3, "32 rows, squares, chunk 2, exp 3") \
    _(w8, 2, SQUARES, 4, SOFT_3, "32 rows, squares, chunk 4, exp 3") \
    _(w9, 4, SQUARES, 4, SOFT_3, "64 rows, squares, chunk 4, exp 3")
WHOLES(WHOLE)

typedef struct whole {
    const char *name;
    part_fn of_64, of_128;
} whole;

#define LIST_WHOLE(name, rt, shape, chunk, soft, text) {text, name##_64, name##_128},
static const whole wholes[] = {WHOLES(LIST_WHOLE)};

/* ---- the library's own kernel */

static nabla_backward_task task_of(int32_t panels) {
    return (nabla_backward_task){.q = {in.q, in.dim},
                                 .k = {in.k, in.dim},
                                 .v = {in.v, in.dim},
                                 .d_o = {in.d_o, in.dim},
                                 .d_o_dtype = NABLA_BF16,
                                 .q_offsets = in.q_offsets,
                                 .k_offsets = in.k_offsets,
                                 .blocks = in.list,
                                 .block_count = panels,
                                 .head_dim = in.dim,
                                 .scale = back.scale / LOG2_E,
                                 .alpha = 1,
                                 .lse = in.lse,
                                 .delta = in.delta,
                                 .dq = in.dq,
                                 .dk = in.dk,
                                 .dv = in.dv,
                                 .q_pieces = in.list,
                                 .k_pieces = in.list,
                                 .packed_q = in.packed_q,
                                 .packed_k = in.packed_k,
                                 .scratch = in.scratch};
}

static void library(job *j) {
    (void)j;
    const nabla_backward_task task = task_of(back.panels);
    amx_backward_kv(&task);
    tile_configure(&config);
}

/* ---- inputs and results */

static void make_inputs(int32_t dim, int32_t panels) {
    const size_t d = (size_t)dim, tokens = (size_t)panels * PANEL, size = tokens * d, floats = sizeof(float);
    const size_t sums = PANEL * d * floats, form = panel_bytes(dim) * (size_t)panels;
    in.dim = dim;
    in.q = noise(size);
    in.d_o = noise(size);
    in.k = noise(PANEL * d);
    in.v = noise(PANEL * d);
    in.lse = take(tokens * floats);
    in.delta = take(tokens * floats);
    in.dq = take(size * floats);
    in.dk = take(sums);
    in.dv = take(sums);
    in.packed_q = take(amx_packed_queries(panels, dim));
    in.packed_k = take(amx_packed_keys(1, dim));
    in.scratch = take(amx_backward_scratch(dim));
    in.k_offsets[1] = PANEL;
    float *minus_lse = take(tokens * floats), *minus_delta = take(tokens * floats);
    for (size_t i = 0; i < tokens; i++) {
        in.lse[i] = 4.0f + 0.01f * (float)(i % 50);
        in.delta[i] = 0.02f * (float)(i % 30) - 0.3f;
        minus_lse[i] = -in.lse[i] * LOG2_E;
        minus_delta[i] = -in.delta[i];
    }
    char *const q_rows = take(form), *const o_rows = take(form), *const q_cols = take(form), *const o_cols = take(form);
    char *const k_dims = take(panel_bytes(dim)), *const v_dims = take(panel_bytes(dim));
    char *const k_tokens = take(panel_bytes(dim));
    for (int32_t i = 0; i < panels; i++) {
        const nabla_rows q = {in.q, dim}, d_o = {in.d_o, dim};
        in.list[i + 1] = i + 1;
        in.q_offsets[i + 1] = (i + 1) * PANEL;
        amx_pack_rows(q, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(q_rows, i, dim));
        amx_pack_rows(d_o, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(o_rows, i, dim));
        amx_pack_cols(q, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(q_cols, i, dim));
        amx_pack_cols(d_o, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(o_cols, i, dim));
    }
    amx_pack_dims((nabla_rows){in.k, dim}, NABLA_BF16, 0, PANEL, dim, k_dims);
    amx_pack_dims((nabla_rows){in.v, dim}, NABLA_BF16, 0, PANEL, dim, v_dims);
    amx_pack_tokens((nabla_rows){in.k, dim}, NABLA_BF16, 0, PANEL, dim, k_tokens);
    back = (gradients_job){.q_rows = q_rows,
                           .o_rows = o_rows,
                           .q_cols = q_cols,
                           .o_cols = o_cols,
                           .k_dims = k_dims,
                           .v_dims = v_dims,
                           .k_tokens = k_tokens,
                           .minus_lse = minus_lse,
                           .minus_delta = minus_delta,
                           .panels = panels,
                           .scale = LOG2_E / sqrtf((float)dim),
                           .s = take(16 * TILE),
                           .dp = take(16 * TILE),
                           .p_tokens = take(MOST_GRADIENT_CHUNK * P_PANEL),
                           .ds_tokens = take(MOST_GRADIENT_CHUNK * P_PANEL),
                           .ds_rows = take(P_PANEL),
                           .dk = take(sums),
                           .dv = take(sums),
                           .dq = take(size * floats)};
    nabla_backward_task task = task_of(panels);
    amx_pack_keys(&task);
    for (task.block = 0; task.block < panels; task.block++)
        amx_pack_queries(&task);
}

/* [64][D] of keys for dK and dV; [tokens][D] for dQ. */
typedef struct sums {
    double *dq, *dk, *dv;
} sums;

static sums expected(int32_t panels) {
    const int32_t dim = in.dim;
    sums x = {.dq = take((size_t)panels * PANEL * (size_t)dim * sizeof(double)),
              .dk = take(PANEL * (size_t)dim * sizeof(double)),
              .dv = take(PANEL * (size_t)dim * sizeof(double))};
    for (int32_t r = 0; r < panels * PANEL; r++)
        for (int32_t t = 0; t < PANEL; t++) {
            const uint16_t *q = in.q + r * dim, *o = in.d_o + r * dim, *k = in.k + t * dim, *v = in.v + t * dim;
            double s = 0, dp = 0;
            for (int32_t d = 0; d < dim; d++) {
                s += widen(q[d]) * widen(k[d]);
                dp += widen(o[d]) * widen(v[d]);
            }
            const double p = exp2(s * (double)back.scale - (double)in.lse[r] * (double)LOG2_E);
            const double ds = p * (dp - (double)in.delta[r]);
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

static double error_of(const sums *x, int32_t panels, bool of_library) {
    const int32_t dim = in.dim;
    const double scale = of_library ? (double)(back.scale / LOG2_E) : 1; /* which dQ gets later */
    worst q = {0}, k = {0}, v = {0};
    for (int32_t d = 0; d < dim; d++) {
        for (int32_t r = 0; r < panels * PANEL; r++)
            look(&q,
                 of_library ? in.dq[r * dim + d]
                            : in_tiles(back.dq + (int64_t)(r / PANEL) * PANEL * dim * 4, dim / 16, r % PANEL, d),
                 x->dq[r * dim + d]);
        for (int32_t t = 0; t < PANEL; t++) {
            look(&k, of_library ? in.dk[t * dim + d] : in_tiles(back.dk, 4, d, t), scale * x->dk[t * dim + d]);
            look(&v, of_library ? in.dv[t * dim + d] : in_tiles(back.dv, 4, d, t), x->dv[t * dim + d]);
        }
    }
    return fmax(q.error / q.value, fmax(k.error / k.value, v.error / v.value));
}

/* ---- the report */

static void report(int32_t panels) {
    const int32_t dim = in.dim, tiles = dim / 32 * 80;
    const size_t dq_bytes = (size_t)panels * PANEL * (size_t)dim * sizeof(float);
    back.panels = panels;
    const sums x = expected(panels < 4 ? panels : 4);
    for (size_t i = 0; i <= sizeof wholes / sizeof *wholes; i++) {
        const whole *w = i ? wholes + i - 1 : NULL;
        const part_fn run = !w ? library : dim == 64 ? w->of_64 : w->of_128;
        if (i % 4 == 0) find_peak();
        const double ns = time_of(run, NULL) / panels;
        double error = UNCHECKED_ERROR;
        if (panels <= 4) {
            memset(in.dq, 0, dq_bytes);
            memset(back.dq, 0, dq_bytes);
            run(NULL);
            error = error_of(&x, panels, !w);
        }
        print_pair(w ? w->name : "library", dim, panels, tiles, ns, error);
    }
    free(x.dq);
    free(x.dk);
    free(x.dv);
}

int main(void) {
    if (!ask_for_tiles("amx_gradient_parts")) return 2;
    printf("what,head_dim,panels,ns,of_peak,error\n");
    for (int32_t dim = MOST_DIM; dim >= 64; dim -= 64) {
#ifdef NABLA_TILES_EMULATED
        const int32_t most = 4;
#else
        const int32_t most = MOST_PANELS;
#endif
        make_inputs(dim, most);
        tile_configure(&config);
        find_peak();
        print_pair("P and dS alone, exp 5", dim, 1, 0, time_of(gradients_5, NULL), UNCHECKED_ERROR);
        print_pair("P and dS alone, exp 3", dim, 1, 0, time_of(gradients_3, NULL), UNCHECKED_ERROR);
        report(4);
        if (most > 4) report(most);
    }
    tile_release();
    return verdict();
}

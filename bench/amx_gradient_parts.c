/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx_gradient_parts: amx_parts (which see) for the backward kernel, 64 keys over panels of queries, dQ included; error
 * is the largest of dQ, dK and dV as a share of the largest value. Parts: P and dS of a panel of keys with the products
 * of S and dP, and one of the three sums.
 */
#include "amx_backward.h"
#include "amx_bench.h"
#include "amx_gradients.h"
#include "amx_sums.h"

enum { MOST_PANELS = 128, KEY_BLOCKS = NABLA_MOST_TOGETHER, CHUNK = 8 };

/* Of one head dim. */
typedef struct inputs {
    uint16_t *q, *k, *v, *d_o; /* [tokens][D], [KEY_BLOCKS * 64][D] of k and v */
    float *lse, *delta, *dq, *dk, *dv;
    char *packed_q, *packed_k;
    int32_t q_offsets[MOST_PANELS + 1], list[MOST_PANELS + 1], k_offsets[KEY_BLOCKS + 1], dim;
    float scale;
    void *scratch;
    float *minus_lse, *minus_delta; /* in log2 units */
    half_scores *scores;
    uint16_t *p_tokens, *ds_tokens, *ds_rows; /* of CHUNK pairs */
    char *sum;
} inputs;

/* The first `panels` panels of the queries. */
typedef struct length {
    inputs *in;
    int32_t panels;
} length;

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
                                 .scale = x->scale,
                                 .alpha = 1,
                                 .lse = x->lse,
                                 .delta = x->delta,
                                 .dq = x->dq,
                                 .dk = x->dk,
                                 .dv = x->dv,
                                 .dk_stride = x->dim,
                                 .dv_stride = x->dim,
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

/* ---- parts, a few panels at a time as the library takes them */

static void gradients_alone(void *of) {
    const length *x = of;
    const inputs *in = x->in;
    const nabla_backward_task t = task_of(x->in, x->panels);
    pair_terms pairs[CHUNK];
    const gradients_job job = {
        .scores = in->scores, .scale_log2 = in->scale * LOG2_E, .alpha = 1, .pairs = pairs, .count = CHUNK};
    for (int32_t i = 0; i < x->panels; i += CHUNK) {
        for (int32_t n = 0; n < CHUNK; n++)
            pairs[n] = (pair_terms){.q = query_form(&t, i + n, Q_ROWS),
                                    .d_o = query_form(&t, i + n, DO_ROWS),
                                    .k = key_form(&t, 0, K_DIMS),
                                    .v = key_form(&t, 0, V_DIMS),
                                    .minus_lse = in->minus_lse + (i + n) * PANEL,
                                    .minus_delta = in->minus_delta + (i + n) * PANEL,
                                    .ds_rows = in->ds_rows + n * PANEL * PANEL,
                                    .p_tokens = in->p_tokens + n * PANEL * PANEL,
                                    .ds_tokens = in->ds_tokens + n * PANEL * PANEL,
                                    .keys = PANEL};
        for (int32_t half = 0; half < KEY_HALVES; half++)
            if (in->dim == 128)
                half_gradients(4, 1, true, &job, half);
            else
                half_gradients(2, 2, true, &job, half);
    }
}

static void sum_alone(void *of) {
    const length *x = of;
    const inputs *in = x->in;
    const nabla_backward_task t = task_of(x->in, x->panels);
    sum_tiles last = {.at = NULL};
    for (int32_t i = 0; i < x->panels; i += CHUNK) {
        token_sum v = {.panels = CHUNK, .c = {in->sum, PANEL / VL * TILE, TILE, 64}};
        for (int32_t n = 0; n < CHUNK; n++) {
            v.a[n] = query_form(&t, i + n, DO_COLS);
            v.b[n] = (const char *)(in->p_tokens + n * PANEL * PANEL);
        }
        add_sum(false, &v, in->dim / VL, PANEL / VL, &last);
    }
    store_last_square(&last);
}

/* ---- inputs and results */

static void make_inputs(int32_t dim, int32_t panels, inputs *x) {
    const size_t d = (size_t)dim, tokens = (size_t)panels * PANEL, size = tokens * d, floats = sizeof(float);
    const size_t sums = PANEL * d * floats, terms = CHUNK * PANEL * PANEL * sizeof(uint16_t);
    x->dim = dim;
    x->scale = 1 / sqrtf((float)dim);
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
    x->minus_lse = take(tokens * floats);
    x->minus_delta = take(tokens * floats);
    x->scores = take(2 * sizeof *x->scores);
    x->p_tokens = take(terms);
    x->ds_tokens = take(terms);
    x->ds_rows = take(terms);
    x->sum = take(sums);
    for (size_t i = 0; i < tokens; i++) {
        x->lse[i] = 4.0f + 0.01f * (float)(i % 50);
        x->delta[i] = 0.02f * (float)(i % 30) - 0.3f;
        x->minus_lse[i] = -x->lse[i] * LOG2_E;
        x->minus_delta[i] = -x->delta[i];
    }
    for (int32_t i = 0; i <= MOST_PANELS; i++) {
        x->list[i] = i;
        x->q_offsets[i] = i * PANEL;
    }
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
            const double p = exp(s * (double)in->scale - (double)in->lse[r]);
            const double ds = p * (dp - (double)in->delta[r]);
            for (int32_t d = 0; d < dim; d++) {
                x.dq[r * dim + d] += ds * widen(k[d]);
                x.dk[t * dim + d] += ds * widen(q[d]);
                x.dv[t * dim + d] += p * widen(o[d]);
            }
        }
    return x;
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
} kernel;

/* Of the largest value. */
static double error_of(const kernel *what, length *of) {
    inputs *in = of->in;
    const int32_t dim = in->dim, rows = of->panels * PANEL;
    const double scale = (double)in->scale; /* which dQ gets later */
    const sums x = expected(in, of->panels, what->key_blocks);
    worst q = {0}, k = {0}, v = {0};
    memset(in->dq, 0, (size_t)rows * (size_t)dim * sizeof(float));
    what->run(of);
    for (int32_t i = 0; i < rows * dim; i++)
        look(&q, in->dq[i], x.dq[i]);
    for (int32_t i = 0; i < what->key_blocks * PANEL * dim; i++) {
        look(&k, in->dk[i], scale * x.dk[i]);
        look(&v, in->dv[i], x.dv[i]);
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
    const kernel kernels[] = {{"library", library, 1}, {"library, neighbours together", together, KEY_BLOCKS}};
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
            p.error = panels[i] <= CHUNK ? error_of(what, x) : UNCHECKED;
            parts[count++] = p;
        }
        p.pairs = panels[i];
        p.error = UNCHECKED;
        p.name = "P and dS";
        p.run = gradients_alone;
        p.products = in->dim / 32 * 32;
        parts[count++] = p;
        p.name = "a sum";
        p.run = sum_alone;
        p.products = in->dim / 32 * 16;
        parts[count++] = p;
    }
    return count;
}

int main(void) {
#ifdef NABLA_TILES_EMULATED
    static const int32_t panels[] = {CHUNK};
#else
    static const int32_t panels[] = {CHUNK, MOST_PANELS}; /* in the second and the last level of cache */
#endif
    enum { LENGTHS = sizeof panels / sizeof *panels };
    static inputs in[2];
    static length lengths[2][LENGTHS];
    static part parts[32];
    size_t count = 0;
    if (!ask_for_tiles("amx_gradient_parts")) return SKIPPED;
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

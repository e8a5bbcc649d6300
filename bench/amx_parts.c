/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx_parts: where the forward kernel in tiles spends its time, and whether another shape of it is faster. One core,
 * CSV on stdout:
 *
 *     what,head_dim,panels,ns,of_peak,error
 *
 * ns is of one pair of 64 queries and 64 keys; of_peak is the share of the rate of tile products measured in the same
 * rounds; error is the largest of O, of values about 1, against sums in fp64. Exit code 1: a result is wrong. It runs
 * where the tiles are emulated, too, for the results alone.
 */
#include "amx_bench.h"

enum { MOST_PANELS = 256 };

/* ---- parts of a pair */

static void softmax_alone(void *of) {
    const job *j = of;
    for (int32_t i = 0; i < j->panels; i++) {
        softmax run = softmax_of(j, 0, j->p, v_zero());
        while (run.row < PANEL)
            softmax_row(&run);
    }
}

#define PARTS(depth)                                                                              \
    static void scores_##depth(void *of) {                                                        \
        const job *j = of;                                                                        \
        for (int32_t i = 0; i < j->panels; i++)                                                   \
            scores(depth, 0, j->q, j->k + (int64_t)i * 4 * depth * TILE, j->s, NULL);             \
    }                                                                                             \
    static void outputs_##depth(void *of) {                                                       \
        const job *j = of;                                                                        \
        for (int32_t i = 0; i < j->panels; i += CHUNK)                                            \
            outputs(depth, 0, 0, 2 * depth, j->p, j->v + (int64_t)i * 4 * depth * TILE, j, NULL); \
    }                                                                                             \
    static void apart_##depth(void *of) {                                                         \
        walk(depth, false, of);                                                                   \
    }                                                                                             \
    static void mixed_##depth(void *of) {                                                         \
        walk(depth, true, of);                                                                    \
    }
PARTS(2)
PARTS(4)

/* ---- the library's own kernel, over the same panels */

/* Of one head dim. */
typedef struct inputs {
    uint16_t *q, *k, *v; /* [64][D], [tokens][D] */
    char *packed_k, *packed_v;
    float *o;
    int32_t offsets[MOST_PANELS + 1], list[MOST_PANELS + 1], dim; /* list: block i is i, and piece i */
    void *scratch;
} inputs;

static inputs in[2]; /* 64, 128 */

static const inputs *inputs_of(int32_t dim) {
    return in + (dim == 128);
}

/* The same queries `count` times. */
static void library(const job *j, int32_t dim, int32_t count) {
    const inputs *x = inputs_of(dim);
    nabla_forward_task tasks[NABLA_MOST_TOGETHER];
    for (int32_t i = 0; i < count; i++)
        tasks[i] = (nabla_forward_task){.q = {x->q, dim},
                                        .q_count = PANEL,
                                        .k_offsets = x->offsets,
                                        .blocks = x->list,
                                        .block_count = j->panels,
                                        .head_dim = dim,
                                        .scale = j->scale / LOG2_E,
                                        .alpha = 1,
                                        .o = x->o,
                                        .o_stride = dim,
                                        .o_dtype = NABLA_FP32,
                                        .packed_k = x->packed_k,
                                        .packed_v = x->packed_v,
                                        .k_pieces = x->list,
                                        .scratch = x->scratch,
                                        .next = i + 1 < count ? tasks + i + 1 : NULL};
    amx_forward(tasks);
    tile_configure(&config);
}

#define LIBRARY(depth)                                  \
    static void library_##depth(void *of) {             \
        library(of, 32 * (depth), 1);                   \
    }                                                   \
    static void together_##depth(void *of) {            \
        library(of, 32 * (depth), NABLA_MOST_TOGETHER); \
    }
LIBRARY(2)
LIBRARY(4)

/* ---- inputs and results */

static job make_inputs(int32_t dim, int32_t panels) {
    const size_t tokens = (size_t)panels * PANEL, size = tokens * (size_t)dim;
    inputs *x = in + (dim == 128);
    *x = (inputs){.q = noise(PANEL * (size_t)dim), .k = noise(size), .v = noise(size), .dim = dim};
    x->packed_k = take(size * 2);
    x->packed_v = take(size * 2);
    x->o = take(PANEL * (size_t)dim * 4);
    x->scratch = take(amx_forward_scratch(dim));
    for (int32_t i = 0; i < panels; i++) {
        x->list[i + 1] = i + 1;
        x->offsets[i + 1] = (i + 1) * PANEL;
        amx_pack_dims((nabla_rows){x->k, dim}, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(x->packed_k, i, dim));
        amx_pack_tokens((nabla_rows){x->v, dim}, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(x->packed_v, i, dim));
    }
    char *q = take(panel_bytes(dim));
    amx_pack_rows((nabla_rows){x->q, dim}, NABLA_BF16, 0, PANEL, dim, q);
    job j = {.q = q,
             .k = x->packed_k,
             .v = x->packed_v,
             .panels = panels,
             .scale = LOG2_E / sqrtf((float)dim),
             .s = take(32 * TILE),
             .p = take(2 * CHUNK * P_PANEL),
             .o = take((size_t)8 * (size_t)dim / 32 * TILE),
             .sums = take(PANEL * sizeof *j.sums)};
    for (int i = 0; i < PANEL; i++)
        j.below[i] = -1.7f;
    return j;
}

/* O of the walks lies in tiles, undivided. */
static double output_at(const job *j, int32_t dim, int32_t row, int32_t d) {
    const float *tile = (const float *)(j->o + (row / 16 * (dim / 16) + d / 16) * TILE);
    double sum = 0;
    for (int i = 0; i < VL; i++)
        sum += (double)j->sums[row][i];
    return (double)tile[row % 16 * VL + d % 16] / sum;
}

static double *expected(const inputs *x, const job *j) {
    double *o = take((size_t)PANEL * (size_t)x->dim * sizeof *o);
    for (int32_t r = 0; r < PANEL; r++) {
        double sum = 0, *row = o + r * x->dim;
        for (int32_t t = 0; t < j->panels * PANEL; t++) {
            double s = 0;
            for (int32_t d = 0; d < x->dim; d++)
                s += widen(x->q[r * x->dim + d]) * widen(x->k[t * x->dim + d]);
            const double p = exp2(s * (double)j->scale);
            sum += p;
            for (int32_t d = 0; d < x->dim; d++)
                row[d] += p * widen(x->v[t * x->dim + d]);
        }
        for (int32_t d = 0; d < x->dim; d++)
            row[d] /= sum;
    }
    return o;
}

static double error_of(part_fn run, job *j, int32_t dim, bool of_library, const double *o) {
    const inputs *x = inputs_of(dim);
    double most = 0;
    run(j);
    for (int32_t r = 0; r < PANEL; r++)
        for (int32_t d = 0; d < dim; d++) {
            const double got = of_library ? (double)x->o[r * dim + d] : output_at(j, dim, r, d);
            const double error = fabs(got - o[r * dim + d]);
            most = error <= most ? most : error; /* NaN stays */
        }
    failed = failed || (!of_library && j->far);
    return most;
}

/* ---- the report */

static const struct {
    const char *name;
    part_fn of_64, of_128;
    int32_t together; /* query blocks a call; 0: not the library's */
} wholes[] = {{"library", library_2, library_4, 1},
              {"library of 4 query blocks", together_2, together_4, NABLA_MOST_TOGETHER},
              {"P between S and O", apart_2, apart_4, 0},
              {"P amid S and O", mixed_2, mixed_4, 0}};

/* Adds a head dim's lines to parts; jobs has room for one of each number of panels. Returns how many there then are. */
static size_t add_lines(int32_t dim, const int32_t *panels, size_t lengths, job *jobs, part *parts, size_t count) {
    const bool is_64 = dim == 64;
    const int32_t s = dim / 32 * 16;
    const job all = make_inputs(dim, panels[lengths - 1]);
    for (size_t i = 0; i < lengths; i++) {
        job *j = jobs + i;
        *j = all;
        j->panels = panels[i];
        double *o = panels[i] <= 4 ? expected(inputs_of(dim), j) : NULL;
        for (size_t n = 0; n < sizeof wholes / sizeof *wholes; n++) {
            const part_fn run = is_64 ? wholes[n].of_64 : wholes[n].of_128;
            parts[count++] = (part){.name = wholes[n].name,
                                    .run = run,
                                    .of = j,
                                    .dim = dim,
                                    .panels = panels[i],
                                    .products = 2 * s,
                                    .pairs = panels[i] * (wholes[n].together ? wholes[n].together : 1),
                                    .error = o ? error_of(run, j, dim, wholes[n].together, o) : UNCHECKED};
        }
        free(o);
    }
    const int32_t n = jobs[lengths - 2].panels;
    part x = {.of = jobs + lengths - 2, .dim = dim, .panels = n, .products = s, .pairs = n, .error = UNCHECKED};
    x.name = "S";
    x.run = is_64 ? scores_2 : scores_4;
    parts[count++] = x;
    x.name = "O";
    x.run = is_64 ? outputs_2 : outputs_4;
    parts[count++] = x;
    x.name = "P";
    x.run = softmax_alone;
    x.products = 0;
    parts[count++] = x;
    return count;
}

int main(void) {
#ifdef NABLA_TILES_EMULATED
    static const int32_t panels[] = {2, 4};
#else
    static const int32_t panels[] = {4, 16, MOST_PANELS}; /* in the first, the second and the last level of cache */
#endif
    enum { LENGTHS = sizeof panels / sizeof *panels };
    static job jobs[2][LENGTHS];
    static part parts[64];
    if (!ask_for_tiles("amx_parts")) return 2;
    tile_configure(&config);
    size_t count = add_lines(128, panels, LENGTHS, jobs[1], parts, 0);
    count = add_lines(64, panels, LENGTHS, jobs[0], parts, count);
    printf("what,head_dim,panels,ns,of_peak,error\n");
    report(parts, count);
    tile_release();
    return verdict();
}

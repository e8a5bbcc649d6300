/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx_parts: where the forward kernel in tiles spends its time, and what a pair takes in it. One core,
 * CSV on stdout:
 *
 *     what,head_dim,panels,ns,of_peak,error
 *
 * ns is of one pair of 64 queries and 64 keys; of_peak is the share of the rate of tile products measured in the same
 * rounds; error is the largest of O, of values about 1, against sums in fp64. Exit code 1: a result is wrong. It runs
 * where the tiles are emulated, too, for the results alone.
 */
#include "amx_bench.h"
#include "amx_pair.h"

enum { MOST_PANELS = 256, CHECKED_PANELS = 40 /* more than a window of amx_walk.h has at D = 64 and 128 */ };

/* ---- parts of a pair */

/* 32 queries, twice for a pair, and what the parts make of them. */
typedef struct job {
    const char *q;       /* rows */
    const char *k, *v;   /* panels as dims and as tokens */
    int32_t dim, panels; /* of the parts */
    float scale;         /* in log2 units */
    score_terms *terms;  /* [2] */
    statistics *of;
    char *o; /* [2][D / 16] tiles */
} job;

static void softmax_alone(void *of) {
    const job *j = of;
    const softmax_constants constants = softmax_constants_of(j->scale);
    for (int32_t i = 0; i < j->panels * HALVES; i++) {
        softmax run = softmax_from(0, constants, j->terms + i % 2, j->of);
        softmax_rest(&run);
    }
}

#define SCORES(depth)                                                                                                  \
    static void scores_##depth(void *of) {                                                                             \
        const job *j = of;                                                                                             \
        square old = {.c = NULL}, now;                                                                                 \
        for (int32_t i = 0; i < j->panels * HALVES; i++)                                                               \
            for (int32_t column = 0; column < 4; column += 2, old = now) {                                             \
                now = scores_square(depth, j->q, packed_panel(j->k, i % j->panels, j->dim), j->terms + i % 2, column); \
                ADD_SQUARE(depth, &now, &old, (void)0, (void)0);                                                       \
            }                                                                                                          \
        finish_square(&old);                                                                                           \
    }
SCORES(2)
SCORES(4)

static void outputs(void *of) {
    const job *j = of;
    square old = {.c = NULL}, now;
    for (int32_t i = 0; i < j->panels * HALVES; i++)
        for (int32_t column = 0; column < j->dim / VL; column += 2, old = now) {
            now = output_square(j->dim / 32, j->terms + i % 2, packed_panel(j->v, i % j->panels, j->dim), j->o, column);
            ADD_SQUARE(2, &now, &old, (void)0, (void)0);
        }
    finish_square(&old);
}

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
static void library(const job *j, int32_t count) {
    const inputs *x = inputs_of(j->dim);
    nabla_forward_task tasks[NABLA_FORWARD_TOGETHER];
    for (int32_t i = 0; i < count; i++)
        tasks[i] = (nabla_forward_task){.q = {x->q, x->dim},
                                        .q_count = PANEL,
                                        .k_offsets = x->offsets,
                                        .blocks = x->list,
                                        .block_count = j->panels,
                                        .head_dim = x->dim,
                                        .scale = j->scale / LOG2_E,
                                        .alpha = 1,
                                        .o = x->o,
                                        .o_stride = x->dim,
                                        .o_dtype = NABLA_FP32,
                                        .packed_k = x->packed_k,
                                        .packed_v = x->packed_v,
                                        .k_pieces = x->list,
                                        .scratch = x->scratch,
                                        .next = i + 1 < count ? tasks + i + 1 : NULL};
    amx_forward(tasks);
    tile_configure(&config);
}

static void one_block(void *of) {
    library(of, 1);
}
static void together(void *of) {
    library(of, NABLA_FORWARD_TOGETHER);
}

/* ---- inputs and results */

static job make_inputs(int32_t dim, int32_t panels) {
    const size_t tokens = (size_t)panels * PANEL, size = tokens * (size_t)dim;
    inputs *x = in + (dim == 128);
    *x = (inputs){.q = noise(PANEL * (size_t)dim), .k = noise(size), .v = noise(size), .dim = dim};
    x->packed_k = take((size_t)panels * packed_panel_bytes(dim));
    x->packed_v = take((size_t)panels * packed_panel_bytes(dim));
    x->o = take(PANEL * (size_t)dim * 4);
    x->scratch = take(amx_forward_scratch(dim));
    for (int32_t i = 0; i < panels; i++) {
        x->list[i + 1] = i + 1;
        x->offsets[i + 1] = (i + 1) * PANEL;
        amx_pack_dims((nabla_rows){x->k, dim}, NABLA_BF16, i * PANEL, PANEL, dim, packed_panel(x->packed_k, i, dim));
        amx_pack_tokens((nabla_rows){x->v, dim}, NABLA_BF16, i * PANEL, PANEL, dim, 16,
                        packed_panel(x->packed_v, i, dim));
    }
    char *q = take(panel_bytes(dim));
    amx_pack_rows((nabla_rows){x->q, dim}, NABLA_BF16, 0, PANEL, dim, q);
    job j = {.q = q,
             .k = x->packed_k,
             .v = x->packed_v,
             .dim = dim,
             .panels = panels,
             .scale = LOG2_E / sqrtf((float)dim),
             .terms = take(2 * sizeof *j.terms),
             .of = take(sizeof *j.of),
             .o = take(panel_bytes(dim))};
    for (int i = 0; i < HALF; i++)
        j.of->below[i] = -1.7f; /* there is none better: scores are never far above 0 */
    return j;
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

static double error_of(part_fn run, job *j, const double *o) {
    const inputs *x = inputs_of(j->dim);
    double most = 0;
    run(j);
    for (int32_t i = 0; i < PANEL * j->dim; i++) {
        const double error = fabs((double)x->o[i] - o[i]);
        most = error <= most ? most : error; /* NaN stays */
    }
    return most;
}

/* ---- the report */

static const struct {
    const char *name;
    part_fn run;
    int32_t together; /* query blocks a call */
} wholes[] = {{"library", one_block, 1}, {"library, neighbours together", together, NABLA_FORWARD_TOGETHER}};

/* Adds a head dim's lines to parts; jobs has room for one of each number of panels. Returns how many there then are. */
static size_t add_lines(int32_t dim, const int32_t *panels, size_t lengths, job *jobs, part *parts, size_t count) {
    const int32_t s = dim / 32 * 16;
    const job all = make_inputs(dim, panels[lengths - 1]);
    for (size_t i = 0; i < lengths; i++) {
        job *j = jobs + i;
        *j = all;
        j->panels = panels[i];
        double *o = panels[i] <= CHECKED_PANELS ? expected(inputs_of(dim), j) : NULL;
        for (size_t n = 0; n < sizeof wholes / sizeof *wholes; n++) {
            parts[count++] = (part){.name = wholes[n].name,
                                    .run = wholes[n].run,
                                    .of = j,
                                    .dim = dim,
                                    .panels = panels[i],
                                    .products = 2 * s,
                                    .pairs = panels[i] * wholes[n].together,
                                    .error = o ? error_of(wholes[n].run, j, o) : UNCHECKED};
        }
        free(o);
    }
    const int32_t n = jobs[lengths - 2].panels;
    part x = {.of = jobs + lengths - 2, .dim = dim, .panels = n, .products = s, .pairs = n, .error = UNCHECKED};
    x.name = "S";
    x.run = dim == 64 ? scores_2 : scores_4;
    parts[count++] = x;
    x.name = "O";
    x.run = outputs;
    parts[count++] = x;
    x.name = "P";
    x.run = softmax_alone;
    x.products = 0;
    parts[count++] = x;
    return count;
}

int main(void) {
#ifdef NABLA_TILES_EMULATED
    static const int32_t panels[] = {8, CHECKED_PANELS};
#else
    static const int32_t panels[] = {4, 16, MOST_PANELS}; /* in the first, the second and the last level of cache */
#endif
    enum { LENGTHS = sizeof panels / sizeof *panels };
    static job jobs[2][LENGTHS];
    static part parts[64];
    if (!ask_for_tiles("amx_parts")) return SKIPPED;
    tile_configure(&config);
    size_t count = add_lines(128, panels, LENGTHS, jobs[1], parts, 0);
    count = add_lines(64, panels, LENGTHS, jobs[0], parts, count);
    printf("what,head_dim,panels,ns,of_peak,error\n");
    report(parts, count);
    tile_release();
    return verdict();
}

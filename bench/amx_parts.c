/* SPDX-License-Identifier: Apache-2.0 */
/*
 * amx_parts: where a forward kernel in tiles spends its time, and which shape of it is fastest. One core, CSV on
 * stdout:
 *
 *     what,head_dim,panels,ns,of_peak,error
 *
 * ns is of one pair of 64 queries and 64 keys, or of one instruction where the name ends in "each"; of_peak is the
 * share of the rate of tile products measured beside it; error is the largest of O, of values about 1, against sums in
 * fp64. Exit code 1: a result is wrong. It runs where the tiles are emulated, too, for the results alone. See
 * amx_walks.h for the words in the names.
 */
#include "amx_bench.h"

enum { MOST_PANELS = 256 };

/* ---- parts of a pair */

#define SOFTMAX_ALONE(name, soft)                             \
    static void name(job *j) {                                \
        softmax run = {.s = (const float *)j->s,              \
                       .p = j->p,                             \
                       .start = j->m,                         \
                       .before = (const float(*)[VL])j->sums, \
                       .after = j->sums,                      \
                       .scale = v_set1(j->scale)};            \
        TIMES(PANEL) make_row(soft, &run);                    \
        j->far = passed(&run);                                \
    }
SOFTMAX_ALONE(softmax_5, SOFT_5)
SOFTMAX_ALONE(softmax_3, SOFT_3)
SOFTMAX_ALONE(softmax_word, SOFT_WORD)

/* Over all panels, each apart. */
#define SCORES_ALONE(name, depth, rt, shape)                                           \
    static void name(job *j) {                                                         \
        softmax_run run = {0};                                                         \
        for (int32_t i = 0; i < j->panels; i++)                                        \
            for (int first = 0; first < 4; first += rt)                                \
                scores(depth, rt, shape, SOFT_NONE, 0, 0, j->q + first * depth * TILE, \
                       j->k + (int64_t)i * 4 * depth * TILE, j->s, &run);              \
    }
#define OUTPUTS_ALONE(name, depth, rt, shape, chunk)                                                           \
    static void name(job *j) {                                                                                 \
        softmax_run run = {0};                                                                                 \
        for (int32_t i = 0; i < j->panels; i += chunk)                                                         \
            for (int first = 0; first < 4; first += rt)                                                        \
                outputs(depth, rt, shape, chunk, 0, 2 * depth, SOFT_NONE, 0, 0, j->p + first * 2 * TILE,       \
                        j->v + (int64_t)i * 4 * depth * TILE, j->o + (int64_t)first * 2 * depth * TILE, &run); \
    }
SCORES_ALONE(s_strips_64, 2, 2, PAIRS)
SCORES_ALONE(s_strips_128, 4, 2, PAIRS)
SCORES_ALONE(s_pairs_64, 2, 4, PAIRS)
SCORES_ALONE(s_pairs_128, 4, 4, PAIRS)
SCORES_ALONE(s_squares_64, 2, 4, SQUARES)
SCORES_ALONE(s_squares_128, 4, 4, SQUARES)
OUTPUTS_ALONE(o_strips_64, 2, 2, PAIRS, 1)
OUTPUTS_ALONE(o_strips_128, 4, 2, PAIRS, 1)
OUTPUTS_ALONE(o_pairs_1_64, 2, 4, PAIRS, 1)
OUTPUTS_ALONE(o_pairs_1_128, 4, 4, PAIRS, 1)
OUTPUTS_ALONE(o_pairs_2_64, 2, 4, PAIRS, 2)
OUTPUTS_ALONE(o_pairs_2_128, 4, 4, PAIRS, 2)
OUTPUTS_ALONE(o_pairs_4_128, 4, 4, PAIRS, 4)
OUTPUTS_ALONE(o_squares_1_64, 2, 4, SQUARES, 1)
OUTPUTS_ALONE(o_squares_1_128, 4, 4, SQUARES, 1)
OUTPUTS_ALONE(o_squares_2_64, 2, 4, SQUARES, 2)
OUTPUTS_ALONE(o_squares_2_128, 4, 4, SQUARES, 2)
OUTPUTS_ALONE(o_squares_4_128, 4, 4, SQUARES, 4)

typedef struct product {
    const char *name;
    part_fn of_64, of_128;
} product;

static const product products[] = {
    {"S, 32 rows, pairs", s_strips_64, s_strips_128},
    {"S, 64 rows, pairs", s_pairs_64, s_pairs_128},
    {"S, 64 rows, squares", s_squares_64, s_squares_128},
    {"O, 32 rows, pairs", o_strips_64, o_strips_128},
    {"O, 64 rows, pairs", o_pairs_1_64, o_pairs_1_128},
    {"O, 64 rows, pairs, chunk 2", o_pairs_2_64, o_pairs_2_128},
    {"O, 64 rows, pairs, chunk 4", NULL, o_pairs_4_128},
    {"O, 64 rows, squares", o_squares_1_64, o_squares_1_128},
    {"O, 64 rows, squares, chunk 2", o_squares_2_64, o_squares_2_128},
    {"O, 64 rows, squares, chunk 4", NULL, o_squares_4_128},
};

/* ---- whole kernels */

#define WHOLE(name, rt, shape, chunk, soft, mix, fetch)        \
    static __attribute__((noinline)) void name##_64(job *j) {  \
        walk(2, rt, shape, chunk, soft, mix, fetch, j);        \
    }                                                          \
    static __attribute__((noinline)) void name##_128(job *j) { \
        walk(4, rt, shape, chunk, soft, mix, fetch, j);        \
    }

#define WHOLES(_)                                                                       \
    _(w00, 2, PAIRS, 1, SOFT_5, 2, 0, "32 rows, pairs, chunk 1, exp 5, mix 2")          \
    _(w01, 2, PAIRS, 1, SOFT_5, 0, 0, "32 rows, pairs, chunk 1, exp 5, mix 0")          \
    _(w02, 2, PAIRS, 2, SOFT_5, 0, 0, "32 rows, pairs, chunk 2, exp 5, mix 0")          \
    _(w03, 2, PAIRS, 2, SOFT_WORD, 0, 0, "32 rows, pairs, chunk 2, word, mix 0")        \
    _(w04, 4, PAIRS, 1, SOFT_5, 0, 0, "64 rows, pairs, chunk 1, exp 5, mix 0")          \
    _(w05, 4, PAIRS, 2, SOFT_5, 0, 0, "64 rows, pairs, chunk 2, exp 5, mix 0")          \
    _(w06, 4, PAIRS, 2, SOFT_5, 0, 8, "64 rows, pairs, chunk 2, exp 5, mix 0, fetch")   \
    _(w07, 4, PAIRS, 2, SOFT_5, 1, 0, "64 rows, pairs, chunk 2, exp 5, mix 1")          \
    _(w08, 4, PAIRS, 2, SOFT_5, 2, 0, "64 rows, pairs, chunk 2, exp 5, mix 2")          \
    _(w09, 4, PAIRS, 2, SOFT_5, 2, 8, "64 rows, pairs, chunk 2, exp 5, mix 2, fetch")   \
    _(w10, 4, PAIRS, 2, SOFT_3, 0, 0, "64 rows, pairs, chunk 2, exp 3, mix 0")          \
    _(w11, 4, PAIRS, 2, SOFT_3, 2, 0, "64 rows, pairs, chunk 2, exp 3, mix 2")          \
    _(w12, 4, PAIRS, 2, SOFT_WORD, 0, 0, "64 rows, pairs, chunk 2, word, mix 0")        \
    _(w13, 4, PAIRS, 2, SOFT_WORD, 0, 8, "64 rows, pairs, chunk 2, word, mix 0, fetch") \
    _(w14, 4, PAIRS, 2, SOFT_WORD, 1, 0, "64 rows, pairs, chunk 2, word, mix 1")        \
    _(w15, 4, PAIRS, 2, SOFT_WORD, 2, 0, "64 rows, pairs, chunk 2, word, mix 2")        \
    _(w16, 4, PAIRS, 2, SOFT_WORD, 2, 8, "64 rows, pairs, chunk 2, word, mix 2, fetch") \
    _(w17, 4, PAIRS, 4, SOFT_WORD, 0, 0, "64 rows, pairs, chunk 4, word, mix 0")        \
    _(w18, 4, SQUARES, 2, SOFT_5, 0, 0, "64 rows, squares, chunk 2, exp 5, mix 0")      \
    _(w19, 4, SQUARES, 2, SOFT_5, 2, 0, "64 rows, squares, chunk 2, exp 5, mix 2")      \
    _(w20, 4, SQUARES, 2, SOFT_WORD, 0, 0, "64 rows, squares, chunk 2, word, mix 0")    \
    _(w21, 4, SQUARES, 2, SOFT_WORD, 1, 0, "64 rows, squares, chunk 2, word, mix 1")    \
    _(w22, 4, SQUARES, 2, SOFT_WORD, 2, 0, "64 rows, squares, chunk 2, word, mix 2")

#define DEFINE_WHOLE(name, rt, shape, chunk, soft, mix, fetch, text) WHOLE(name, rt, shape, chunk, soft, mix, fetch)
WHOLES(DEFINE_WHOLE)

typedef struct whole {
    const char *name;
    part_fn of_64, of_128;
} whole;

#define LIST_WHOLE(name, rt, shape, chunk, soft, mix, fetch, text) {text, name##_64, name##_128},
static const whole wholes[] = {WHOLES(LIST_WHOLE)};

/* ---- the library's own kernel, over the same panels */

typedef struct inputs {
    uint16_t *q, *k, *v; /* [64][D], [tokens][D] */
    char *packed_k, *packed_v;
    float *o;
    int32_t offsets[MOST_PANELS + 1], list[MOST_PANELS + 1], dim; /* list: block i is i, and piece i */
    void *scratch;
} inputs;

static inputs in;

static void forward(job *j, float *lse) {
    const nabla_forward_task task = {.q = {in.q, in.dim},
                                     .q_count = PANEL,
                                     .k_offsets = in.offsets,
                                     .blocks = in.list,
                                     .block_count = j->panels,
                                     .head_dim = in.dim,
                                     .scale = j->scale / LOG2_E,
                                     .alpha = 1,
                                     .o = in.o,
                                     .o_stride = in.dim,
                                     .o_dtype = NABLA_FP32,
                                     .lse = lse,
                                     .packed_k = in.packed_k,
                                     .packed_v = in.packed_v,
                                     .k_pieces = in.list,
                                     .scratch = in.scratch};
    amx_forward(&task);
    tile_configure(&config);
}

static void library(job *j) {
    forward(j, NULL);
}

static void library_with_lse(job *j) {
    float lse[PANEL];
    forward(j, lse);
}

/* ---- inputs and results */

static void make_inputs(int32_t dim, int32_t panels, job *j) {
    const size_t tokens = (size_t)panels * PANEL, size = tokens * (size_t)dim;
    in = (inputs){.q = noise(PANEL * (size_t)dim), .k = noise(size), .v = noise(size), .dim = dim};
    in.packed_k = take(size * 2 > MOST_LOADED ? size * 2 : MOST_LOADED);
    in.packed_v = take(size * 2);
    in.o = take(PANEL * (size_t)dim * 4);
    in.scratch = take(amx_forward_scratch(dim));
    for (int32_t i = 0; i < panels; i++) {
        in.list[i + 1] = i + 1;
        in.offsets[i + 1] = (i + 1) * PANEL;
        amx_pack_dims((nabla_rows){in.k, dim}, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(in.packed_k, i, dim));
        amx_pack_values((nabla_rows){in.v, dim}, NABLA_BF16, i * PANEL, PANEL, dim, panel_at(in.packed_v, i, dim));
    }
    char *q = take(panel_bytes(dim));
    amx_pack_rows((nabla_rows){in.q, dim}, NABLA_BF16, 0, PANEL, dim, q);
    *j = (job){.q = q,
               .k = in.packed_k,
               .v = in.packed_v,
               .panels = panels,
               .scale = LOG2_E / sqrtf((float)dim),
               .s = take(32 * TILE),
               .p = take(2 * MOST_CHUNK * P_PANEL),
               .o = take((size_t)8 * (size_t)dim / 32 * TILE),
               .sums = take(PANEL * sizeof *j->sums)};
    for (int i = 0; i < PANEL; i++)
        j->m[i] = 1.7f;
}

/* O of the walks lies in tiles, undivided. */
static double output_at(const job *j, int32_t row, int32_t d) {
    const float *tile = (const float *)(j->o + (row / 16 * (in.dim / 16) + d / 16) * TILE);
    double sum = 0;
    for (int i = 0; i < VL; i++)
        sum += (double)j->sums[row][i];
    return (double)tile[row % 16 * VL + d % 16] / sum;
}

static double *expected(int32_t panels, double scale) {
    double *o = calloc((size_t)PANEL * (size_t)in.dim, sizeof *o);
    for (int32_t r = 0; r < PANEL; r++) {
        double sum = 0, *row = o + r * in.dim;
        for (int32_t t = 0; t < panels * PANEL; t++) {
            double s = 0;
            for (int32_t d = 0; d < in.dim; d++)
                s += widen(in.q[r * in.dim + d]) * widen(in.k[t * in.dim + d]);
            const double p = exp2(s * scale);
            sum += p;
            for (int32_t d = 0; d < in.dim; d++)
                row[d] += p * widen(in.v[t * in.dim + d]);
        }
        for (int32_t d = 0; d < in.dim; d++)
            row[d] /= sum;
    }
    return o;
}

static double error_of(const job *j, const double *o, bool of_library) {
    double most = 0;
    for (int32_t r = 0; r < PANEL; r++)
        for (int32_t d = 0; d < in.dim; d++) {
            const double x = of_library ? (double)in.o[r * in.dim + d] : output_at(j, r, d);
            const double error = fabs(x - o[r * in.dim + d]);
            most = error <= most ? most : error; /* NaN stays */
        }
    return most;
}

/* ---- the report */

static void report_wholes(int32_t panels, job *j, const double *o) {
    const int32_t dim = in.dim, tiles = dim / 32 * 32;
    const struct {
        const char *name;
        part_fn run;
    } ours[] = {{"library", library}, {"library, with lse", library_with_lse}};
    j->panels = panels;
    find_peak();
    for (int i = 0; i < 2; i++) {
        const double ns = time_of(ours[i].run, j) / panels;
        print_pair(ours[i].name, dim, panels, tiles, ns, o ? error_of(j, o, true) : UNCHECKED_ERROR);
    }
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
        if (i % 4 == 0) find_peak();
        const double ns = time_of(dim == 64 ? wholes[i].of_64 : wholes[i].of_128, j) / panels;
        failed = failed || j->far;
        print_pair(wholes[i].name, dim, panels, tiles, ns, o ? error_of(j, o, false) : UNCHECKED_ERROR);
    }
}

static void report_parts(job *j, int32_t panels) {
    const int32_t dim = in.dim, tiles = dim / 32 * 16;
    find_peak();
    j->panels = panels;
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        const part_fn run = dim == 64 ? products[i].of_64 : products[i].of_128;
        if (run) print_pair(products[i].name, dim, panels, tiles, time_of(run, j) / panels, UNCHECKED_ERROR);
    }
}

int main(void) {
#ifdef NABLA_TILES_EMULATED
    enum { L2_PANELS = 4, L3_PANELS = 4 };
#else
    enum { L2_PANELS = 16, L3_PANELS = MOST_PANELS };
#endif
    if (!ask_for_tiles("amx_parts")) return 2;
    job j;
    printf("what,head_dim,panels,ns,of_peak,error\n");
    for (int32_t dim = MOST_DIM; dim >= 64; dim -= 64) {
        make_inputs(dim, L3_PANELS, &j);
        tile_configure(&config);
        if (dim == MOST_DIM) {
            find_peak();
            for (size_t i = 0; i < sizeof singles / sizeof *singles; i++) {
                const double ns = time_of(singles[i].run, &j) / EACH;
                printf("\"%s\",,,%.2f,%.3f,\n", singles[i].name, ns, singles[i].tiles ? peak_ns / ns : 0);
            }
            softmax_run none = {0};
            scores(4, 4, PAIRS, SOFT_NONE, 0, 0, j.q, j.k, j.s, &none);
            print_pair("P alone, exp 5", dim, 1, 0, time_of(softmax_5, &j), UNCHECKED_ERROR);
            print_pair("P alone, exp 3", dim, 1, 0, time_of(softmax_3, &j), UNCHECKED_ERROR);
            print_pair("P alone, word", dim, 1, 0, time_of(softmax_word, &j), UNCHECKED_ERROR);
        }
        report_parts(&j, 4);
        report_parts(&j, L2_PANELS);
        double *o = expected(4, (double)j.scale);
        report_wholes(4, &j, o);
        report_wholes(L2_PANELS, &j, NULL);
        if (L3_PANELS > L2_PANELS) report_wholes(L3_PANELS, &j, NULL);
        free(o);
    }
    tile_release();
    return verdict();
}

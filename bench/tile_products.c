/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tile_products: the engine's bf16 products on tiles, at the sizes of the blocks of Wan2.1-1.3B (32,760 tokens, a whole
 * clip, and 7,800, a training's) and of the text encoder's layers (512). One core; C = A W^T as linear layers have it.
 *
 *     m,n,k,ms,of_peak,samples
 *
 * of_peak is the median share of the rate of tile products alone that was measured just before and after. Where others
 * work on the same machine that rate falls by half for seconds: before each product the thread moves to a processor on
 * which it is as high as anywhere, and a product during which it fell is not counted. Exit code 1: a result is wrong.
 * It runs where the tiles are emulated, too, for the results alone, at a sixteenth of the sizes.
 *
 * usage: tile_products [SECONDS]   (60)
 */
#include "amx_bench.h"
#include "device/cpu/tile_product.h"

#include <sched.h>

#ifdef NABLA_TILES_EMULATED
enum { SMALLER = 16, MOVES = 0, SAMPLES = 1 };
#else
enum { SMALLER = 1, MOVES = 256, SAMPLES = 64 };
#endif

typedef struct shape {
    int64_t m, n, k;
    double of_peak[SAMPLES], ms[SAMPLES];
    int samples;
} shape;

static shape shapes[] = {
    {.m = 32760, .n = 1536, .k = 1536}, {.m = 32760, .n = 8960, .k = 1536}, {.m = 32760, .n = 1536, .k = 8960},
    {.m = 7800, .n = 1536, .k = 1536},  {.m = 7800, .n = 8960, .k = 1536},  {.m = 7800, .n = 1536, .k = 8960},
    {.m = 512, .n = 12288, .k = 4096},  {.m = 512, .n = 4096, .k = 10240},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static uint16_t *a, *w, *c;
static void *memory;

/* ---- a processor that others leave alone */

static double best = INFINITY; /* ns of a product of tiles */

static double product_ns(void) {
    double least = INFINITY;
    for (int i = 0; i < 4; i++) {
        const double start = now_ns();
        dots(a);
        least = fmin(least, (now_ns() - start) / EACH);
    }
    best = fmin(best, least);
    return least;
}

static void move(void) {
    static int cpu;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)(cpu = (cpu + 1) % (int)sysconf(_SC_NPROCESSORS_CONF)), &one);
    sched_setaffinity(0, sizeof one, &one); /* one that this process may not use leaves it where it is */
}

static double settle(void) {
    double ns = product_ns();
    for (int i = 0; i < MOVES && ns > 1.06 * best; i++) {
        move();
        ns = product_ns();
    }
    return ns;
}

/* ---- products */

static nv_product product_of(const shape *s) {
    return (nv_product){.m = s->m / SMALLER,
                        .n = s->n / SMALLER,
                        .k = s->k / SMALLER,
                        .in = NABLA_BF16,
                        .out = NABLA_BF16,
                        .a = a,
                        .a_row = s->k / SMALLER,
                        .a_col = 1,
                        .b = w,
                        .b_row = 1,
                        .b_col = s->k / SMALLER,
                        .c = c,
                        .c_row = s->n / SMALLER,
                        .count = 1};
}

/* Some numbers of C against sums in fp64. */
static void check(const nv_product *p) {
    for (int i = 0; i < 256; i++) {
        const int64_t row = rand() % p->m, column = rand() % p->n;
        double sum = 0, size = 0;
        for (int64_t k = 0; k < p->k; k++) {
            const double x = widen(a[row * p->a_row + k]) * widen(w[column * p->b_col + k]);
            sum += x;
            size += fabs(x);
        }
        if (!(fabs(widen(c[row * p->c_row + column]) - sum) <= fabs(sum) / 256 + 1e-6 * size)) failed = true;
    }
}

static void sample(shape *s) {
    const nv_product p = product_of(s);
    tile_configure(&config);
    const double before = settle(), start = now_ns();
    nv_tile_product(&nv_tile_kernels_amx, &p, NULL, 1, memory);
    const double ns = now_ns() - start;
    tile_configure(&config);
    const double after = product_ns(), ideal = (double)p.m * (double)p.n * (double)p.k / 8192 * (before + after) / 2;
    if (s->samples == SAMPLES || (MOVES && fmax(before, after) > 1.1 * best)) return;
    s->ms[s->samples] = 1e-6 * ns;
    s->of_peak[s->samples++] = ideal / ns;
}

static int ascending(const void *x, const void *y) {
    return (*(const double *)x > *(const double *)y) - (*(const double *)x < *(const double *)y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, ascending);
    return n ? x[n / 2] : NAN;
}

int main(int argc, char **argv) {
    const double span = 1e9 * (argc > 1 ? atof(argv[1]) : 60);
    size_t most[4] = {0};
    if (!ask_for_tiles("tile_products")) return SKIPPED;
    for (int i = 0; i < SHAPES; i++) {
        const nv_product p = product_of(shapes + i);
        const size_t need[] = {(size_t)(p.m * p.k), (size_t)(p.n * p.k), (size_t)(p.m * p.n),
                               nv_tile_product_bytes(&nv_tile_kernels_amx, &p, 1)};
        for (int j = 0; j < 4; j++)
            most[j] = need[j] > most[j] ? need[j] : most[j];
    }
    a = noise(most[0]);
    w = noise(most[1]);
    c = noise(most[2]);
    memory = take(most[3]);
    const double began = now_ns();
    for (int round = 0; round == 0 || now_ns() - began < span; round++)
        for (int i = 0; i < SHAPES; i++) {
            sample(shapes + i);
            const nv_product p = product_of(shapes + i);
            if (!round) check(&p);
        }
    tile_release();
    printf("m,n,k,ms,of_peak,samples\n");
    for (shape *s = shapes; s < shapes + SHAPES; s++)
        printf("%lld,%lld,%lld,%.2f,%.3f,%d\n", (long long)s->m, (long long)s->n, (long long)s->k,
               median(s->ms, s->samples), median(s->of_peak, s->samples), s->samples);
    return verdict();
}

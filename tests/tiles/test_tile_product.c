/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's products on tiles, against sums in fp64: every arrangement of operands in memory, sizes on both sides of
   every border, several products at once, one thread and several, and memory that is full of NaN before. */
#include "device/cpu/tile_product.h"
#include "tensor/bf16.h"
#include "tensor/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 3, MOST_THREADS = 3, CASES = 160, SKIPPED = 77 };

typedef struct drawn {
    nv_product p;
    const nv_activation *act;
    int streamed;         /* C past the caches */
    int64_t strips_bytes; /* 0: as usual */
    nv_bf16 *a, *b;
    float *bias;
    void *c, *before, *again;
    size_t a_count, b_count, c_count;
} drawn;

static nv_philox random_numbers;

static int64_t draw(int64_t below) {
    return (int64_t)(nv_philox_below(&random_numbers, (uint32_t)below));
}

static void *take(size_t count, size_t size) {
    void *p = malloc((count ? count : 1) * size);
    if (!p) exit(1);
    return p;
}

/* On a boundary of 64 bytes, where whole lines may be streamed. */
static void *take_whole(size_t bytes) {
    void *p;
    if (posix_memalign(&p, 64, bytes)) exit(1);
    return p;
}

static float *normals(size_t count) {
    float *x = take(count, sizeof *x);
    nv_philox_normal(&random_numbers, x, count);
    return x;
}

static nv_bf16 *rounded(size_t count) {
    float *x = normals(count);
    nv_bf16 *out = take(count, sizeof *out);
    for (size_t i = 0; i < count; i++)
        out[i] = nv_bf16_from_float(x[i]);
    free(x);
    return out;
}

static double bf16_at(const nv_bf16 *x, int64_t i) {
    return (double)nv_bf16_to_float(x[i]);
}

static double number(const void *x, nabla_dtype dtype, int64_t i) {
    return dtype == NABLA_BF16 ? bf16_at(x, i) : (double)((const float *)x)[i];
}

/* A [m, k] and B [k, n], each stored that way or transposed, C [m, n], all with gaps between rows or without. */
static drawn draw_case(int i) {
    static const int64_t sizes[] = {1, 7, 31, 32, 33, 64, 100, 257, 300, 600};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    static const nv_activation acts[] = {NV_SILU, NV_GELU_TANH};
    const int64_t m = sizes[draw(SIZES)], n = sizes[draw(SIZES)], gap = draw(2) * GAP;
    const int64_t k = i % 40 == 0 ? 4500 : i % 40 == 1 ? 0 : sizes[draw(SIZES)]; /* in parts, none */
    const int a_turned = (int)draw(2), b_turned = (int)draw(2), wide = (int)draw(2);
    const int64_t a_line = (a_turned ? m : k) + gap, b_line = (b_turned ? k : n) + gap, c_line = n + gap;
    drawn d = {.p = {.m = m,
                     .n = n,
                     .k = k,
                     .in = NABLA_BF16,
                     .out = wide ? NABLA_FP32 : NABLA_BF16,
                     .a_row = a_turned ? 1 : a_line,
                     .a_col = a_turned ? a_line : 1,
                     .b_row = b_turned ? 1 : b_line,
                     .b_col = b_turned ? b_line : 1,
                     .c_row = c_line,
                     .add = wide ? (int32_t)draw(2) : 0,
                     .count = 1 + draw(3),
                     .a_step = (a_turned ? k : m) * a_line + GAP,
                     .b_step = (b_turned ? n : k) * b_line + GAP,
                     .c_step = m * c_line + GAP}};
    d.a_count = (size_t)(d.p.count * d.p.a_step);
    d.b_count = (size_t)(d.p.count * d.p.b_step);
    d.c_count = (size_t)(d.p.count * d.p.c_step);
    d.p.a = d.a = rounded(d.a_count);
    d.p.b = d.b = rounded(d.b_count);
    if (draw(2)) d.p.bias = d.bias = normals((size_t)n);
    if (!d.p.add && draw(2)) d.act = acts + draw(2);
    d.before = wide ? (void *)normals(d.c_count) : (void *)rounded(d.c_count);
    d.streamed = (int)draw(2);
    d.strips_bytes = draw(2) << (10 + draw(8)); /* k in parts, shared strips in groups */
    d.c = take_whole(d.c_count * nabla_dtype_size(d.p.out));
    d.again = take_whole(d.c_count * nabla_dtype_size(d.p.out));
    return d;
}

static void release(drawn *d) {
    void *const all[] = {d->a, d->b, d->bias, d->c, d->before, d->again};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void run(const drawn *d, int32_t threads, void *c) {
    nv_product p = d->p;
    nv_tile_kernels kernels = nv_tile_kernels_amx;
    void *memory;
    kernels.streamed = d->streamed ? 0 : INT64_MAX;
    if (d->strips_bytes) kernels.strips_bytes = d->strips_bytes;
    const size_t bytes = nv_tile_product_bytes(&kernels, &p, threads);
    if (posix_memalign(&memory, 64, bytes + 1)) exit(1);
    memset(memory, 0xff, bytes + 1);
    memcpy(c, d->before, d->c_count * nabla_dtype_size(p.out));
    p.c = c;
    nv_tile_product(&kernels, &p, d->act, threads, memory);
    if (((unsigned char *)memory)[bytes] != 0xff) {
        printf("wrote behind its memory\n");
        exit(1);
    }
    free(memory);
}

/* How far C[i, j] is off, in units of what rounding may do. */
static double error_of(const drawn *d, int64_t one, int64_t i, int64_t j) {
    const nv_product *p = &d->p;
    const int64_t at = one * p->c_step + i * p->c_row + j;
    double sum = 0, size = 0;
    for (int64_t k = 0; k < p->k; k++) {
        const double x = bf16_at(d->a, one * p->a_step + i * p->a_row + k * p->a_col) *
                         bf16_at(d->b, one * p->b_step + k * p->b_row + j * p->b_col);
        sum += x;
        size += fabs(x);
    }
    if (p->bias) sum += (double)p->bias[j];
    if (p->add) sum += number(d->before, p->out, at);
    double allowed = 2e-6 * size + 1e-6;
    if (d->act && p->out == NABLA_BF16) allowed += fabs(sum) / 200; /* rounded before as well; slopes are below 1.13 */
    if (d->act)
        sum /= 1 + exp(-(*d->act == NV_SILU ? sum : 2 * sqrt(2 / acos(-1.0)) * (sum + 0.044715 * sum * sum * sum)));
    if (p->out == NABLA_BF16) allowed += fabs(sum) / 256;
    return fabs(number(d->c, p->out, at) - sum) / allowed;
}

static int check(int i) {
    drawn d = draw_case(i);
    const nv_product *p = &d.p;
    const size_t size = nabla_dtype_size(p->out);
    double worst = 0;
    int touched = 0;
    run(&d, 1, d.c);
    run(&d, MOST_THREADS, d.again);
    for (int64_t one = 0; one < p->count; one++)
        for (int64_t row = 0; row < p->m; row++)
            for (int64_t col = 0; col < p->c_row; col++) {
                const size_t at = (size_t)(one * p->c_step + row * p->c_row + col) * size;
                if (col >= p->n) {
                    touched |= memcmp((char *)d.c + at, (char *)d.before + at, size) != 0;
                    continue;
                }
                const double error = error_of(&d, one, row, col);
                worst = error <= worst ? worst : error; /* NaN stays */
            }
    const int fine = worst <= 1 && !touched && !memcmp(d.c, d.again, d.c_count * size);
    if (!fine)
        printf("case %d: %lld of %lld x %lld x %lld, A %s, B %s, C %s%s%s%s: %s, error %.2f of what is allowed\n", i,
               (long long)p->count, (long long)p->m, (long long)p->n, (long long)p->k,
               p->a_row == 1 ? "turned" : "as is", p->b_row == 1 ? "turned" : "as is",
               p->out == NABLA_BF16 ? "bf16" : "fp32", p->bias ? ", bias" : "", p->add ? ", added" : "",
               d.act ? ", activated" : "", touched ? "a gap was written" : "bits or sums differ", worst);
    release(&d);
    return fine;
}

int main(void) {
    int fine = 1;
    if (!__builtin_cpu_supports("avx512bf16")) {
        printf("skipped: no AVX-512 with bf16 here\n");
        return SKIPPED;
    }
    random_numbers = nv_philox_at(1, 0);
    for (int i = 0; i < CASES; i++)
        fine &= check(i);
    return !fine;
}

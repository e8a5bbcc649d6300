/* SPDX-License-Identifier: Apache-2.0 */
/* Single instructions, alone and beside products of tiles, for amx_parts.c: EACH of them a call. */
#ifndef BENCH_AMX_SINGLES_H
#define BENCH_AMX_SINGLES_H

#include "amx_walks.h"

typedef void (*part_fn)(job *j);

enum { EACH = 256, MOST_LOADED = 4 << 20 };

#define TIMES(n) for (int n_ = 0; n_ < (n); n_++)
#define VECTORS(op, n)               \
    UNROLLED                         \
    for (int i_ = 0; i_ < (n); i_++) \
    x[i_ % 8] = op

static void dots_1(job *j) {
    (void)j;
    TIMES(EACH) tile_dot(0, 4, 6);
}
static void dots_2(job *j) {
    (void)j;
    TIMES(EACH / 2) {
        tile_dot(0, 4, 6);
        tile_dot(1, 5, 6);
    }
}
static void dots_4(job *j) {
    (void)j;
    TIMES(EACH / 4) {
        tile_dot(0, 4, 6);
        tile_dot(1, 4, 7);
        tile_dot(2, 5, 6);
        tile_dot(3, 5, 7);
    }
}

/* Four products with `n` operations on vectors after each. */
#define DOTS_WITH(name, n, op)                     \
    static void name(job *j) {                     \
        vf x[8];                                   \
        for (int i = 0; i < 8; i++)                \
            x[i] = v_load(j->sums[i]);             \
        TIMES(EACH / 4) {                          \
            tile_dot(0, 4, 6);                     \
            VECTORS(op, n);                        \
            tile_dot(1, 4, 7);                     \
            VECTORS(op, n);                        \
            tile_dot(2, 5, 6);                     \
            VECTORS(op, n);                        \
            tile_dot(3, 5, 7);                     \
            VECTORS(op, n);                        \
            for (int i = 0; i < 8; i++)            \
                __asm__ volatile("" : "+v"(x[i])); \
        }                                          \
        for (int i = 0; i < 8; i++)                \
            v_store(j->sums[i], x[i]);             \
    }
#define FMA v_fma(x[i_ % 8], x[i_ % 8], x[i_ % 8])
#define INTEGER_ADD (vf) _mm512_add_epi32((__m512i)x[i_ % 8], (__m512i)x[i_ % 8])
#define SCALEF _mm512_scalef_ps(x[i_ % 8], x[i_ % 8])
#define REDUCE _mm512_reduce_ps(x[i_ % 8], _MM_FROUND_TO_NEG_INF)
#define TO_BF16 (vf) _mm512_cvtne2ps_pbh(x[i_ % 8], x[i_ % 8])
#define DOT_BF16 _mm512_dpbf16_ps(x[i_ % 8], (__m512bh)x[i_ % 8], (__m512bh)x[i_ % 8])
#define PACK_WORDS (vf) _mm512_packus_epi32((__m512i)x[i_ % 8], (__m512i)x[i_ % 8])
#define PERMUTE_BYTES (vf) _mm512_permutexvar_epi8((__m512i)x[i_ % 8], (__m512i)x[i_ % 8])
#define MULTISHIFT (vf) _mm512_multishift_epi64_epi8((__m512i)x[i_ % 8], (__m512i)x[i_ % 8])
#define SHIFT (vf) _mm512_srli_epi16((__m512i)x[i_ % 8], 1)
DOTS_WITH(dots_fma_8, 8, FMA)
DOTS_WITH(dots_fma_16, 16, FMA)
DOTS_WITH(dots_fma_24, 24, FMA)
DOTS_WITH(dots_integer_24, 24, INTEGER_ADD)
DOTS_WITH(dots_scalef_8, 8, SCALEF)
DOTS_WITH(dots_reduce_8, 8, REDUCE)
DOTS_WITH(dots_to_bf16_8, 8, TO_BF16)
DOTS_WITH(dots_dot_bf16_8, 8, DOT_BF16)
DOTS_WITH(dots_pack_16, 16, PACK_WORDS)
DOTS_WITH(dots_permute_16, 16, PERMUTE_BYTES)
DOTS_WITH(dots_multishift_16, 16, MULTISHIFT)
DOTS_WITH(dots_shift_16, 16, SHIFT)

#define VECTORS_ALONE(name, op)                    \
    static void name(job *j) {                     \
        vf x[8];                                   \
        for (int i = 0; i < 8; i++)                \
            x[i] = v_load(j->sums[i]);             \
        TIMES(EACH / 8) {                          \
            VECTORS(op, 8);                        \
            for (int i = 0; i < 8; i++)            \
                __asm__ volatile("" : "+v"(x[i])); \
        }                                          \
        for (int i = 0; i < 8; i++)                \
            v_store(j->sums[i], x[i]);             \
    }
VECTORS_ALONE(only_fma, FMA)
VECTORS_ALONE(only_scalef, SCALEF)
VECTORS_ALONE(only_reduce, REDUCE)
VECTORS_ALONE(only_to_bf16, TO_BF16)
VECTORS_ALONE(only_dot_bf16, DOT_BF16)
VECTORS_ALONE(only_pack, PACK_WORDS)
VECTORS_ALONE(only_permute, PERMUTE_BYTES)
VECTORS_ALONE(only_multishift, MULTISHIFT)
VECTORS_ALONE(only_shift, SHIFT)

/* Loads and stores of tiles, round `bytes` of memory. */
#define LOADS(name, bytes)                          \
    static void name(job *j) {                      \
        static size_t at;                           \
        TIMES(EACH / 4) {                           \
            const char *from = j->k + at % (bytes); \
            tile_load(4, from, 64);                 \
            tile_load(5, from + TILE, 64);          \
            tile_load(6, from + 2 * TILE, 64);      \
            tile_load(7, from + 3 * TILE, 64);      \
            at += 4 * TILE;                         \
        }                                           \
    }
LOADS(loads_16k, 16 << 10)
LOADS(loads_256k, 256 << 10)
LOADS(loads_4m, MOST_LOADED)

#define STORES(name, bytes)                                \
    static void name(job *j) {                             \
        static size_t at;                                  \
        TIMES(EACH / 2) {                                  \
            tile_store(0, j->s + at % (bytes), 64);        \
            tile_store(1, j->s + at % (bytes) + TILE, 64); \
            at += 2 * TILE;                                \
        }                                                  \
    }
STORES(stores_2k, 2 << 10)
STORES(stores_16k, 16 << 10)

/* Tiles stored, and read as vectors `behind` tiles later. */
#define STORES_READ(name, behind)                                                         \
    static void name(job *j) {                                                            \
        vf sum = v_zero();                                                                \
        TIMES(EACH) {                                                                     \
            tile_store(0, j->s + n_ % 16 * TILE, 64);                                     \
            const float *back = (const float *)(j->s + (n_ + 16 - (behind)) % 16 * TILE); \
            UNROLLED                                                                      \
            for (int i = 0; i < 16; i++)                                                  \
                sum = v_add(sum, v_load(back + i * VL));                                  \
        }                                                                                 \
        v_store(j->sums[0], sum);                                                         \
    }
STORES_READ(stores_read_at_once, 0)
STORES_READ(stores_read_2_later, 2)
STORES_READ(stores_read_8_later, 8)

/* Vectors stored, and loaded as a tile `behind` tiles later. */
#define WRITES_LOADED(name, behind)                                    \
    static void name(job *j) {                                         \
        TIMES(EACH) {                                                  \
            float *to = (float *)(j->s + n_ % 16 * TILE);              \
            UNROLLED                                                   \
            for (int i = 0; i < 16; i++)                               \
                v_store(to + i * VL, v_zero());                        \
            tile_load(4, j->s + (n_ + 16 - (behind)) % 16 * TILE, 64); \
        }                                                              \
    }
WRITES_LOADED(writes_loaded_at_once, 0)
WRITES_LOADED(writes_loaded_2_later, 2)
WRITES_LOADED(writes_loaded_8_later, 8)

typedef struct part {
    const char *name;
    part_fn run;
    int tiles; /* products a call or, of a pair, a step of depth */
} part;

static const part singles[] = {
    {"product, 1 accumulator, each", dots_1, EACH},
    {"product, 2 accumulators, each", dots_2, EACH},
    {"product, 4 accumulators, each", dots_4, EACH},
    {"product with 8 fma, each", dots_fma_8, EACH},
    {"product with 16 fma, each", dots_fma_16, EACH},
    {"product with 24 fma, each", dots_fma_24, EACH},
    {"product with 24 integer adds, each", dots_integer_24, EACH},
    {"product with 8 scalef, each", dots_scalef_8, EACH},
    {"product with 8 reduce, each", dots_reduce_8, EACH},
    {"product with 8 cvtne2ps2bf16, each", dots_to_bf16_8, EACH},
    {"product with 8 dpbf16, each", dots_dot_bf16_8, EACH},
    {"product with 16 packusdw, each", dots_pack_16, EACH},
    {"product with 16 permb, each", dots_permute_16, EACH},
    {"product with 16 multishift, each", dots_multishift_16, EACH},
    {"product with 16 srlw, each", dots_shift_16, EACH},
    {"fma, each", only_fma, 0},
    {"scalef, each", only_scalef, 0},
    {"reduce, each", only_reduce, 0},
    {"cvtne2ps2bf16, each", only_to_bf16, 0},
    {"dpbf16, each", only_dot_bf16, 0},
    {"packusdw, each", only_pack, 0},
    {"permb, each", only_permute, 0},
    {"multishift, each", only_multishift, 0},
    {"srlw, each", only_shift, 0},
    {"load of a tile, 16 KB, each", loads_16k, 0},
    {"load of a tile, 256 KB, each", loads_256k, 0},
    {"load of a tile, 4 MB, each", loads_4m, 0},
    {"store of a tile, 2 KB, each", stores_2k, 0},
    {"store of a tile, 16 KB, each", stores_16k, 0},
    {"store of a tile and 16 reads of it, each", stores_read_at_once, 0},
    {"the same 2 tiles later, each", stores_read_2_later, 0},
    {"the same 8 tiles later, each", stores_read_8_later, 0},
    {"16 writes and a load of the tile, each", writes_loaded_at_once, 0},
    {"the same 2 tiles later, each", writes_loaded_2_later, 0},
    {"the same 8 tiles later, each", writes_loaded_8_later, 0},
};

#endif

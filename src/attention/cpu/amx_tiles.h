/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tile instructions, written as assembly: the compilers' intrinsics do not say that they read and write memory, and
 * a configuration or a tile that was just written can be lost. Tests put an emulation in their place, so that a machine
 * without AMX runs these kernels too (tests/tiles).
 *
 * A tile register holds 16 rows of 64 bytes, here always all of them: of C 16 x 16 floats, of A 16 x 32 bf16, of B 16
 * rows of 16 pairs of bf16. tile_dot(c, a, b): C[i][j] += sum over k of A[i][2k] B[k][j].low + A[i][2k + 1]
 * B[k][j].high.
 */
#ifndef NABLA_AMX_TILES_H
#define NABLA_AMX_TILES_H

#include <stdint.h>

/* What LDTILECFG reads. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

#ifdef NABLA_TILES_EMULATED
#include "emulated_tiles.h"
#else
#define tile_configure(config) __asm__ volatile("ldtilecfg %0" ::"m"(*(config)))
#define tile_release() __asm__ volatile("tilerelease" ::)
#define tile_zero(t) __asm__ volatile("tilezero %%tmm" #t ::)
#define tile_load(t, base, stride) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(base), "r"((int64_t)(stride)) : "memory")
/* With the hint that it is not needed again soon: what misses the first-level cache does not go there. */
#define tile_load_once(t, base, stride) \
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm" #t ::"r"(base), "r"((int64_t)(stride)) : "memory")
#define tile_store(t, base, stride) \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(base), "r"((int64_t)(stride)) : "memory")
#define tile_dot(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::)
#endif

/* All eight tiles at their full size. */
#define FULL_TILES                                                                                              \
    {                                                                                                           \
        .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = { 16, 16, 16, 16, 16, 16, 16, 16 } \
    }

#endif

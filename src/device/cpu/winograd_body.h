/* SPDX-License-Identifier: Apache-2.0 */
/* Winograd's tiles by AVX-512; the including file is compiled with its level's flags. `bf16` is a constant wherever it
   is a parameter. */
#include "device/cpu/sizes.h"
#include "device/cpu/vec.h"
#include "device/cpu/winograd.h"

enum { SPOTS = NV_WINOGRAD_SPOTS, ROWS = NV_WINOGRAD_ROWS, PANEL = NV_WINOGRAD_PANEL };

static int64_t tiles_across(const nv_winograd_job *j) {
    return (j->width + 1) / 2;
}

/* ------------------------------------------------------------------------------------------ pixels in */

/* Sums over four neighbours, of lines as of columns. */
NV_INLINE void sums_of(const vf d[4], vf s[4]) {
    s[0] = d[0] - d[2];
    s[1] = d[1] + d[2];
    s[2] = d[2] - d[1];
    s[3] = d[1] - d[3];
}

/* 16 floats, or 32 of bf16: first those of even channels, then the odd ones. */
NV_INLINE void load_channels(const unsigned char *at, vf d[2], int bf16) {
    if (bf16) {
        const __m512i both = _mm512_loadu_si512(at);
        d[0] = (vf)_mm512_slli_epi32(both, 16);
        d[1] = (vf)_mm512_and_si512(both, _mm512_set1_epi32(-65536));
    } else {
        d[0] = (vf)_mm512_loadu_ps(at);
    }
}

NV_INLINE void store_channels(unsigned char *at, vf even, vf odd, int bf16) {
#ifdef __AVX512BF16__
    if (bf16) {
        _mm512_storeu_si512(at, (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even));
        return;
    }
#endif
    (void)odd;
    (void)bf16;
    _mm512_storeu_ps(at, (__m512)even);
}

/* A tile's sums over 4 x 4 pixels, `line` and `pixel` bytes apart; `to` is its place in spot 0. */
NV_INLINE void take_tile(const unsigned char *at, size_t line, size_t pixel, unsigned char *to, size_t spot, int bf16) {
    const int parts = bf16 ? 2 : 1;
    for (size_t c = 0; c < pixel; c += sizeof(vf), at += sizeof(vf), to += sizeof(vf)) {
        vf s[2][4][4]; /* [even, odd][sum over lines][column] */
        for (size_t k = 0; k < 4; k++) {
            vf d[4][2], column[4], sums[4];
            for (size_t i = 0; i < 4; i++)
                load_channels(at + i * line + k * pixel, d[i], bf16);
            for (int part = 0; part < parts; part++) {
                for (int i = 0; i < 4; i++)
                    column[i] = d[i][part];
                sums_of(column, sums);
                for (int i = 0; i < 4; i++)
                    s[part][i][k] = sums[i];
            }
        }
        for (size_t i = 0; i < 4; i++) {
            vf sums[2][4];
            for (int part = 0; part < parts; part++)
                sums_of(s[part][i], sums[part]);
            for (size_t k = 0; k < 4; k++)
                store_channels(to + (4 * i + k) * spot, sums[0][k], sums[parts - 1][k], bf16);
        }
    }
}

/* The 4 x 4 pixels of a tile at an edge, zeros beyond it. */
static void copy_patch(const nv_winograd_job *j, const unsigned char *x, int64_t h, int64_t w, size_t pixel,
                       unsigned char *patch) {
    for (int64_t i = 0; i < 4; i++)
        for (int64_t k = 0; k < 4; k++, patch += pixel)
            if (h + i >= 0 && h + i < j->height && w + k >= 0 && w + k < j->width)
                memcpy(patch, x + (size_t)((h + i) * j->width + w + k) * pixel, pixel);
            else
                memset(patch, 0, pixel);
}

NV_INLINE void take(const nv_winograd_job *j, int64_t first, int64_t last, unsigned char *v, unsigned char *patch,
                    int bf16) {
    const size_t size = bf16 ? 2 : 4, pixel = (size_t)j->in * size, spot = nv_winograd_inputs(j, size);
    const int64_t across = tiles_across(j);
    for (int64_t t = first; t < last; t++) {
        const int64_t h = 2 * (t / across) - 1, w = 2 * (t % across) - 1;
        const int inside = h >= 0 && w >= 0 && h + 4 <= j->height && w + 4 <= j->width;
        for (int32_t f = 0; f < j->frames; f++, v += pixel) {
            const unsigned char *x = j->x[f];
            if (inside) {
                take_tile(x + (size_t)(h * j->width + w) * pixel, (size_t)j->width * pixel, pixel, v, spot, bf16);
            } else {
                copy_patch(j, x, h, w, pixel, patch);
                take_tile(patch, 4 * pixel, pixel, v, spot, bf16);
            }
        }
    }
}

/* ------------------------------------------------------------------------------------------ products */

/* What a product goes over: a number, or two of bf16 of neighbouring channels. */
typedef int32_t word __attribute__((may_alias, aligned(4)));

NV_INLINE vf multiply_add(vf sum, vi x, vi w, int bf16) {
#ifdef __AVX512BF16__
    if (bf16) return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)w);
#else
    (void)bf16;
#endif
    return sum + (vf)x * (vf)w;
}

/* ROWS tiles at one spot times 16 `vectors` output channels from `channel` on. */
NV_INLINE void product(const nv_winograd_job *j, int spot, const unsigned char *v, int64_t channel, float *m,
                       int vectors, int bf16) {
    const size_t size = bf16 ? 2 : 4;
    const int64_t words = bf16 ? j->in / 2 : j->in, row = words * j->frames;
    vf sums[ROWS][PANEL / NV_LANES];
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < vectors; i++)
            sums[r][i] = (vf){0};
    for (int32_t f = 0; f < j->frames; f++) {
        const word *x = (const word *)(const void *)v + f * words;
        const unsigned char *w = (const unsigned char *)j->u[f] + (size_t)((spot * j->out + channel) * j->in) * size;
        for (int64_t k = 0; k < words; k++, w += sizeof(vf) * (size_t)vectors) {
            vi panel[PANEL / NV_LANES];
            for (int i = 0; i < vectors; i++)
                panel[i] = (vi)_mm512_loadu_si512(w + sizeof(vf) * (size_t)i);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) {
                const vi one = (vi)_mm512_set1_epi32(x[r * row + k]);
                for (int i = 0; i < vectors; i++)
                    sums[r][i] = multiply_add(sums[r][i], one, panel[i], bf16);
            }
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < vectors; i++)
            vstore_f32(m + r * PANEL + i * NV_LANES, sums[r][i], NV_LANES);
}

NV_INLINE void multiply(const nv_winograd_job *j, const unsigned char *v, int64_t count, int64_t channel,
                        unsigned char *m, int vectors, int bf16) {
    const size_t size = bf16 ? 2 : 4, tile = (size_t)(j->frames * j->in) * size;
    for (int spot = 0; spot < SPOTS; spot++)
        for (int64_t t = 0; t < count; t += ROWS)
            product(j, spot, v + (size_t)spot * nv_winograd_inputs(j, size) + (size_t)t * tile, channel,
                    (float *)(void *)(m + (size_t)spot * nv_winograd_outputs(j)) + t * PANEL, vectors, bf16);
}

/* ------------------------------------------------------------------------------------------ pixels out */

/* One tile at 16 output channels: m is its place in spot 0. */
NV_INLINE void give_tile(const nv_winograd_job *j, int64_t y, int64_t x, int64_t channel, const unsigned char *m) {
    const size_t spot = nv_winograd_outputs(j);
    vf s[2][4];
    for (int i = 0; i < 4; i++) {
        vf c[4];
        for (int k = 0; k < 4; k++)
            c[k] = vload_f32((const float *)(const void *)(m + (size_t)(4 * k + i) * spot), NV_LANES);
        s[0][i] = c[0] + c[1] + c[2];
        s[1][i] = c[1] - c[2] - c[3];
    }
    const vf bias = j->bias ? vload_f32(j->bias + channel, NV_LANES) : vset(0.0f);
    for (int i = 0; i < 2 && 2 * y + i < j->height; i++) {
        float *to = j->y + ((2 * y + i) * j->width + 2 * x) * j->out + channel;
        for (int k = 0; k < 2 && 2 * x + k < j->width; k++, to += j->out) {
            vf out = (k ? s[i][1] - s[i][2] - s[i][3] : s[i][0] + s[i][1] + s[i][2]) + bias;
            if (j->add) out += vload_f32(to, NV_LANES);
            vstore_f32(to, out, NV_LANES);
        }
    }
}

static void give(const nv_winograd_job *j, int64_t first, int64_t last, int64_t channel, const unsigned char *m,
                 int vectors) {
    const int64_t across = tiles_across(j);
    int64_t y = first / across, x = first % across;
    for (int64_t t = first; t < last; t++, m += PANEL * sizeof(float)) {
        for (int i = 0; i < vectors; i++)
            give_tile(j, y, x, channel + i * NV_LANES, m + (size_t)i * sizeof(vf));
        if (++x == across) {
            x = 0;
            y++;
        }
    }
}

/* ------------------------------------------------------------------------------------------ a task */

NV_INLINE void tiles(const nv_winograd_job *j, int64_t first, int64_t last, unsigned char *scratch, int bf16) {
    unsigned char *m = scratch + SPOTS * nv_winograd_inputs(j, bf16 ? 2 : 4);
    take(j, first, last, scratch, m, bf16);
    for (int64_t channel = 0; channel < j->out; channel += PANEL) {
        const int vectors = (int)(nv_smaller(j->out - channel, PANEL) / NV_LANES);
        if (vectors == 3)
            multiply(j, scratch, last - first, channel, m, 3, bf16);
        else if (vectors == 2)
            multiply(j, scratch, last - first, channel, m, 2, bf16);
        else
            multiply(j, scratch, last - first, channel, m, 1, bf16);
        give(j, first, last, channel, m, vectors);
    }
}

static void tiles_fp32(const nv_winograd_job *j, int64_t first, int64_t last, void *scratch) {
    tiles(j, first, last, scratch, 0);
}

#ifdef __AVX512BF16__
static void tiles_bf16(const nv_winograd_job *j, int64_t first, int64_t last, void *scratch) {
    tiles(j, first, last, scratch, 1);
}
#endif

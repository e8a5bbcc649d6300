/* SPDX-License-Identifier: Apache-2.0 */
/* Where tensors enter and leave a model: patches, the time's sinusoid, modulation, embedding tables. */
#include "device/cpu/cpu.h"
#include "tensor/bf16.h"
#include <math.h>

/* Calls for each run of patch[2] latent numbers of token t: its offset in the latent and its first column; `step` is
   the distance of neighbouring pixels' columns. */
typedef struct patch_geometry {
    int64_t grid[3], channels, area; /* tokens an axis; area: pixels of a channel's plane F * H * W */
    int64_t step;
} patch_geometry;

static patch_geometry geometry(const nv_patches *p) {
    patch_geometry g;
    for (int i = 0; i < 3; i++)
        g.grid[i] = p->size[i] / p->patch[i];
    g.channels = p->channels;
    g.area = (int64_t)p->size[0] * p->size[1] * p->size[2];
    g.step = p->channels_last ? p->channels : 1;
    return g;
}

static float get(nv_matrix rows, int64_t i) {
    return rows.dtype == NABLA_BF16 ? nv_bf16_to_float(((const nv_bf16 *)rows.data)[i]) : ((const float *)rows.data)[i];
}

static void put(nv_matrix rows, int64_t i, float v) {
    if (rows.dtype == NABLA_BF16)
        ((nv_bf16 *)rows.data)[i] = nv_bf16_from_float(v);
    else
        ((float *)rows.data)[i] = v;
}

/* One token: its columns from the latent, or (into) the latent from its columns. */
static void token(const nv_patches *p, const patch_geometry *g, const float *from, float *into, nv_matrix rows,
                  int64_t row) {
    const int64_t tokens = g->grid[0] * g->grid[1] * g->grid[2], sample = row / tokens;
    const int64_t at = p->raster[row % tokens], w = at % g->grid[2], h = at / g->grid[2] % g->grid[1],
                  f = at / (g->grid[1] * g->grid[2]);
    const int64_t pixels = (int64_t)p->patch[0] * p->patch[1] * p->patch[2];
    for (int64_t c = 0; c < g->channels; c++)
        for (int64_t i = 0; i < (int64_t)p->patch[0] * p->patch[1]; i++) {
            const int64_t pf = i / p->patch[1], ph = i % p->patch[1];
            const int64_t line = (f * p->patch[0] + pf) * p->size[1] + h * p->patch[1] + ph;
            const int64_t pixel = (sample * g->channels + c) * g->area + line * p->size[2] + w * p->patch[2];
            const int64_t first = i * p->patch[2];
            const int64_t col = row * rows.stride + (p->channels_last ? first * g->channels + c : c * pixels + first);
            for (int64_t pw = 0; pw < p->patch[2]; pw++) {
                if (from)
                    put(rows, col + pw * g->step, from[pixel + pw]);
                else
                    into[pixel + pw] = get(rows, col + pw * g->step);
            }
        }
}

nabla_status nv_cpu_patchify(nv_device *dev, const nv_patches *p, const float *latent, nv_matrix rows, nv_error *err) {
    (void)err;
    const patch_geometry g = geometry(p);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t row = 0; row < rows.rows; row++)
        token(p, &g, latent, NULL, rows, row);
    return NABLA_OK;
}

nabla_status nv_cpu_unpatchify(nv_device *dev, const nv_patches *p, nv_matrix rows, float *latent, nv_error *err) {
    (void)err;
    const patch_geometry g = geometry(p);
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t row = 0; row < rows.rows; row++)
        token(p, &g, NULL, latent, rows, row);
    return NABLA_OK;
}

/* Frequencies in fp64, as the original Wan code has them (diffusers' fp32 is 3e-5 away). */
nabla_status nv_cpu_sinusoid(nv_device *dev, const float *time, int64_t rows, int64_t dim, float *out, nv_error *err) {
    (void)dev;
    (void)err;
    const int64_t half = dim / 2;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < half; i++) {
            const double angle = (double)time[r] * pow(10000.0, -(double)i / (double)half);
            out[r * dim + i] = (float)cos(angle);
            out[r * dim + half + i] = (float)sin(angle);
        }
    return NABLA_OK;
}

nabla_status nv_cpu_modulation(nv_device *dev, const float *table, const float *e, int64_t batch, int64_t chunks,
                               int64_t e_chunks, int64_t dim, float *out, nv_error *err) {
    (void)err;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t row = 0; row < batch * chunks; row++) {
        const int64_t b = row / chunks, i = row % chunks;
        for (int64_t c = 0; c < dim; c++)
            out[row * dim + c] = table[i * dim + c] + e[(b * e_chunks + i % e_chunks) * dim + c];
    }
    return NABLA_OK;
}

nabla_status nv_cpu_modulation_backward(nv_device *dev, const float *d_out, int64_t batch, int64_t chunks,
                                        int64_t e_chunks, int64_t dim, float *d_table, float *d_e, nv_error *err) {
    (void)err;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t c = 0; c < dim; c++)
        for (int64_t b = 0; b < batch; b++)
            for (int64_t i = 0; i < chunks; i++) {
                const float d = d_out[(b * chunks + i) * dim + c];
                d_table[i * dim + c] += d;
                d_e[(b * e_chunks + i % e_chunks) * dim + c] += d;
            }
    return NABLA_OK;
}

nabla_status nv_cpu_embed(nv_device *dev, const float *table, const int32_t *ids, int64_t count, int64_t dim,
                          float *out, nv_error *err) {
    (void)err;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < dim; c++)
            out[i * dim + c] = table[(int64_t)ids[i] * dim + c];
    return NABLA_OK;
}

/* Threads own columns, so that rows that occur twice are added in order. */
nabla_status nv_cpu_embed_backward(nv_device *dev, const float *d_out, const int32_t *ids, int64_t count, int64_t dim,
                                   float *d_table, nv_error *err) {
    (void)err;
    const int64_t piece = 64;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t first = 0; first < dim; first += piece)
        for (int64_t i = 0; i < count; i++)
            for (int64_t c = first; c < dim && c < first + piece; c++)
                d_table[(int64_t)ids[i] * dim + c] += d_out[i * dim + c];
    return NABLA_OK;
}

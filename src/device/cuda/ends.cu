/* SPDX-License-Identifier: Apache-2.0 */
/* Where tensors enter and leave a model: patches, the time's sinusoid, modulation, embedding tables. Small beside what
   lies between: a thread a number. */
#include "device/cuda/cells.cuh"

/* ---- patches */

/* Where column `column` of row `row` lies in the latent. */
NV_FN int64_t latent_at(const nv_patches &p, uint32_t row, uint32_t column) {
    const uint32_t pf = (uint32_t)p.patch[0], ph = (uint32_t)p.patch[1], pw = (uint32_t)p.patch[2];
    const uint32_t wide = (uint32_t)p.size[2] / pw, high = (uint32_t)p.size[1] / ph;
    const uint32_t tokens = (uint32_t)p.size[0] / pf * high * wide, sample = row / tokens;
    const uint32_t channels = (uint32_t)p.channels, pixels = pf * ph * pw;
    const uint32_t channel = p.channels_last ? column % channels : column / pixels;
    const uint32_t pixel = p.channels_last ? column / channels : column % pixels;
    const uint32_t token = (uint32_t)__ldg(p.raster + row % tokens), line = token / wide;
    const int64_t f = line / high * pf + pixel / (ph * pw), h = line % high * ph + pixel / pw % ph;
    const int64_t w = token % wide * pw + pixel % pw;
    return ((((int64_t)sample * channels + channel) * p.size[0] + f) * p.size[1] + h) * p.size[2] + w;
}

template <typename T> struct patchify_body {
    typedef float piece[1];
    nv_patches p;
    const float *latent;
    nv_matrix rows;

    __device__ void load(piece &v, int64_t row, int64_t column) const {
        v[0] = latent[latent_at(p, (uint32_t)row, (uint32_t)column)];
    }
    __device__ void store(piece &v, int64_t row, int64_t column) const {
        nv_from_float(v[0], nv_row<T>(rows, row) + column);
    }
};

template <typename T> struct unpatchify_body {
    typedef float piece[1];
    nv_patches p;
    nv_matrix rows;
    float *latent;

    __device__ void load(piece &v, int64_t row, int64_t column) const {
        v[0] = nv_to_float(nv_row<T>(rows, row)[column]);
    }
    __device__ void store(piece &v, int64_t row, int64_t column) const {
        latent[latent_at(p, (uint32_t)row, (uint32_t)column)] = v[0];
    }
};

nabla_status nv_cuda_patchify(nv_device *dev, const nv_patches *p, const float *latent, nv_matrix rows, nv_error *err) {
    void *stream = nv_cuda_of(dev)->stream;
    NV_TRY(nv_check_rows(rows.rows, rows.cols, "taking patches", err));
    if (rows.dtype == NABLA_BF16)
        return nv_over_cells<1>(patchify_body<__nv_bfloat16>{*p, latent, rows}, rows.rows, rows.cols, stream,
                                "taking patches", err);
    return nv_over_cells<1>(patchify_body<float>{*p, latent, rows}, rows.rows, rows.cols, stream, "taking patches",
                            err);
}

nabla_status nv_cuda_unpatchify(nv_device *dev, const nv_patches *p, nv_matrix rows, float *latent, nv_error *err) {
    void *stream = nv_cuda_of(dev)->stream;
    NV_TRY(nv_check_rows(rows.rows, rows.cols, "putting patches back", err));
    if (rows.dtype == NABLA_BF16)
        return nv_over_cells<1>(unpatchify_body<__nv_bfloat16>{*p, rows, latent}, rows.rows, rows.cols, stream,
                                "putting patches back", err);
    return nv_over_cells<1>(unpatchify_body<float>{*p, rows, latent}, rows.rows, rows.cols, stream,
                            "putting patches back", err);
}

/* ---- time */

/* Frequencies in fp64, as the original Wan code has them. */
struct sinusoid_body {
    typedef float piece[2];
    const float *time;
    int64_t half;
    float *out;

    __device__ void load(piece &v, int64_t row, int64_t i) const {
        const double angle = (double)time[row] * pow(10000.0, -(double)i / (double)half);
        v[0] = (float)cos(angle);
        v[1] = (float)sin(angle);
    }
    __device__ void store(piece &v, int64_t row, int64_t i) const {
        out[row * 2 * half + i] = v[0];
        out[row * 2 * half + half + i] = v[1];
    }
};

nabla_status nv_cuda_sinusoid(nv_device *dev, const float *time, int64_t rows, int64_t dim, float *out, nv_error *err) {
    return nv_over_cells<1>(sinusoid_body{time, dim / 2, out}, rows, dim / 2, nv_cuda_of(dev)->stream, "a sinusoid",
                            err);
}

/* ---- modulation */

struct modulation_body {
    typedef float piece[1];
    const float *table, *e;
    int64_t chunks, e_chunks, dim;
    float *out;

    __device__ void load(piece &v, int64_t row, int64_t column) const {
        const int64_t b = row / chunks, i = row % chunks;
        v[0] = table[i * dim + column] + e[(b * e_chunks + i % e_chunks) * dim + column];
    }
    __device__ void store(piece &v, int64_t row, int64_t column) const {
        out[row * dim + column] = v[0];
    }
};

nabla_status nv_cuda_modulation(nv_device *dev, const float *table, const float *e, int64_t batch, int64_t chunks,
                                int64_t e_chunks, int64_t dim, float *out, nv_error *err) {
    return nv_over_cells<1>(modulation_body{table, e, chunks, e_chunks, dim, out}, batch * chunks, dim,
                            nv_cuda_of(dev)->stream, "a modulation", err);
}

/* Rows are those of d_table and then those of d_e. */
struct modulation_grad_body {
    typedef float piece[1];
    const float *d_out;
    int64_t batch, chunks, e_chunks, dim;
    float *d_table, *d_e;

    __device__ float *place(int64_t row, int64_t column) const {
        return row < chunks ? d_table + row * dim + column : d_e + (row - chunks) * dim + column;
    }
    __device__ void load(piece &v, int64_t row, int64_t column) const {
        v[0] = *place(row, column);
        if (row < chunks) {
            for (int64_t b = 0; b < batch; b++)
                v[0] += d_out[(b * chunks + row) * dim + column];
        } else {
            const int64_t b = (row - chunks) / e_chunks;
            for (int64_t i = (row - chunks) % e_chunks; i < chunks; i += e_chunks)
                v[0] += d_out[(b * chunks + i) * dim + column];
        }
    }
    __device__ void store(piece &v, int64_t row, int64_t column) const {
        *place(row, column) = v[0];
    }
};

nabla_status nv_cuda_modulation_backward(nv_device *dev, const float *d_out, int64_t batch, int64_t chunks,
                                         int64_t e_chunks, int64_t dim, float *d_table, float *d_e, nv_error *err) {
    return nv_over_cells<1>(modulation_grad_body{d_out, batch, chunks, e_chunks, dim, d_table, d_e},
                            chunks + batch * e_chunks, dim, nv_cuda_of(dev)->stream, "a modulation backwards", err);
}

/* ---- embedding tables */

struct embed_body {
    typedef float piece[1];
    const float *table;
    const int32_t *ids;
    int64_t dim;
    float *out;

    __device__ void load(piece &v, int64_t row, int64_t column) const {
        v[0] = table[(int64_t)__ldg(ids + row) * dim + column];
    }
    __device__ void store(piece &v, int64_t row, int64_t column) const {
        out[row * dim + column] = v[0];
    }
};

nabla_status nv_cuda_embed(nv_device *dev, const float *table, const int32_t *ids, int64_t count, int64_t dim,
                           float *out, nv_error *err) {
    return nv_over_cells<1>(embed_body{table, ids, dim, out}, count, dim, nv_cuda_of(dev)->stream, "an embedding", err);
}

enum { EMBED_THREADS = 128 };

/* A thread block for each place in ids; the first place of an id adds up all of them, in ascending order. */
static __global__ void __launch_bounds__(EMBED_THREADS)
    embed_backward_rows(const float *d_out, const int32_t *ids, int64_t count, int64_t dim, float *d_table) {
    __shared__ int32_t seen;
    const int64_t place = blockIdx.x;
    const int32_t id = __ldg(ids + place);
    if (threadIdx.x == 0) seen = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < place; i += EMBED_THREADS)
        if (__ldg(ids + i) == id) seen = 1;
    __syncthreads();
    if (seen) return;
    for (int64_t column = threadIdx.x; column < dim; column += EMBED_THREADS) {
        float *to = d_table + (int64_t)id * dim + column, sum = *to;
        for (int64_t i = place; i < count; i++)
            if (__ldg(ids + i) == id) sum += d_out[i * dim + column];
        *to = sum;
    }
}

nabla_status nv_cuda_embed_backward(nv_device *dev, const float *d_out, const int32_t *ids, int64_t count, int64_t dim,
                                    float *d_table, nv_error *err) {
    if (count == 0 || dim == 0) return NABLA_OK;
    if (count > INT32_MAX)
        return nv_fail(err, NABLA_UNSUPPORTED, "an embedding of %lld tokens backwards: the GPU takes up to %d",
                       (long long)count, INT32_MAX);
    NABLA_LAUNCH(embed_backward_rows, (unsigned)count, EMBED_THREADS, 0, nv_cuda_of(dev)->stream)
    (d_out, ids, count, dim, d_table);
    return nv_cuda_launched(err, "an embedding backwards");
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's kernels between the products, at the shapes of Wan2.1's transformers and of its VAE, beside a plain copy
 * of the same run: all are bound by memory, so the copy's rate is the most that one can reach. CSV on stdout: bytes are
 * what an operation must read and write once; ms is the median of calls that were queued one after the other.
 *
 *     gpu_ops [REPEATS [NAME]]    repeats: 20; only operations whose name begins so
 */
#include "device/create.h"
#include "device/cuda/ops.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_REPEATS = 100, HALVES = 4, FLOATS = 5 };

typedef struct bench {
    nv_device *dev;
    cudaEvent_t events[MOST_REPEATS + 1];
    int repeats;
    const char *only;
    double copy_rate; /* bytes a second */
    int failures;
    /* the shape at hand */
    int64_t rows, dim, wide, heads;
    void *half[HALVES];  /* [rows, 3 dim] of bf16, or [rows, wide] */
    float *full[FLOATS]; /* [rows, dim] */
    float *small[8];     /* [8 * wide] */
    int32_t *raster;     /* [rows], in order */
    nv_piece *pieces;    /* of an optimizer's tensor: value, grad, m, v, ema are full[0] to full[4] */
    int64_t piece_count;
    double *sum;
    nv_adamw_numbers *numbers;
    uint64_t *stream;
    nv_error err;
} bench;

typedef nabla_status operation(bench *b, nv_error *err);

static nv_matrix half(const bench *b, int i, int64_t cols) {
    return nv_matrix_of(b->half[i], NABLA_BF16, b->rows, cols);
}

static nv_matrix full(const bench *b, int i) {
    return nv_matrix_of(b->full[i], NABLA_FP32, b->rows, b->dim);
}

/* ---- measuring */

static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* The median of b->repeats calls, in seconds; 0 after a failure. */
static double time_of(bench *b, operation *call) {
    const cudaStream_t stream = nv_cuda_of(b->dev)->stream;
    float ms[MOST_REPEATS];
    nabla_status status = call(b, &b->err); /* the first loads the kernel and grows the scratch */
    for (int i = 0; i <= b->repeats && status == NABLA_OK; i++) {
        cudaEventRecord(b->events[i], stream);
        if (i < b->repeats) status = call(b, &b->err);
    }
    if (status == NABLA_OK) {
        cudaStreamSynchronize(stream);
        status = nv_cuda_launched(&b->err, "waiting");
    }
    if (status != NABLA_OK) return 0.0;
    for (int i = 0; i < b->repeats; i++)
        cudaEventElapsedTime(&ms[i], b->events[i], b->events[i + 1]);
    qsort(ms, (size_t)b->repeats, sizeof *ms, ascending);
    return 1e-3 * (double)ms[b->repeats / 2];
}

static void measure(bench *b, const char *name, operation *call, int64_t rows, int64_t cols, double bytes_each) {
    const double bytes = bytes_each * (double)rows * (double)cols;
    if (b->only && strncmp(name, b->only, strlen(b->only)) != 0) return;
    const double seconds = time_of(b, call);
    if (seconds > 0.0) {
        printf("%s,%lld x %lld,%.0f,%.4f,%.0f,%.3f\n", name, (long long)rows, (long long)cols, bytes, 1e3 * seconds,
               1e-9 * bytes / seconds, bytes / seconds / b->copy_rate);
    } else {
        printf("%s,%lld x %lld,%.0f,,,failed: %s\n", name, (long long)rows, (long long)cols, bytes, b->err.text);
        b->failures++;
    }
    fflush(stdout);
}

/* ---- a transformer's operations; bytes a number are in the table below */

static nv_seam seam_of(const bench *b, int saved) {
    return (nv_seam){.rows = b->rows,
                     .dim = b->dim,
                     .group_rows = b->rows,
                     .x = b->full[0],
                     .y = half(b, 0, b->dim),
                     .gate = b->small[0],
                     .normalise = 1,
                     .eps = 1e-6f,
                     .gain_offset = 1.0f,
                     .gain = b->small[1],
                     .shift = b->small[2],
                     .n = half(b, 1, b->dim),
                     .xhat = saved ? b->half[2] : NULL,
                     .rstd = saved ? b->full[4] : NULL};
}

static nabla_status copy(bench *b, nv_error *err) {
    cudaMemcpyAsync(b->full[1], b->full[0], (size_t)(b->rows * b->dim) * sizeof(float), cudaMemcpyDeviceToDevice,
                    nv_cuda_of(b->dev)->stream);
    return nv_cuda_launched(err, "a copy");
}

static nabla_status seam(bench *b, nv_error *err) {
    const nv_seam a = seam_of(b, 0);
    return b->dev->ops->seam(b->dev, &a, err);
}

static nabla_status seam_saved(bench *b, nv_error *err) {
    const nv_seam a = seam_of(b, 1);
    return b->dev->ops->seam(b->dev, &a, err);
}

static nabla_status seam_backward(bench *b, nv_error *err) {
    const nv_seam a = seam_of(b, 1);
    const nv_seam_grad g = {.d_n = half(b, 1, b->dim),
                            .d_x = b->full[1],
                            .d_y = half(b, 3, b->dim),
                            .d_gain = b->small[3],
                            .d_shift = b->small[4],
                            .d_gate = b->small[5],
                            .d_bias = b->small[6]};
    return b->dev->ops->seam_backward(b->dev, &a, &g, err);
}

/* Queries of a matrix of queries, keys and values, turned. */
static nv_qk_norm qk_norm_of(const bench *b) {
    return (nv_qk_norm){.x = nv_matrix_cols(half(b, 0, 3 * b->dim), 0, b->dim),
                        .y = nv_matrix_cols(half(b, 1, 2 * b->dim), 0, b->dim),
                        .heads = (int32_t)b->heads,
                        .eps = 1e-6f,
                        .weight = b->small[0],
                        .rope = b->full[0],
                        .tokens = b->rows,
                        .rstd = b->full[4]};
}

static nabla_status qk_norm(bench *b, nv_error *err) {
    const nv_qk_norm a = qk_norm_of(b);
    return b->dev->ops->qk_norm(b->dev, &a, err);
}

static nabla_status qk_norm_backward(bench *b, nv_error *err) {
    const nv_qk_norm a = qk_norm_of(b);
    const nv_matrix d = nv_matrix_cols(half(b, 2, 3 * b->dim), 0, b->dim);
    return b->dev->ops->qk_norm_backward(b->dev, &a, d, d, b->small[3], b->small[4], err);
}

static nabla_status activate(bench *b, nv_error *err) {
    return b->dev->ops->activate(b->dev, NV_GELU_TANH, half(b, 0, b->wide), half(b, 1, b->wide), err);
}

static nabla_status activate_backward(bench *b, nv_error *err) {
    const nv_matrix x = half(b, 0, b->wide), d = half(b, 1, b->wide);
    return b->dev->ops->activate_backward(b->dev, NV_GELU_TANH, x, d, d, x, b->small[3], err);
}

static nabla_status gate(bench *b, nv_error *err) {
    return b->dev->ops->gate(b->dev, NV_GELU_TANH, half(b, 0, b->wide), half(b, 1, b->wide), half(b, 2, b->wide), err);
}

static nabla_status column_sums(bench *b, nv_error *err) {
    return b->dev->ops->column_sums(b->dev, nv_matrix_cols(half(b, 0, 3 * b->dim), 0, b->dim), b->small[3], err);
}

static nabla_status narrow(bench *b, nv_error *err) {
    return b->dev->ops->cast(b->dev, full(b, 0), half(b, 0, b->dim), err);
}

static nabla_status widen(bench *b, nv_error *err) {
    return b->dev->ops->cast(b->dev, half(b, 0, b->dim), full(b, 0), err);
}

static nabla_status add(bench *b, nv_error *err) {
    return b->dev->ops->add(b->dev, b->full[0], b->full[1], b->rows * b->dim, err);
}

static nabla_status adamw(bench *b, nv_error *err) {
    const nv_adamw a = {0.9f, 0.99f, 1e-8f, 1.0f, 1.0f, b->numbers, b->sum};
    return b->dev->ops->adamw(b->dev, &a, b->pieces, b->piece_count, err);
}

static nabla_status sum_squares(bench *b, nv_error *err) {
    return b->dev->ops->sum_squares(b->dev, b->pieces, b->piece_count, b->sum, err);
}

static nabla_status noise(bench *b, nv_error *err) {
    const nv_noising a = {1, b->rows * b->dim, 1, b->stream, b->small[0], b->full[0], b->full[1], 0};
    return b->dev->ops->noise(b->dev, &a, err);
}

/* Rows of 2 x 2 pixels and 16 channels; the latent of one frame, `rows` patches in a line. */
static nv_patches patches_of(const bench *b) {
    return (nv_patches){1, 16, {1, 2, (int32_t)(2 * b->rows)}, {1, 2, 2}, b->raster, 0};
}

static nabla_status patchify(bench *b, nv_error *err) {
    const nv_patches p = patches_of(b);
    return b->dev->ops->patchify(b->dev, &p, b->full[0], half(b, 0, 64), err);
}

static nabla_status unpatchify(bench *b, nv_error *err) {
    const nv_patches p = patches_of(b);
    return b->dev->ops->unpatchify(b->dev, &p, half(b, 0, 64), b->full[0], err);
}

static const struct {
    const char *name;
    operation *call;
    enum { DIM, WIDE, PATCH } cols;
    double bytes; /* a number */
} operations[] = {
    {"seam", seam, DIM, 12},
    {"seam saving xhat", seam_saved, DIM, 14},
    {"seam_backward", seam_backward, DIM, 16},
    {"qk_norm", qk_norm, DIM, 4},
    {"qk_norm_backward", qk_norm_backward, DIM, 6},
    {"activate", activate, WIDE, 4},
    {"activate_backward", activate_backward, WIDE, 8},
    {"gate", gate, WIDE, 6},
    {"column_sums", column_sums, DIM, 2},
    {"cast to bf16", narrow, DIM, 6},
    {"cast to fp32", widen, DIM, 6},
    {"add", add, DIM, 12},
    {"adamw", adamw, DIM, 40},
    {"sum_squares", sum_squares, DIM, 4},
    {"noise", noise, DIM, 8},
    {"patchify", patchify, PATCH, 6},
    {"unpatchify", unpatchify, PATCH, 6},
};

/* ---- a VAE's: a frame's pixels are rows, its channels columns */

static nabla_status channel_norm(bench *b, nv_error *err) {
    const nv_channel_norm a = {full(b, 0), half(b, 0, b->dim), b->small[0], 1};
    return b->dev->ops->channel_norm(b->dev, &a, err);
}

static nabla_status upsample(bench *b, nv_error *err) {
    nv_matrix y = nv_matrix_of(b->half[0], NABLA_BF16, 4 * b->rows, b->dim);
    return b->dev->ops->upsample(b->dev, b->full[0], 8, (int32_t)(b->rows / 8), y, err);
}

static nabla_status softmax(bench *b, nv_error *err) {
    return b->dev->ops->softmax(b->dev, full(b, 0), 0.05f, NULL, half(b, 0, b->dim), err);
}

/* ---- shapes */

static void *take(bench *b, size_t bytes) {
    void *p;
    if (b->dev->ops->allocate(b->dev, bytes, &p, &b->err) != NABLA_OK) {
        fprintf(stderr, "gpu_ops: %s\n", b->err.text);
        exit(1);
    }
    cudaMemsetAsync(p, 0x3c, bytes, nv_cuda_of(b->dev)->stream); /* 0.0115 in either dtype */
    return p;
}

static void cut(bench *b) {
    const int64_t n = b->rows * b->dim;
    b->piece_count = (n + NV_PIECE - 1) / NV_PIECE;
    nv_piece *pieces = malloc((size_t)b->piece_count * sizeof *pieces);
    if (!pieces) abort();
    for (int64_t i = 0; i < b->piece_count; i++) {
        const int64_t at = i * NV_PIECE, count = n - at < NV_PIECE ? n - at : NV_PIECE;
        pieces[i] = (nv_piece){
            b->full[0] + at, b->full[1] + at, b->full[2] + at, b->full[3] + at, b->full[4] + at, (int32_t)count, 0.01f};
    }
    b->pieces = take(b, (size_t)b->piece_count * sizeof *pieces);
    b->dev->ops->upload(b->dev, b->pieces, pieces, (size_t)b->piece_count * sizeof *pieces);
    b->sum = take(b, sizeof *b->sum);
    b->stream = take(b, sizeof *b->stream);
    b->numbers = take(b, sizeof *b->numbers);
    const nv_adamw_numbers numbers = {1e-4f, 0.999f, 1.5f, 10.5f};
    b->dev->ops->upload(b->dev, b->numbers, &numbers, sizeof numbers);
    free(pieces);
}

static void shape(bench *b, int64_t rows, int64_t dim, int64_t wide, int64_t heads) {
    const size_t most = (size_t)(wide > 4 * dim ? wide : 4 * dim);
    b->rows = rows;
    b->dim = dim;
    b->wide = wide;
    b->heads = heads;
    for (int i = 0; i < HALVES; i++)
        b->half[i] = take(b, (size_t)rows * most * 2);
    for (int i = 0; i < FLOATS; i++)
        b->full[i] = take(b, (size_t)(rows * (dim > 64 ? dim : 64)) * sizeof(float));
    for (int i = 0; i < 8; i++)
        b->small[i] = take(b, most * sizeof(float));
    int32_t *order = malloc((size_t)rows * sizeof *order);
    if (!order) abort();
    for (int64_t i = 0; i < rows; i++)
        order[i] = (int32_t)i;
    b->raster = take(b, (size_t)rows * sizeof *order);
    b->dev->ops->upload(b->dev, b->raster, order, (size_t)rows * sizeof *order);
    free(order);
    cut(b);
}

static void done(bench *b) {
    for (int i = 0; i < HALVES; i++)
        b->dev->ops->release(b->dev, b->half[i]);
    for (int i = 0; i < FLOATS; i++)
        b->dev->ops->release(b->dev, b->full[i]);
    for (int i = 0; i < 8; i++)
        b->dev->ops->release(b->dev, b->small[i]);
    b->dev->ops->release(b->dev, b->raster);
    b->dev->ops->release(b->dev, b->pieces);
    b->dev->ops->release(b->dev, b->sum);
    b->dev->ops->release(b->dev, b->stream);
    b->dev->ops->release(b->dev, b->numbers);
}

static void transformer(bench *b, int64_t rows, int64_t dim, int64_t wide, int64_t heads) {
    shape(b, rows, dim, wide, heads);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        const int64_t cols = operations[i].cols == WIDE ? wide : operations[i].cols == PATCH ? 64 : dim;
        measure(b, operations[i].name, operations[i].call, rows, cols, operations[i].bytes);
    }
    done(b);
}

int main(int argc, char **argv) {
    bench b = {.repeats = argc > 1 ? atoi(argv[1]) : 20, .only = argc > 2 ? argv[2] : NULL};
    if (b.repeats < 1 || b.repeats > MOST_REPEATS) {
        fprintf(stderr, "gpu_ops: %d repeats; from 1 to %d\n", b.repeats, (int)MOST_REPEATS);
        return 2;
    }
    const nv_device_options gpu = {.device = NABLA_CUDA};
    if (nv_cuda_create(&gpu, &b.dev, &b.err) != NABLA_OK) {
        fprintf(stderr, "gpu_ops: %s\n", b.err.text);
        return 1;
    }
    for (int i = 0; i <= b.repeats; i++)
        cudaEventCreate(&b.events[i]);
    printf("operation,shape,bytes,ms,gb_s,of_copy\n");

    shape(&b, 80640, 5120, 13824, 40);
    const double bytes = 8.0 * (double)(b.rows * b.dim), seconds = time_of(&b, copy);
    b.copy_rate = seconds > 0.0 ? bytes / seconds : 1.0;
    printf("copy,%lld x %lld,%.0f,%.4f,%.0f,1\n", (long long)b.rows, (long long)b.dim, bytes, 1e3 * seconds,
           1e-9 * b.copy_rate);
    done(&b);
    transformer(&b, 80640, 5120, 13824, 40); /* 14B, 720p */
    transformer(&b, 32760, 1536, 8960, 12);  /* 1.3B, 480p */
    transformer(&b, 18432, 192, 768, 3);     /* the demo's training batch: lies in the L2 */

    shape(&b, 720 * 1280, 96, 96, 1);
    measure(&b, "channel_norm", channel_norm, b.rows, b.dim, 6);
    done(&b);
    shape(&b, 360 * 640, 192, 192, 1);
    measure(&b, "channel_norm", channel_norm, b.rows, b.dim, 6);
    measure(&b, "upsample", upsample, b.rows, b.dim, 12);
    done(&b);
    shape(&b, 14400, 14400, 14400, 1);
    measure(&b, "softmax", softmax, b.rows, b.dim, 6);
    done(&b);

    for (int i = 0; i <= b.repeats; i++)
        cudaEventDestroy(b.events[i]);
    b.dev->ops->destroy(b.dev);
    return b.failures != 0;
}

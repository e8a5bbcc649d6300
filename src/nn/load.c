/* SPDX-License-Identifier: Apache-2.0 */
#include "nn/load.h"

#include <stdlib.h>

size_t nv_load_memory(void) {
    return 2 * NV_LOAD_PIECE * sizeof(float);
}

/* What the device can cast: NABLA_FP32 and NABLA_BF16; other dtypes become fp32 on the host first. */
static int device_dtype(nv_st_dtype dtype, nabla_dtype *out) {
    *out = dtype == NV_ST_BF16 ? NABLA_BF16 : NABLA_FP32;
    return dtype == NV_ST_BF16 || dtype == NV_ST_F32;
}

typedef struct staging {
    void *device;
    float *host; /* NULL where the device casts */
} staging;

/* `count` numbers from element `first` on, into dst. */
static nabla_status load_piece(nv_device *dev, const nv_st_entry *entry, const staging *s, int64_t first, int64_t count,
                               nv_matrix dst, nv_error *err) {
    const size_t size = nv_st_dtype_size(entry->dtype);
    nabla_dtype dtype;
    nv_st_entry piece = *entry;
    piece.data = (const unsigned char *)entry->data + (size_t)first * size;
    piece.bytes = (size_t)count * size;
    if (device_dtype(entry->dtype, &dtype)) {
        dev->ops->upload(dev, s->device, piece.data, piece.bytes);
    } else {
        NV_TRY(nv_st_read_f32(&piece, s->host, (size_t)count, err));
        dev->ops->upload(dev, s->device, s->host, (size_t)count * sizeof(float));
    }
    const nv_matrix src = nv_matrix_of(s->device, dtype, dst.rows, dst.cols);
    return dev->ops->cast(dev, src, dst, err);
}

static nabla_status load_pieces(nv_device *dev, const nv_st_entry *entry, const staging *s, nv_matrix dst,
                                nv_error *err) {
    const int64_t most = NV_LOAD_PIECE / dst.cols;
    for (int64_t row = 0; row < dst.rows; row += most) {
        const int64_t rows = dst.rows - row < most ? dst.rows - row : most;
        NV_TRY(load_piece(dev, entry, s, row * dst.cols, rows * dst.cols, nv_matrix_rows(dst, row, rows), err));
    }
    return NABLA_OK;
}

static nabla_status load_rows(nv_device *dev, const nv_st_entry *entry, nv_matrix dst, nv_error *err) {
    const size_t size = nv_st_dtype_size(entry->dtype);
    staging s = {0};
    nabla_dtype dtype;
    if (size == 0 || entry->bytes / size != (size_t)(dst.rows * dst.cols) || dst.stride != dst.cols ||
        dst.cols > NV_LOAD_PIECE)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "tensor \"%s\" does not fit into %lld x %lld", entry->name,
                       (long long)dst.rows, (long long)dst.cols);
    const int casts = device_dtype(entry->dtype, &dtype);
    if (casts && dtype == dst.dtype) {
        dev->ops->upload(dev, dst.data, entry->data, entry->bytes);
        return NABLA_OK;
    }
    NV_TRY(dev->ops->allocate(dev, NV_LOAD_PIECE * sizeof(float), &s.device, err));
    nabla_status status = NABLA_OK;
    if (!casts && !(s.host = malloc(NV_LOAD_PIECE * sizeof(float))))
        status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to read tensor \"%s\"", entry->name);
    if (status == NABLA_OK) status = load_pieces(dev, entry, &s, dst, err);
    dev->ops->release(dev, s.device);
    free(s.host);
    return status;
}

nabla_status nv_load(nv_device *dev, const nv_st_entry *entry, nv_matrix dst, nv_error *err) {
    if (!entry->strides) return load_rows(dev, entry, dst, err);
    nv_st_entry whole = *entry;
    void *data = malloc(entry->bytes);
    if (!data) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to read tensor \"%s\"", entry->name);
    whole.data = data;
    whole.strides = NULL;
    nabla_status status = nv_st_read(entry, data, entry->bytes, err);
    if (status == NABLA_OK) status = load_rows(dev, &whole, dst, err);
    free(data);
    return status;
}

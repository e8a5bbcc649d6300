/* SPDX-License-Identifier: Apache-2.0 */
/* A tensor of any float dtype as fp32. */
#include <stdlib.h>
#include <string.h>

#include "weights/safetensors.h"

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float from_bf16(uint16_t h) {
    return float_of((uint32_t)h << 16);
}

/* The fields moved to their fp32 places are a number 2^112 too small, subnormal or not; an exponent of all ones stays
   one. */
static float from_f16(uint16_t h) {
    uint32_t magnitude = h & 0x7fffu, sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t bits = bits_of(float_of(magnitude << 13) * 0x1p112f);
    if (magnitude >= 0x7c00u) bits |= 0x7f800000u;
    return float_of(bits | sign);
}

static void copy_bf16(const unsigned char *src, float *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, src + i * sizeof h, sizeof h);
        out[i] = from_bf16(h);
    }
}

static void copy_f16(const unsigned char *src, float *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, src + i * sizeof h, sizeof h);
        out[i] = from_f16(h);
    }
}

static void copy_f64(const unsigned char *src, float *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double x;
        memcpy(&x, src + i * sizeof x, sizeof x);
        out[i] = (float)x;
    }
}

/* The elements of a strided tensor one after the other: rows of the last axis, the others counted like digits. */
static void gather(const nv_st_entry *e, size_t size, unsigned char *out) {
    const int last = e->rank - 1;
    int64_t index[NV_ST_MAX_RANK] = {0};
    const size_t row = (size_t)e->shape[last], rows = e->bytes / size / row;
    for (size_t r = 0; r < rows; r++) {
        int64_t at = 0;
        for (int i = 0; i < last; i++)
            at += index[i] * e->strides[i];
        for (size_t i = 0; i < row; i++, out += size, at += e->strides[last])
            memcpy(out, (const unsigned char *)e->data + (size_t)at * size, size);
        for (int i = last - 1; i >= 0 && ++index[i] == e->shape[i]; i--)
            index[i] = 0;
    }
}

nabla_status nv_st_read(const nv_st_entry *entry, void *out, size_t bytes, nv_error *err) {
    if (entry->bytes != bytes)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "tensor \"%s\" has %zu bytes where %zu are wanted", entry->name,
                       entry->bytes, bytes);
    if (bytes == 0) return NABLA_OK;
    if (entry->strides && entry->rank > 0)
        gather(entry, nv_st_dtype_size(entry->dtype), out);
    else
        memcpy(out, entry->data, bytes);
    return NABLA_OK;
}

static nabla_status convert(const nv_st_entry *e, float *out, size_t count, nv_error *err) {
    switch (e->dtype) {
    case NV_ST_F32:
        if (count > 0) memcpy(out, e->data, e->bytes);
        return NABLA_OK;
    case NV_ST_BF16:
        copy_bf16(e->data, out, count);
        return NABLA_OK;
    case NV_ST_F16:
        copy_f16(e->data, out, count);
        return NABLA_OK;
    case NV_ST_F64:
        copy_f64(e->data, out, count);
        return NABLA_OK;
    default:
        return nv_fail(err, NABLA_UNSUPPORTED, "tensor \"%s\" has dtype %s, which is not read as fp32", e->name,
                       nv_st_dtype_name(e->dtype));
    }
}

nabla_status nv_st_read_f32(const nv_st_entry *entry, float *out, size_t count, nv_error *err) {
    size_t size = nv_st_dtype_size(entry->dtype);
    if (size == 0 || entry->bytes / size != count) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "tensor \"%s\" has %zu elements where %zu are wanted", entry->name,
                       size ? entry->bytes / size : 0, count);
    }
    if (!entry->strides || count == 0) return convert(entry, out, count, err);
    if (entry->dtype == NV_ST_F32) return nv_st_read(entry, out, entry->bytes, err);
    /* Rare enough for a copy of one tensor. */
    nv_st_entry row = *entry;
    void *copy = malloc(entry->bytes);
    if (!copy) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for tensor \"%s\"", entry->name);
    row.data = copy;
    nabla_status status = nv_st_read(entry, copy, entry->bytes, err);
    if (status == NABLA_OK) status = convert(&row, out, count, err);
    free(copy);
    return status;
}

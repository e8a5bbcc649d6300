/* SPDX-License-Identifier: Apache-2.0 */
/* A tensor of any float dtype as fp32. */
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

nabla_status nv_st_read_f32(const nv_st_entry *entry, float *out, size_t count, nv_error *err) {
    size_t size = nv_st_dtype_size(entry->dtype);
    if (size == 0 || entry->bytes / size != count) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "tensor \"%s\" has %zu elements where %zu are wanted", entry->name,
                       size ? entry->bytes / size : 0, count);
    }
    switch (entry->dtype) {
    case NV_ST_F32:
        if (count > 0) memcpy(out, entry->data, entry->bytes);
        return NABLA_OK;
    case NV_ST_BF16:
        copy_bf16(entry->data, out, count);
        return NABLA_OK;
    case NV_ST_F16:
        copy_f16(entry->data, out, count);
        return NABLA_OK;
    case NV_ST_F64:
        copy_f64(entry->data, out, count);
        return NABLA_OK;
    default:
        return nv_fail(err, NABLA_UNSUPPORTED, "tensor \"%s\" has dtype %s, which is not read as fp32", entry->name,
                       nv_st_dtype_name(entry->dtype));
    }
}

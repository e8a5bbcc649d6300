// SPDX-License-Identifier: Apache-2.0
// What the products ask of cuBLASLt, in plain loops: numbers as the library makes them, in no hurry. Takes the place of
// src/device/cuda/cublaslt.c. It holds its callers to what the library may rely on: descriptors that fit, pointers as
// aligned as was said when the algorithm was chosen.
#include "device/cuda/cublaslt.h"
#include "cuda_bf16.h"
#include <algorithm>
#include <cstring>

namespace {
struct desc {
    int turned[2] = {0, 0};
    int epilogue = NV_LT_EPILOGUE_PLAIN;
    const void *bias = nullptr;
};
struct layout {
    int type;
    int64_t rows, cols, ld;
};
struct preference {
    uint32_t alignment[4] = {256, 256, 256, 256};
};

float get(const void *data, int type, int64_t at) {
    return type == NV_LT_BF16 ? (float)((const __nv_bfloat16 *)data)[at] : ((const float *)data)[at];
}

void put(void *data, int type, int64_t at, float x) {
    if (type == NV_LT_BF16)
        ((__nv_bfloat16 *)data)[at] = __nv_bfloat16(x);
    else
        ((float *)data)[at] = x;
}

float gelu(float x) {
    return 0.5f * x * (1 + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)));
}

bool aligned(const void *data, uint64_t bytes) {
    return (uintptr_t)data % bytes == 0;
}

int desc_create(nv_lt_desc *out, int compute, int scale) {
    if (compute != NV_LT_COMPUTE_FP32 || scale != NV_LT_FP32) return NV_LT_NOT_SUPPORTED;
    *out = new desc();
    return 0;
}

int desc_destroy(nv_lt_desc d) {
    delete (desc *)d;
    return 0;
}

int desc_set(nv_lt_desc to, int attribute, const void *value, size_t) {
    desc *d = (desc *)to;
    if (attribute == NV_LT_TRANSPOSE_A || attribute == NV_LT_TRANSPOSE_B)
        d->turned[attribute == NV_LT_TRANSPOSE_B] = *(const int32_t *)value;
    else if (attribute == NV_LT_EPILOGUE)
        d->epilogue = *(const int32_t *)value;
    else if (attribute == NV_LT_BIAS_POINTER)
        d->bias = *(const void *const *)value;
    else
        return NV_LT_NOT_SUPPORTED;
    return 0;
}

int layout_create(nv_lt_layout *out, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    if (ld < (int64_t)rows || !rows || !cols) return NV_LT_NOT_SUPPORTED;
    *out = new layout{type, (int64_t)rows, (int64_t)cols, ld};
    return 0;
}

int layout_destroy(nv_lt_layout l) {
    delete (layout *)l;
    return 0;
}

int preference_create(nv_lt_preference *out) {
    *out = new preference();
    return 0;
}

int preference_destroy(nv_lt_preference p) {
    delete (preference *)p;
    return 0;
}

int preference_set(nv_lt_preference to, int attribute, const void *value, size_t) {
    const int which = attribute - NV_LT_ALIGNMENT_A;
    if (which >= 0 && which < 4) ((preference *)to)->alignment[which] = *(const uint32_t *)value;
    return 0;
}

// An algorithm remembers what it was promised, which of three it is, and whether it was one of many. They differ in the
// order of their sums; of many the first is slow, the second does not run and the third wants a workspace.
enum { ALIGNMENTS = 4, NUMBER = 4, OF_MANY = 5, ALGORITHMS = 3 };

int heuristic(nv_lt_handle, nv_lt_desc, nv_lt_layout, nv_lt_layout, nv_lt_layout, nv_lt_layout, nv_lt_preference from,
              int asked, nv_lt_heuristic *out, int *count) {
    *count = std::min<int>(asked, ALGORITHMS);
    for (int k = 0; k < *count; k++) {
        out[k] = {};
        for (int i = 0; i < ALIGNMENTS; i++)
            out[k].algo.data[i] = ((preference *)from)->alignment[i];
        out[k].algo.data[NUMBER] = (uint64_t)k;
        out[k].algo.data[OF_MANY] = asked > 1;
        out[k].workspace = k == ALGORITHMS - 1 ? 1024 : 0;
    }
    return 0;
}

int config_get(const nv_lt_algo *algo, int attribute, void *value, size_t size, size_t *written) {
    const uint32_t number = attribute == 0 ? 40 + (uint32_t)algo->data[NUMBER] : 0;
    if (size != (attribute < NV_LT_CONFIG - 2 ? 4u : 2u)) return 7;
    std::memcpy(value, &number, size);
    *written = size;
    return 0;
}

struct product {
    desc what;
    layout a, b, c, d;
    float alpha, beta;
    const void *a_data, *b_data, *c_data;
    void *d_data;
    uint64_t number; // of the algorithm
};

// A column of D at a time; each sum begins at another place for another algorithm.
void run(const product &p) {
    const int64_t a_row = p.what.turned[0] ? p.a.ld : 1, a_col = p.what.turned[0] ? 1 : p.a.ld,
                  b_row = p.what.turned[1] ? p.b.ld : 1, b_col = p.what.turned[1] ? 1 : p.b.ld,
                  inner = p.what.turned[0] ? p.a.rows : p.a.cols, rows = p.d.rows,
                  begin = inner * (int64_t)p.number / ALGORITHMS;
    std::vector<float> left((size_t)(rows * inner)), sums((size_t)rows);
    for (int64_t k = 0; k < inner; k++)
        for (int64_t i = 0; i < rows; i++)
            left[(size_t)(k * rows + i)] = get(p.a_data, p.a.type, i * a_row + k * a_col);
    for (int64_t j = 0; j < p.d.cols; j++) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int64_t step = 0; step < inner; step++) {
            const int64_t k = (begin + step) % inner;
            const float *column = left.data() + k * rows, right = get(p.b_data, p.b.type, k * b_row + j * b_col);
            float *to = sums.data();
            for (int64_t i = 0; i < rows; i++)
                to[i] += column[i] * right;
        }
        for (int64_t i = 0; i < rows; i++) {
            float sum = p.alpha * sums[(size_t)i];
            if (p.beta != 0) sum += p.beta * get(p.c_data, p.c.type, i + j * p.c.ld);
            if (p.what.epilogue & NV_LT_EPILOGUE_BIAS) sum += get(p.what.bias, p.d.type, i);
            if (p.what.epilogue & NV_LT_EPILOGUE_GELU) sum = gelu(sum);
            put(p.d_data, p.d.type, i + j * p.d.ld, sum);
        }
    }
}

int matmul(nv_lt_handle, nv_lt_desc what, const void *alpha, const void *a, nv_lt_layout a_layout, const void *b,
           nv_lt_layout b_layout, const void *beta, const void *c, nv_lt_layout c_layout, void *d,
           nv_lt_layout d_layout, const nv_lt_algo *algo, void *workspace, size_t workspace_bytes, void *stream) {
    const product p = {*(desc *)what,
                       *(layout *)a_layout,
                       *(layout *)b_layout,
                       *(layout *)c_layout,
                       *(layout *)d_layout,
                       *(const float *)alpha,
                       *(const float *)beta,
                       a,
                       b,
                       c,
                       d,
                       algo->data[NUMBER]};
    const void *const data[] = {a, b, c, d};
    for (int i = 0; i < ALIGNMENTS; i++)
        if (!aligned(data[i], algo->data[i])) emulator_fail("a matrix less aligned than its algorithm was told");
    const int64_t a_inner = p.what.turned[0] ? p.a.rows : p.a.cols, b_inner = p.what.turned[1] ? p.b.cols : p.b.rows,
                  rows = p.what.turned[0] ? p.a.cols : p.a.rows, cols = p.what.turned[1] ? p.b.rows : p.b.cols;
    if (a_inner != b_inner || rows != p.d.rows || cols != p.d.cols) return 7;
    if (algo->data[OF_MANY] && p.number == 1) return NV_LT_NOT_SUPPORTED;
    if (p.number == ALGORITHMS - 1 && (!workspace || workspace_bytes < 1024)) return NV_LT_NOT_SUPPORTED;
    const bool slow = algo->data[OF_MANY] && p.number == 0 && (p.beta == 0 || d != c);
    emulator_queue((cudaStream_t)stream, [=] {
        run(p);
        if (slow) run(p);
    });
    return 0;
}
} // namespace

extern "C" nabla_status nv_cublaslt_open(nv_cublaslt *lt, nv_error *) {
    *lt = {};
    lt->version = []() -> size_t { return 130000; };
    lt->create = [](nv_lt_handle *out) {
        *out = nullptr;
        return 0;
    };
    lt->destroy = [](nv_lt_handle) { return 0; };
    lt->desc_create = desc_create;
    lt->desc_destroy = desc_destroy;
    lt->desc_set = desc_set;
    lt->layout_create = layout_create;
    lt->layout_destroy = layout_destroy;
    lt->preference_create = preference_create;
    lt->preference_destroy = preference_destroy;
    lt->preference_set = preference_set;
    lt->heuristic = heuristic;
    lt->config_get = config_get;
    lt->matmul = matmul;
    return NABLA_OK;
}

extern "C" void nv_cublaslt_close(nv_cublaslt *lt) {
    *lt = {};
}

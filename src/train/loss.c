/* SPDX-License-Identifier: Apache-2.0 */
#include "train/loss.h"

#include <string.h>

nabla_status nv_weighting_parse(const char *text, nv_weighting *out, nv_error *err) {
    *out = strcmp(text, "velocity") == 0 ? NV_WEIGHT_VELOCITY : NV_WEIGHT_PLAIN;
    if (*out == NV_WEIGHT_VELOCITY || strcmp(text, "plain") == 0) return NABLA_OK;
    return nv_fail(err, NABLA_INVALID_ARGUMENT, "loss weighting \"%.40s\" is unknown: use \"plain\" or \"velocity\"",
                   text);
}

float nv_loss_weight(nv_weighting weighting, nv_prediction prediction, float sigma) {
    if (weighting == NV_WEIGHT_PLAIN || prediction == NV_PREDICT_VELOCITY) return 1.0f;
    const float floor_sigma = 0.2f;
    /* integral over [0, 1] of 1 / max(s, f)^2 = 2 / f - 1 */
    const float mean = 2.0f / floor_sigma - 1.0f;
    float s = sigma > floor_sigma ? sigma : floor_sigma;
    return 1.0f / (s * s * mean);
}

/* Sums are cut at fixed places, so that the order of additions does not depend on the threads. */
enum { CHUNK = 1 << 14 };

static size_t chunks_of(size_t n) {
    return (n + CHUNK - 1) / CHUNK;
}

size_t nv_loss_scratch(int32_t batch, size_t n) {
    return (size_t)batch * chunks_of(n);
}

/* A chunk's sum of squares in 16 lanes, so that it vectorises without reordering. */
static double chunk_mse(size_t n, float gradient_scale, const float *target, float *output) {
    float lane[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (size_t j = 0; j < 16; j++) {
            float d = output[i + j] - target[i + j];
            lane[j] += d * d;
            output[i + j] = gradient_scale * d;
        }
    }
    double sum = 0.0;
    for (size_t j = 0; j < 16; j++)
        sum += (double)lane[j];
    for (; i < n; i++) {
        float d = output[i] - target[i];
        sum += (double)d * (double)d;
        output[i] = gradient_scale * d;
    }
    return sum;
}

double nv_loss_mse(int32_t batch, size_t n, const float *weight, const float *target, float *output, double *scratch,
                   int32_t threads) {
    size_t chunks = chunks_of(n), total = (size_t)batch * chunks;
    double mean = 1.0 / ((double)batch * (double)n);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (size_t c = 0; c < total; c++) {
        size_t b = c / chunks, first = (c % chunks) * CHUNK;
        size_t count = n - first < CHUNK ? n - first : CHUNK;
        float scale = (float)(2.0 * mean * (double)weight[b]);
        scratch[c] = (double)weight[b] * chunk_mse(count, scale, target + b * n + first, output + b * n + first);
    }
    double sum = 0.0;
    for (size_t c = 0; c < total; c++)
        sum += scratch[c];
    return sum * mean;
}

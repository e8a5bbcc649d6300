/* SPDX-License-Identifier: Apache-2.0 */
/* Noise mixed into clips, in parts of fixed length that any thread can make. */
#include "device/cpu/cpu.h"
#include "tensor/philox.h"
#include "tensor/random.h"

enum { PART = 1 << 12 /* of whole blocks of Philox */ };

static void mix(const nv_noising *a, int64_t sample, int64_t first, int64_t count) {
    const float sigma = a->sigma[sample], share = 1.0f - sigma;
    float *restrict x = a->x + sample * a->n + first, *restrict clean = a->clean + sample * a->n + first;
    nv_philox g = nv_philox_at(a->seed, *a->stream + (uint64_t)sample);
    nv_philox_seek(&g, (uint64_t)first / NV_PHILOX_WORDS);
    nv_philox_normal(&g, x, (size_t)count);
    for (int64_t i = 0; i < count; i++) {
        const float noise = x[i], x0 = clean[i];
        x[i] = share * x0 + sigma * noise;
        if (a->velocity) clean[i] = noise - x0;
    }
}

nabla_status nv_cpu_noise(nv_device *dev, const nv_noising *a, nv_error *err) {
    (void)err;
    const int64_t parts = (a->n + PART - 1) / PART;
#pragma omp parallel for num_threads(dev->threads) schedule(static)
    for (int64_t i = 0; i < a->batch * parts; i++) {
        const int64_t first = i % parts * PART, left = a->n - first;
        mix(a, i / parts, first, left < PART ? left : PART);
    }
    return NABLA_OK;
}

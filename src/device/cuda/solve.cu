/* SPDX-License-Identifier: Apache-2.0 */
/* A sampler's step: one pass over the latents. Its numbers are read where they lie, so that a recorded launch serves
   every step. */
#include "device/cuda/cells.cuh"

template <int V, bool WIDE> struct solve_body {
    struct piece {
        float x[V], with[V], without[V], last[V], before[V], corrected[V];
    };
    nv_solve a;

    __device__ void load(piece &p, int64_t, int64_t at) const {
        nv_load<V, WIDE>((const float *)a.x + at, p.x);
        nv_load<V, WIDE>(a.output + at, p.with);
        nv_load<V, WIDE>((const float *)a.last + at, p.last);
        if (a.guided) nv_load<V, WIDE>(a.output + a.n + at, p.without);
        if (a.before) nv_load<V, WIDE>((const float *)a.before + at, p.before);
        if (a.corrected) nv_load<V, WIDE>((const float *)a.corrected + at, p.corrected);
    }
    __device__ void store(piece &p, int64_t, int64_t at) const {
        const nv_solve_numbers w = *a.numbers;
        float clean[V], here[V], next[V];
        bool finite = true;
#pragma unroll
        for (int i = 0; i < V; i++) {
            float v = p.with[i];
            if (a.guided) v = p.without[i] + w.guidance * (v - p.without[i]);
            if (w.scale != 0.0f) v = (p.x[i] - v) * w.scale;
            clean[i] = p.x[i] - w.sigma * v;
            here[i] = w.here.x * p.x[i];
            if (a.corrected) here[i] += w.here.corrected * p.corrected[i];
            here[i] = here[i] + w.here.clean * clean[i] + w.here.last * p.last[i];
            if (a.before) here[i] += w.here.before * p.before[i];
            next[i] = w.next.here * here[i] + w.next.clean * clean[i] + w.next.last * p.last[i] + w.next.velocity * v;
            finite &= fabsf(next[i]) < INFINITY;
        }
        nv_store<V, WIDE>(a.x + at, next);
        nv_store<V, WIDE>(a.last + at, clean);
        if (a.before) nv_store<V, WIDE>(a.before + at, p.last);
        if (a.corrected) nv_store<V, WIDE>(a.corrected + at, here);
        if (!finite) atomicCAS(a.failed, 0, w.step);
    }
};

nabla_status nv_cuda_solve(nv_device *dev, const nv_solve *a, nv_error *err) {
    void *stream = nv_cuda_of(dev)->stream;
    const uintptr_t places =
        (uintptr_t)a->output | (uintptr_t)a->x | (uintptr_t)a->last | (uintptr_t)a->before | (uintptr_t)a->corrected;
    if (a->n % 4 == 0 && places % 16 == 0)
        return nv_over_cells<4>(solve_body<4, true>{*a}, 1, a->n, stream, "a sampler's step", err);
    return nv_over_cells<1>(solve_body<1, false>{*a}, 1, a->n, stream, "a sampler's step", err);
}

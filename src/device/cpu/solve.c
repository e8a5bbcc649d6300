/* SPDX-License-Identifier: Apache-2.0 */
/* A sampler's step. Numbers do not meet, so that the threads change nothing. */
#include "device/cpu/cpu.h"
#include <math.h>

enum { PIECE = 1 << 14 };

/* Of numbers [first, last); returns whether all that it left are finite. */
static int solve_piece(const nv_solve *a, int64_t first, int64_t last) {
    const nv_solve_numbers w = *a->numbers;
    const float *without = a->output + a->n;
    int finite = 1;
    for (int64_t i = first; i < last; i++) {
        const float x = a->x[i], m1 = a->last[i];
        float v = a->output[i];
        if (a->guided) v = without[i] + w.guidance * (v - without[i]);
        if (w.scale != 0.0f) v = (x - v) * w.scale;
        const float clean = x - w.sigma * v;
        float here = w.here.x * x;
        if (a->corrected) here += w.here.corrected * a->corrected[i];
        here = here + w.here.clean * clean + w.here.last * m1;
        if (a->before) here += w.here.before * a->before[i];
        const float next = w.next.here * here + w.next.clean * clean + w.next.last * m1 + w.next.velocity * v;
        if (a->before) a->before[i] = m1;
        if (a->corrected) a->corrected[i] = here;
        a->last[i] = clean;
        a->x[i] = next;
        finite &= isfinite(next) != 0;
    }
    return finite;
}

nabla_status nv_cpu_solve(nv_device *dev, const nv_solve *a, nv_error *err) {
    const int64_t pieces = (a->n + PIECE - 1) / PIECE;
    int finite = 1;
    (void)err;
#pragma omp parallel for num_threads(dev->threads) schedule(static) reduction(& : finite) if (pieces > 1)
    for (int64_t i = 0; i < pieces; i++)
        finite &= solve_piece(a, i * PIECE, (i + 1) * PIECE < a->n ? (i + 1) * PIECE : a->n);
    if (!finite && *a->failed == 0) *a->failed = a->numbers->step;
    return NABLA_OK;
}

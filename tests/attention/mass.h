/* SPDX-License-Identifier: Apache-2.0 */
/* The adaptive rule in fp64, by its definition. */
#ifndef MASS_H
#define MASS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* One head's block means. x: [S, H, D] */
static inline void mean_rows(const float *x, const int32_t *at, int64_t blocks, int64_t heads, int64_t h, int64_t dim,
                             double *means) {
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t d = 0; d < dim; d++) {
            double sum = 0.0;
            for (int32_t t = at[b]; t < at[b + 1]; t++)
                sum += (double)x[(t * heads + h) * dim + d];
            means[b * dim + d] = sum / (at[b + 1] - at[b]);
        }
}

static inline int mass_descending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* The probability that crosses thr when a row is summed from its largest: what is at least that is kept. */
static inline double mass_line(const double *probs, int64_t n, double thr) {
    double *sorted = malloc((size_t)n * sizeof *sorted), sum = 0.0, line = 0.0;
    memcpy(sorted, probs, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, mass_descending);
    for (int64_t i = 0; i < n && (i == 0 || sum <= thr); sum += sorted[i++])
        line = sorted[i];
    free(sorted);
    return line;
}

#endif

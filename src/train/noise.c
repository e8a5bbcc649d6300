/* SPDX-License-Identifier: Apache-2.0 */
#include "train/noise.h"

#include <math.h>
#include <string.h>

nabla_status nv_noise_parse(const char *text, nv_noise_kind *out, nv_error *err) {
    *out = strcmp(text, "logit-normal") == 0 ? NV_NOISE_LOGIT_NORMAL : NV_NOISE_UNIFORM;
    if (*out == NV_NOISE_LOGIT_NORMAL || strcmp(text, "uniform") == 0) return NABLA_OK;
    return nv_fail(err, NABLA_INVALID_ARGUMENT,
                   "noise levels \"%.40s\" are unknown: use \"uniform\" or \"logit-normal\"", text);
}

/* Quantile of N(0, 1) by bisection on erfc: exact to double precision, and a few hundred calls a step are nothing. */
static double normal_quantile(double p) {
    double low = -9.0, high = 9.0;
    for (int i = 0; i < 60; i++) {
        double z = 0.5 * (low + high);
        if (0.5 * erfc(-z * 0.70710678118654752440) < p)
            low = z;
        else
            high = z;
    }
    return 0.5 * (low + high);
}

float nv_noise_level(const nv_noise_rule *rule, float u, int32_t sample, int32_t batch) {
    double q = (double)u + (double)sample / (double)batch;
    q -= floor(q);
    double sigma = rule->kind == NV_NOISE_LOGIT_NORMAL ? 1.0 / (1.0 + exp(-normal_quantile(q))) : q;
    sigma = rule->shift * sigma / (1.0 + (rule->shift - 1.0) * sigma);
    /* sigma = 0 leaves nothing to learn, and "sample" predictions are divided by it. */
    return (float)(sigma < 1e-3 ? 1e-3 : sigma);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* DPM-Solver++(2M), midpoint: Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++", arXiv 2211.01095, algorithm 2. It predicts
   the clean sample, m_k = x_k - sigma_k v(x_k), with flow matching's alpha = 1 - sigma and lambda = ln(alpha / sigma):

       x_{k+1} = sigma_{k+1} / sigma_k x_k - alpha_{k+1} expm1(-h) D,     h = lambda_{k+1} - lambda_k
       D = m_k + h / (2 h_before) (m_k - m_{k-1}),                        h_before = lambda_k - lambda_{k-1}

   (the paper's 1 / (2 r), r = h_before / h). The first step has no m_{k-1} and the last, to sigma = 0, is of first
   order too: it gives m_k. The list begins at sigma = 1, where lambda = -inf: the first step's h is then infinite and
   its formula finite, expm1(-h) = -1, and the second step's difference has the weight h / inf = 0. */
#include <math.h>

#include "sample/solver.h"

static void levels(int32_t steps, double *sigmas) {
    nv_levels_linear(1.0, 0.0, steps, sigmas);
}

static void weigh(const nv_sampler *s, int32_t k, nv_solve_numbers *out) {
    const double h = nv_lambda(s, k + 1) - nv_lambda(s, k), gain = -(1.0 - (double)s->sigmas[k + 1]) * expm1(-h);
    double slope = 0.0;
    if (k > 0 && k + 1 < s->steps) slope = h / (2.0 * (nv_lambda(s, k) - nv_lambda(s, k - 1)));
    out->here.x = 1.0f;
    out->next.here = s->sigmas[k + 1] / s->sigmas[k];
    out->next.clean = (float)(gain * (1.0 + slope));
    out->next.last = (float)(-gain * slope);
}

const nv_solver nv_solver_dpmpp = {"dpm++", 1, levels, nv_time_whole, weigh};

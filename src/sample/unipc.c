/* SPDX-License-Identifier: Apache-2.0 */
/* UniPC of order 2 with the paper's B2(h), called bh2, predicting the clean sample: Zhao, Bai, Rao, Zhou, Lu, "UniPC",
   arXiv 2302.04867, algorithms 5 to 8. Flow matching's alpha = 1 - sigma and lambda = ln(alpha / sigma).

   Step k has x_k, which the predictor made, and the model's m_k = x_k - sigma_k v(x_k), called once.
   First the corrector goes from k-1 to k again, now that m_k is known (k > 0; its order p is that of the predictor that
   made x_k). With h = lambda_k - lambda_{k-1} and B = expm1(-h):
       xc_k = sigma_k / sigma_{k-1} xc_{k-1} - alpha_k B [m_{k-1} + rho1 D + rho2 (m_k - m_{k-1})]
       p = 1:  rho1 = 0, rho2 = 1/2
       p = 2:  r = (lambda_{k-2} - lambda_{k-1}) / h < 0,  D = (m_{k-2} - m_{k-1}) / r, and rho solves
               [1 1; r 1] rho = [b1; b2]:  b1 = c / B,  b2 = 2 (-c / h - 1/2) / B,  c = -B / h - 1
   then the predictor goes on from xc_k (xc_0 = x_0), with h = lambda_{k+1} - lambda_k:
       x_{k+1} = sigma_{k+1} / sigma_k xc_k - alpha_{k+1} B [m_k + (m_{k-1} - m_k) / (2 r)]
       r = (lambda_{k-1} - lambda_k) / h
   of order min(2, k + 1, steps - k). Order 1 lacks the term with r, so that the step to sigma = 0 gives m_k. To correct
   that one too would take one more call of the model; neither the paper's code nor ours does. */
#include <math.h>

#include "sample/solver.h"

/* Not from 1, where lambda is -inf and a step's ratio r has no meaning. */
static void levels(int32_t steps, double *sigmas) {
    nv_levels_linear(0.999, 0.0, steps, sigmas);
}

/* Of the predictor that leaves step k. */
static int order_at(const nv_sampler *s, int32_t k) {
    return k > 0 && s->steps - k > 1 ? 2 : 1;
}

/* From step k - 1 to k. */
static void correct(const nv_sampler *s, int32_t k, nv_solve_numbers *out) {
    double h = nv_lambda(s, k) - nv_lambda(s, k - 1), b = expm1(-h);
    double gain = -(1.0 - (double)s->sigmas[k]) * b, rho2 = 0.5, slope = 0.0; /* slope: rho1 / r */
    if (order_at(s, k - 1) == 2) {
        double r = (nv_lambda(s, k - 2) - nv_lambda(s, k - 1)) / h;
        double c = -b / h - 1.0, b1 = c / b, b2 = 2.0 * (-c / h - 0.5) / b;
        double rho1 = (b1 - b2) / (1.0 - r);
        rho2 = b1 - rho1;
        slope = rho1 / r;
    }
    out->here.corrected = s->sigmas[k] / s->sigmas[k - 1];
    out->here.clean = (float)(gain * rho2);
    out->here.last = (float)(gain * (1.0 - slope - rho2));
    out->here.before = (float)(gain * slope);
}

/* From step k to k + 1. */
static void predict(const nv_sampler *s, int32_t k, nv_solve_numbers *out) {
    double h = nv_lambda(s, k + 1) - nv_lambda(s, k), slope = 0.0;
    double gain = -(1.0 - (double)s->sigmas[k + 1]) * expm1(-h);
    if (order_at(s, k) == 2) slope = h / (2.0 * (nv_lambda(s, k - 1) - nv_lambda(s, k)));
    out->next.here = s->sigmas[k + 1] / s->sigmas[k];
    out->next.clean = (float)(gain * (1.0 - slope));
    out->next.last = (float)(gain * slope);
}

static void weigh(const nv_sampler *s, int32_t k, nv_solve_numbers *out) {
    if (k == 0) out->here.x = 1.0f;
    if (k > 0) correct(s, k, out);
    predict(s, k, out);
}

const nv_solver nv_solver_unipc = {"unipc", NV_MOST_HISTORY, levels, nv_time_whole, weigh};

/* SPDX-License-Identifier: Apache-2.0 */
#include "train/schedule.h"

#include <math.h>

double nv_schedule_lr(const nv_schedule *s, int64_t step) {
    if (step < s->warmup) return s->lr * (double)(step + 1) / (double)s->warmup;
    int64_t rest = s->steps - s->warmup;
    double t = rest > 0 ? (double)(step - s->warmup) / (double)rest : 1.0;
    if (t > 1.0) t = 1.0;
    return s->lr * (s->final + (1.0 - s->final) * 0.5 * (1.0 + cos(t * 3.14159265358979323846)));
}

double nv_schedule_ema(double decay, int64_t step) {
    double ramp = (1.0 + (double)step) / (10.0 + (double)step);
    return ramp < decay ? ramp : decay;
}

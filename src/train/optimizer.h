/* SPDX-License-Identifier: Apache-2.0 */
/* AdamW (Loshchilov & Hutter 2019) with clipping by the global norm and an exponential moving average of weights. */
#ifndef NV_OPTIMIZER_H
#define NV_OPTIMIZER_H

#include "device/device.h"
#include "tensor/error.h"
#include "train/trainable.h"

typedef struct nv_adamw_rule {
    float beta1, beta2, epsilon;
    float weight_decay; /* decoupled: value -= lr * weight_decay * value */
    float clip;         /* gradients are scaled down to this global norm; 0: not */
    int32_t rounds;     /* backward passes that an update adds up: it goes by their mean */
} nv_adamw_rule;

/* The state beside a trainable's values, in the device's memory. */
typedef struct nv_optimizer_slot {
    nv_trainable tensor;
    float *moment1, *moment2, *ema;
} nv_optimizer_slot;

typedef struct nv_optimizer nv_optimizer;

/* The trainables' memory must outlive the optimizer; their names too. Moments start at 0, averages at the values. */
nabla_status nv_optimizer_create(nv_device *device, const nv_trainable *tensors, size_t count,
                                 const nv_adamw_rule *rule, nv_optimizer **out, nv_error *err);
void nv_optimizer_destroy(nv_optimizer *o);
nv_device *nv_optimizer_device(const nv_optimizer *o);
size_t nv_optimizer_count(const nv_optimizer *o);
nv_optimizer_slot *nv_optimizer_at(nv_optimizer *o, size_t i);

/* Says which update comes next: step counts from 0. Apart from queueing it, so that a recording of that stays good. */
void nv_optimizer_prepare(nv_optimizer *o, int64_t step, double lr, double ema_decay);
/* Queues it, from the gradients, which are zeroed after. *squares, in the device's memory, becomes their squared norm
   as they are; when it is not finite nothing is changed, and nv_optimizer_norm says so once it is on the host. *norm:
   of what the update went by, before clipping. */
nabla_status nv_optimizer_step(nv_optimizer *o, double *squares, nv_error *err);
nabla_status nv_optimizer_norm(const nv_optimizer *o, double squares, double *norm, nv_error *err);

#endif

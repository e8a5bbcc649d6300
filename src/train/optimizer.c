/* SPDX-License-Identifier: Apache-2.0 */
#include "train/optimizer.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

struct nv_optimizer {
    nv_device *device;
    nv_adamw_rule rule;
    size_t count;
    nv_optimizer_slot *slots;
    float *memory; /* moments and averages of all, one run a slot: moment1, moment2, ema */
};

static nabla_status take_memory(nv_optimizer *o, nv_error *err) {
    size_t values = 0;
    for (size_t i = 0; i < o->count; i++)
        values += o->slots[i].tensor.count;
    NV_TRY(o->device->ops->allocate(o->device, 3 * values * sizeof(float), (void **)&o->memory, err));
    float *next = o->memory;
    for (size_t i = 0; i < o->count; i++) {
        nv_optimizer_slot *slot = &o->slots[i];
        size_t n = slot->tensor.count;
        slot->moment1 = next;
        slot->moment2 = next + n;
        slot->ema = next + 2 * n;
        o->device->ops->copy(o->device, slot->ema, slot->tensor.value, n * sizeof(float));
        next += 3 * n;
    }
    return NABLA_OK;
}

nabla_status nv_optimizer_create(nv_device *device, const nv_trainable *tensors, size_t count,
                                 const nv_adamw_rule *rule, nv_optimizer **out, nv_error *err) {
    *out = NULL;
    nv_optimizer *o = calloc(1, sizeof *o);
    nv_optimizer_slot *slots = calloc(count, sizeof *slots);
    if (!o || !slots) {
        free(o);
        free(slots);
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for an optimizer of %zu tensors", count);
    }
    for (size_t i = 0; i < count; i++)
        slots[i].tensor = tensors[i];
    *o = (nv_optimizer){.device = device, .rule = *rule, .count = count, .slots = slots};
    nabla_status status = take_memory(o, err);
    if (status != NABLA_OK) {
        nv_optimizer_destroy(o);
        return status;
    }
    *out = o;
    return NABLA_OK;
}

void nv_optimizer_destroy(nv_optimizer *o) {
    if (!o) return;
    o->device->ops->release(o->device, o->memory);
    free(o->slots);
    free(o);
}

nv_device *nv_optimizer_device(const nv_optimizer *o) {
    return o->device;
}

size_t nv_optimizer_count(const nv_optimizer *o) {
    return o->count;
}

nv_optimizer_slot *nv_optimizer_at(nv_optimizer *o, size_t i) {
    return &o->slots[i];
}

static nabla_status global_norm(nv_optimizer *o, double *norm, nv_error *err) {
    double total = 0.0;
    for (size_t i = 0; i < o->count;) {
        double sum;
        const float *first = o->slots[i].tensor.grad, *end = first;
        for (; i < o->count && o->slots[i].tensor.grad == end; i++) /* those that lie one after the other at once */
            end += o->slots[i].tensor.count;
        NV_TRY(o->device->ops->sum_squares(o->device, first, (size_t)(end - first), &sum, err));
        total += sum;
    }
    *norm = sqrt(total);
    return NABLA_OK;
}

nabla_status nv_optimizer_step(nv_optimizer *o, int64_t step, double lr, double ema_decay, double *norm,
                               nv_error *err) {
    NV_TRY(global_norm(o, norm, err));
    if (!isfinite(*norm))
        return nv_fail(err, NABLA_INTERNAL,
                       "the gradient of step %" PRId64 " is not finite: the run has diverged; start a new run from the "
                       "model that it saved last (--model) with a lower learning rate (--lr) than %g",
                       step + 1, lr);
    const nv_adamw_rule *rule = &o->rule;
    nv_adamw a = {.lr = (float)lr, .beta1 = rule->beta1, .beta2 = rule->beta2, .eps = rule->epsilon};
    a.step = step + 1;
    a.ema_decay = (float)ema_decay;
    a.grad_scale = rule->clip > 0.0f && *norm > (double)rule->clip ? (float)((double)rule->clip / *norm) : 1.0f;
    for (size_t i = 0; i < o->count; i++) {
        const nv_optimizer_slot *slot = &o->slots[i];
        const nv_trainable *t = &slot->tensor;
        a.weight_decay = t->decay ? rule->weight_decay : 0.0f;
        NV_TRY(o->device->ops->adamw(o->device, &a, t->count, t->value, t->grad, slot->moment1, slot->moment2,
                                     slot->ema, err));
        o->device->ops->zero(o->device, t->grad, t->count * sizeof(float));
    }
    return NABLA_OK;
}

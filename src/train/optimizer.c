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
    float *memory; /* moments and averages: those of a slot in a row, each on a boundary */
    nv_piece *pieces;
    int64_t piece_count;
    nv_adamw_numbers *numbers; /* on the device: of the update that comes next, */
    int64_t step;              /* and for the sentence about it */
    double lr;
};

enum { BOUNDARY = 16 /* numbers: 64 bytes */ };

static size_t room_of(size_t count) {
    return (count + BOUNDARY - 1) / BOUNDARY * BOUNDARY;
}

static nabla_status take_memory(nv_optimizer *o, nv_error *err) {
    size_t numbers = 0;
    for (size_t i = 0; i < o->count; i++)
        numbers += 3 * room_of(o->slots[i].tensor.count);
    NV_TRY(o->device->ops->allocate(o->device, numbers * sizeof(float), (void **)&o->memory, err));
    NV_TRY(o->device->ops->allocate(o->device, sizeof *o->numbers, (void **)&o->numbers, err));
    float *next = o->memory;
    for (size_t i = 0; i < o->count; i++) {
        nv_optimizer_slot *slot = &o->slots[i];
        const size_t n = slot->tensor.count, room = room_of(n);
        slot->moment1 = next;
        slot->moment2 = next + room;
        slot->ema = next + 2 * room;
        o->device->ops->copy(o->device, slot->ema, slot->tensor.value, n * sizeof(float));
        next += 3 * room;
    }
    return NABLA_OK;
}

/* All tensors in pieces, so that one pass takes them all. */
static nabla_status cut(nv_optimizer *o, nv_error *err) {
    size_t count = 0, next = 0;
    for (size_t i = 0; i < o->count; i++)
        count += (o->slots[i].tensor.count + NV_PIECE - 1) / NV_PIECE;
    nv_piece *pieces = malloc((count + 1) * sizeof *pieces);
    if (!pieces) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for an optimizer of %zu pieces", count);
    for (size_t i = 0; i < o->count; i++) {
        const nv_optimizer_slot *slot = &o->slots[i];
        const nv_trainable *t = &slot->tensor;
        for (size_t at = 0; at < t->count; at += NV_PIECE)
            pieces[next++] = (nv_piece){.value = t->value + at,
                                        .grad = t->grad + at,
                                        .m = slot->moment1 + at,
                                        .v = slot->moment2 + at,
                                        .ema = slot->ema + at,
                                        .count = (int32_t)(t->count - at < NV_PIECE ? t->count - at : NV_PIECE),
                                        .weight_decay = t->decay ? o->rule.weight_decay : 0.0f};
    }
    nabla_status status = o->device->ops->allocate(o->device, count * sizeof *pieces, (void **)&o->pieces, err);
    if (status == NABLA_OK) o->device->ops->upload(o->device, o->pieces, pieces, count * sizeof *pieces);
    o->piece_count = (int64_t)count;
    free(pieces);
    return status;
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
    if (status == NABLA_OK) status = cut(o, err);
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
    o->device->ops->release(o->device, o->pieces);
    o->device->ops->release(o->device, o->numbers);
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

static float bias_scale(float beta, int64_t step) {
    return (float)(1.0 / (1.0 - pow((double)beta, (double)step)));
}

void nv_optimizer_prepare(nv_optimizer *o, int64_t step, double lr, double ema_decay) {
    const nv_adamw_numbers numbers = {.lr = (float)lr,
                                      .ema_decay = (float)ema_decay,
                                      .m_scale = bias_scale(o->rule.beta1, step + 1),
                                      .v_scale = bias_scale(o->rule.beta2, step + 1)};
    o->device->ops->upload(o->device, o->numbers, &numbers, sizeof numbers);
    o->step = step;
    o->lr = lr;
}

nabla_status nv_optimizer_step(nv_optimizer *o, double *squares, nv_error *err) {
    const nv_device_ops *ops = o->device->ops;
    const nv_adamw_rule *rule = &o->rule;
    const nv_adamw a = {.beta1 = rule->beta1,
                        .beta2 = rule->beta2,
                        .eps = rule->epsilon,
                        .grad_scale = 1.0f / (float)rule->rounds,
                        .clip = rule->clip,
                        .numbers = o->numbers,
                        .squares = squares};
    NV_TRY(ops->sum_squares(o->device, o->pieces, o->piece_count, squares, err));
    return ops->adamw(o->device, &a, o->pieces, o->piece_count, err);
}

nabla_status nv_optimizer_norm(const nv_optimizer *o, double squares, double *norm, nv_error *err) {
    *norm = sqrt(squares) / (double)o->rule.rounds;
    if (isfinite(*norm)) return NABLA_OK;
    return nv_fail(err, NABLA_INTERNAL,
                   "the gradient of step %" PRId64 " is not finite: the run has diverged; start a new run from the "
                   "model that it saved last (--model) with a lower learning rate (--lr) than %g",
                   o->step + 1, o->lr);
}

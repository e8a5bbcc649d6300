/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_step.h"

#include <stdlib.h>

#include "video/trainables.h"

/* Small enough that random weights, which nothing was ever trained of, stay finite over any number of steps. */
static const double learning_rate = 1e-5, averaging = 0.999;

size_t cli_bench_step_memory(size_t values) {
    return 3 * values * sizeof(float); /* two moments, and averages */
}

static nabla_status make_optimizer(cli_bench_step *s, nv_error *err) {
    const nv_adamw_rule rule = {
        .beta1 = 0.9f, .beta2 = 0.95f, .epsilon = 1e-8f, .weight_decay = 0.01f, .clip = 1.0f, .rounds = 1};
    const size_t count = nv_dit_parameter_count(s->model);
    nv_trainable *tensors = calloc(count, sizeof *tensors);
    if (!tensors) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to list %zu tensors", count);
    nv_list_trainables(s->model, tensors);
    const nabla_status status = nv_optimizer_create(s->device, tensors, count, &rule, &s->optimizer, err);
    free(tensors);
    return status;
}

nabla_status cli_bench_step_open(cli_bench_step *s, nv_error *err) {
    const size_t bytes = (size_t)s->batch * sizeof(float);
    float *ones = malloc(bytes);
    if (!ones) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %d weights", (int)s->batch);
    for (int32_t i = 0; i < s->batch; i++)
        ones[i] = 1.0f;
    nabla_status status = s->device->ops->allocate(s->device, bytes, (void **)&s->weight, err);
    if (status == NABLA_OK) s->device->ops->upload(s->device, s->weight, ones, bytes);
    free(ones);
    if (status == NABLA_OK)
        status = s->device->ops->allocate(s->device, 2 * sizeof *s->figures, (void **)&s->figures, err);
    return status == NABLA_OK ? make_optimizer(s, err) : status;
}

void cli_bench_step_close(cli_bench_step *s) {
    nv_optimizer_destroy(s->optimizer);
    if (!s->device) return;
    s->device->ops->release(s->device, s->weight);
    s->device->ops->release(s->device, s->figures);
}

nabla_status cli_bench_step_take(cli_bench_step *s, const nv_dit_inputs *in, float *out, nv_error *err) {
    nv_device *dev = s->device;
    double figures[2], norm;
    dev->ops->clock_reset(dev);
    NV_TRY(nv_dit_forward(s->model, s->run, in, out, err));
    NV_TRY(dev->ops->mse(dev, s->batch, s->values, s->weight, s->target, out, &s->figures[0], err));
    NV_TRY(nv_dit_backward(s->model, s->run, in, out, s->d_context, err));
    nv_optimizer_prepare(s->optimizer, s->done++, learning_rate, averaging);
    NV_TRY(nv_optimizer_step(s->optimizer, &s->figures[1], err));
    NV_TRY(nv_dit_update(s->model, err));
    NV_TRY(dev->ops->download(dev, figures, s->figures, sizeof figures, err));
    return nv_optimizer_norm(s->optimizer, figures[1], &norm, err);
}

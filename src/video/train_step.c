/* SPDX-License-Identifier: Apache-2.0 */
/* One step of training. All random numbers come from streams named by (seed, step, sample), and every sum has a fixed
   order, so that a step's bits depend on the state it starts from and nothing else. */
#include <string.h>

#include "train/draw.h"
#include "video/profile.h"
#include "video/trainer.h"

/* Sample i of a step: clip, caption, noise level, noise. */
static nabla_status draw_sample(nv_trainer *t, int64_t step, int32_t i, float level, nv_error *err) {
    const nabla_train_options *o = t->options;
    char caption[NV_CAPTION_SIZE];
    float *x = t->x + (size_t)i * t->values, *target = t->target + (size_t)i * t->values;
    nv_philox clip = nv_draw(o->seed, NV_DRAW_CLIP, step, i), noise = nv_draw(o->seed, NV_DRAW_NOISE, step, i);
    nv_philox drop = nv_draw(o->seed, NV_DRAW_CAPTION, step, i);
    NV_TRY(t->source.draw(t->source.user, &clip, &t->clip, target, caption, err));
    if (nv_philox_uniform(&drop) < o->caption_dropout) caption[0] = '\0';
    nv_words_encode(t->model.words, caption, t->ids + (size_t)i * NV_CAPTION_WORDS, NULL, 0);
    float sigma = nv_noise_level(&t->levels, level, i, o->batch);
    t->sigma[i] = sigma;
    t->time[i] = 1000.0f * sigma;
    t->weight[i] = nv_loss_weight(t->weighting, t->model.prediction, sigma);
    nv_philox_normal(&noise, x, t->values);
    nv_flow_mix(t->model.prediction, sigma, t->values, x, target);
    return NABLA_OK;
}

static void draw_samples(nv_trainer *t) {
    int32_t batch = t->options->batch;
    nv_philox g = nv_draw(t->options->seed, NV_DRAW_LEVEL, t->drawn, 0);
    float level = nv_philox_uniform(&g);
#pragma omp parallel for schedule(dynamic, 1) num_threads(t->model.device->threads)
    for (int32_t i = 0; i < batch; i++)
        t->errors[i].status = draw_sample(t, t->drawn, i, level, &t->errors[i]);
}

static void *draw_aside(void *trainer) {
    draw_samples(trainer);
    return NULL;
}

void nv_trainer_join(nv_trainer *t) {
    if (t->drawing) pthread_join(t->drawer, NULL);
    t->drawing = 0;
}

/* The batch of the step on the host: drawn now, unless it was ahead of time. */
static nabla_status draw_batch(nv_trainer *t, nv_error *err) {
    nv_profile_enter(t->machine, NABLA_PART_WAIT);
    nv_trainer_join(t);
    nv_profile_enter(t->machine, NABLA_PART_DATA);
    if (t->drawn != t->state.step) {
        t->drawn = t->state.step;
        draw_samples(t);
    }
    for (int32_t i = 0; i < t->options->batch; i++) {
        if (t->errors[i].status == NABLA_OK) continue;
        *err = t->errors[i];
        return err->status;
    }
    return NABLA_OK;
}

/* Begins the next batch while a GPU works; where the work is done by the same processors, or no thread is to be had, it
   is drawn when its step comes. */
static void draw_ahead(nv_trainer *t) {
    if (strcmp(t->model.device->kind, "cuda") != 0 || t->state.step + 1 >= t->options->steps) return;
    t->drawn = t->state.step + 1;
    t->drawing = pthread_create(&t->drawer, NULL, draw_aside, t) == 0;
    if (!t->drawing) t->drawn = -1;
}

static nabla_status upload_batch(nv_trainer *t, nv_error *err) {
    nv_device *device = t->model.device;
    size_t batch = (size_t)t->options->batch;
    device->ops->upload(device, t->latent, t->x, batch * t->values * sizeof *t->x);
    device->ops->upload(device, t->device_target, t->target, batch * t->values * sizeof *t->target);
    device->ops->upload(device, t->device_time, t->time, batch * sizeof *t->time);
    device->ops->upload(device, t->device_weight, t->weight, batch * sizeof *t->weight);
    device->ops->upload(device, t->device_ids, t->ids, batch * NV_CAPTION_WORDS * sizeof *t->ids);
    return device->ops->embed(device, t->model.table, t->device_ids, (int64_t)batch * NV_CAPTION_WORDS,
                              nv_clip_model_text_dim(&t->model), t->context, err);
}

static nabla_status learn(nv_trainer *t, nv_step_result *result, nv_error *err) {
    nv_device *device = t->model.device;
    nv_dit *dit = t->model.dit;
    nv_dit_inputs in = {.latent = t->latent, .time = t->device_time, .context = t->context, .policy = &t->policy};
    nv_dit_stats stats;
    double start = nv_now();
    NV_TRY(nv_dit_forward(dit, t->run, &in, t->output, err));
    result->model_s = nv_now() - start;
    nv_dit_get_stats(t->run, &stats);
    result->density = stats.density;
    NV_TRY(device->ops->mse(device, t->options->batch, (int64_t)t->values, t->device_weight, t->device_target,
                            t->output, &result->loss, err));
    start = nv_now();
    NV_TRY(nv_dit_backward(dit, t->run, &in, t->output, t->d_context, err));
    result->model_s += nv_now() - start;
    nv_dit_get_stats(t->run, &stats);
    result->flop = stats.product_flop + stats.attention_flop;
    nv_profile_pass(t->machine, &stats);
    NV_TRY(device->ops->embed_backward(device, t->d_context, t->device_ids,
                                       (int64_t)t->options->batch * NV_CAPTION_WORDS, nv_clip_model_text_dim(&t->model),
                                       t->model.table_grad, err));
    int64_t step = t->state.step;
    NV_TRY(nv_optimizer_step(t->optimizer, step, nv_schedule_lr(&t->schedule, step),
                             nv_schedule_ema((double)t->options->ema, step), &result->grad_norm, err));
    return nv_dit_update(dit, err);
}

nabla_status nv_trainer_step(nv_trainer *t, nv_step_result *result, nv_error *err) {
    *result = (nv_step_result){0};
    NV_TRY(draw_batch(t, err));
    NV_TRY(upload_batch(t, err));
    draw_ahead(t);
    nv_profile_enter(t->machine, NABLA_PART_OPTIMIZER);
    NV_TRY(learn(t, result, err));
    nv_profile_enter(t->machine, NABLA_PART_OTHER);
    t->state.step++;
    t->state.interval_loss += result->loss;
    t->state.interval_density += result->density;
    t->state.interval_steps++;
    return NABLA_OK;
}

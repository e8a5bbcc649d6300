/* SPDX-License-Identifier: Apache-2.0 */
/* One step of training. Every sum has a fixed order and every random number a name, so that a step's bits depend on the
   state it starts from and nothing else. All of it is queued before anything is waited for. */
#include "train/draw.h"
#include "video/trainer.h"

static nabla_status make_inputs(nv_trainer *t, const nv_batch *batch, nv_error *err) {
    nv_device *device = t->model.device;
    const nv_noising noising = {.batch = t->options->batch,
                                .n = (int64_t)t->values,
                                .seed = t->options->seed,
                                .stream = nv_draw_stream(NV_DRAW_NOISE, t->state.step, 0),
                                .sigma = batch->sigma,
                                .x = t->latent,
                                .clean = batch->clean,
                                .velocity = t->model.prediction == NV_PREDICT_VELOCITY};
    NV_TRY(device->ops->noise(device, &noising, err));
    return device->ops->embed(device, t->model.table, batch->ids,
                              (int64_t)t->options->batch * nv_words_length(t->model.words),
                              nv_clip_model_text_dim(&t->model), t->context, err);
}

/* Queues the step. */
static nabla_status learn(nv_trainer *t, const nv_batch *batch, nv_error *err) {
    nv_device *device = t->model.device;
    nv_dit *dit = t->model.dit;
    const int64_t step = t->state.step;
    nv_dit_inputs in = {.latent = t->latent, .time = batch->time, .context = t->context, .policy = &t->policy};
    NV_TRY(make_inputs(t, batch, err));
    const float *target = batch->clean;
    if (t->options->teacher) {
        NV_TRY(nv_teacher_answer(&t->teacher, t->latent, batch->time, batch->ids, err));
        target = t->teacher.answer;
    }
    NV_TRY(nv_dit_forward(dit, t->run, &in, t->output, err));
    NV_TRY(device->ops->mse(device, t->options->batch, (int64_t)t->values, batch->weight, target, t->output,
                            &t->figures[0], err));
    NV_TRY(nv_dit_backward(dit, t->run, &in, t->output, t->d_context, err));
    NV_TRY(device->ops->embed_backward(device, t->d_context, batch->ids,
                                       (int64_t)t->options->batch * nv_words_length(t->model.words),
                                       nv_clip_model_text_dim(&t->model), t->model.table_grad, err));
    NV_TRY(nv_optimizer_step(t->optimizer, step, nv_schedule_lr(&t->schedule, step),
                             nv_schedule_ema((double)t->options->ema, step), &t->figures[1], err));
    return nv_dit_update(dit, err);
}

/* Waits for the step, and reads what it came to. */
static nabla_status read_figures(nv_trainer *t, nv_step_result *result, nv_error *err) {
    nv_device *device = t->model.device;
    const int64_t step = t->state.step;
    double figures[NV_FIGURES];
    nv_dit_stats stats;
    NV_TRY(device->ops->download(device, figures, t->figures, sizeof figures, err));
    result->loss = figures[0];
    NV_TRY(nv_optimizer_norm(step, nv_schedule_lr(&t->schedule, step), figures[1], &result->grad_norm, err));
    NV_TRY(nv_dit_get_stats(t->run, &stats, err));
    result->density = stats.density;
    result->model_s = stats.plan_s + stats.attention_s + stats.products_s + stats.other_s;
    result->flop = stats.product_flop + stats.attention_flop;
    return NABLA_OK;
}

nabla_status nv_trainer_step(nv_trainer *t, nv_step_result *result, nv_error *err) {
    nv_batch batch;
    const double begin = nv_now();
    *result = (nv_step_result){0};
    NV_TRY(nv_batches_take(t, &batch, err));
    result->data_s = nv_now() - begin;
    NV_TRY(learn(t, &batch, err));
    nv_batches_ahead(t);
    NV_TRY(read_figures(t, result, err));
    t->state.step++;
    t->state.interval_loss += result->loss;
    t->state.interval_density += result->density;
    t->state.interval_steps++;
    return NABLA_OK;
}

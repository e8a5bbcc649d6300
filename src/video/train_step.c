/* SPDX-License-Identifier: Apache-2.0 */
/* One step of training, a round or several. Every sum has a fixed order and every random number a name, so that a
   step's bits depend on the state it starts from and nothing else. All of a round is queued before anything is waited
   for. */
#include "train/draw.h"
#include "video/profile.h"
#include "video/trainer.h"

static int is_last(const nv_trainer *t) {
    return t->rounds + 1 == t->options->accumulate;
}

/* The numbers in which a round differs from others. */
static void prepare(nv_trainer *t) {
    nv_device *device = t->model.device;
    const int64_t step = t->state.step;
    const uint64_t stream = nv_draw_stream(NV_DRAW_NOISE, step, t->rounds * t->options->batch);
    device->ops->upload(device, t->stream, &stream, sizeof stream);
    if (is_last(t))
        nv_optimizer_prepare(t->optimizer, step, nv_schedule_lr(&t->schedule, step),
                             nv_schedule_ema((double)t->options->ema, step));
}

static nabla_status make_inputs(nv_trainer *t, const nv_batch *batch, nv_error *err) {
    nv_device *device = t->model.device;
    const nv_noising noising = {.batch = t->options->batch,
                                .n = (int64_t)t->values,
                                .seed = t->options->seed,
                                .stream = t->stream,
                                .sigma = batch->sigma,
                                .x = t->latent,
                                .clean = batch->clean,
                                .velocity = t->model.prediction == NV_PREDICT_VELOCITY};
    NV_TRY(device->ops->noise(device, &noising, err));
    return device->ops->embed(device, t->model.table, batch->ids,
                              (int64_t)t->options->batch * nv_words_length(t->model.words),
                              nv_clip_model_text_dim(&t->model), t->context, err);
}

/* Queues the loss of what is in t->output, which becomes the gradient. */
static nabla_status take_loss(nv_trainer *t, const float *weight, const float *target, nv_error *err) {
    nv_device *device = t->model.device;
    const nv_phase before = device->ops->phase(device, NV_UPDATE);
    const nabla_status status =
        device->ops->mse(device, t->options->batch, (int64_t)t->values, weight, target, t->output, &t->figures[0], err);
    device->ops->phase(device, before);
    return status;
}

static nabla_status update(nv_trainer *t, nv_error *err) {
    nv_device *device = t->model.device;
    const nv_phase before = device->ops->phase(device, NV_UPDATE);
    nabla_status status = nv_optimizer_step(t->optimizer, &t->figures[1], err);
    if (status == NABLA_OK) status = nv_dit_update(t->model.dit, err);
    device->ops->phase(device, before);
    return status;
}

/* Queues a round. */
static nabla_status learn(void *trainer, nv_error *err) {
    nv_trainer *t = trainer;
    nv_device *device = t->model.device;
    nv_dit *dit = t->model.dit;
    const nv_batch *batch = &t->batches.device[t->slot];
    nv_dit_inputs in = {.latent = t->latent, .time = batch->time, .context = t->context, .policy = &t->policy};
    NV_TRY(make_inputs(t, batch, err));
    const float *target = batch->clean;
    if (t->options->teacher) {
        NV_TRY(nv_teacher_answer(&t->teacher, t->latent, batch->time, batch->ids, err));
        target = t->teacher.answer;
    }
    NV_TRY(nv_dit_forward(dit, t->run, &in, t->output, err));
    NV_TRY(take_loss(t, batch->weight, target, err));
    NV_TRY(nv_dit_backward(dit, t->run, &in, t->output, t->d_context, err));
    NV_TRY(device->ops->embed_backward(device, t->d_context, batch->ids,
                                       (int64_t)t->options->batch * nv_words_length(t->model.words),
                                       nv_clip_model_text_dim(&t->model), t->model.table_grad, err));
    return is_last(t) ? update(t, err) : NABLA_OK;
}

/* Waits for the round, and adds what it came to. */
static nabla_status read_figures(nv_trainer *t, nv_step_result *result, nv_error *err) {
    nv_device *device = t->model.device;
    const double share = 1.0 / (double)t->options->accumulate;
    double figures[NV_FIGURES];
    nv_dit_stats stats;
    NV_TRY(device->ops->download(device, figures, t->figures, sizeof figures, err));
    NV_TRY(nv_dit_get_stats(t->run, &stats, err));
    if (t->options->teacher) { /* its time and products are in the device's clock already */
        nv_dit_stats teacher;
        NV_TRY(nv_dit_get_stats(t->teacher.run, &teacher, err));
        stats.attention_flop += teacher.attention_flop;
    }
    result->loss += share * figures[0];
    result->density += share * stats.density;
    result->model_s += stats.plan_s + stats.attention_s + stats.products_s + stats.other_s + stats.update_s;
    result->flop += stats.product_flop + stats.attention_flop;
    nv_profile_pass(t->machine, &stats);
    if (!is_last(t)) return NABLA_OK;
    return nv_optimizer_norm(t->optimizer, figures[1], &result->grad_norm, err);
}

static void finish(nv_trainer *t, const nv_step_result *result) {
    t->rounds = 0;
    t->state.step++;
    t->state.interval_loss += result->loss;
    t->state.interval_density += result->density;
    t->state.interval_steps++;
}

nabla_status nv_trainer_round(nv_trainer *t, nv_step_result *result, nv_error *err) {
    const double begin = nv_now();
    if (t->rounds == 0) *result = (nv_step_result){0};
    NV_TRY(nv_batches_take(t, &t->slot, err));
    result->data_s += nv_now() - begin;
    prepare(t);
    nv_repeat *repeat = &t->repeats[t->slot][is_last(t)];
    /* What the device's clock does not tell of the round as the transformer's, a teacher's too, is the update's. */
    nv_profile_enter(t->machine, NABLA_PART_OPTIMIZER);
    NV_TRY(nv_repeat_queue(repeat, learn, t, err));
    nv_batches_ahead(t);
    NV_TRY(read_figures(t, result, err));
    nv_repeat_done(repeat);
    nv_profile_enter(t->machine, NABLA_PART_OTHER);
    if (is_last(t))
        finish(t, result);
    else
        t->rounds++;
    return NABLA_OK;
}

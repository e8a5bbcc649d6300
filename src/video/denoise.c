/* SPDX-License-Identifier: Apache-2.0 */
#include "video/denoise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "video/files.h"
#include "video/limits.h"

struct nv_denoiser {
    nv_clip_model *model;
    nv_denoise_rule rule;
    int32_t entries; /* of the model's batch: prompts, or twice as many */
    size_t clip;     /* numbers of a clip */
    nv_dit_run *run;
    nv_sampler *sampler;
    float *latent, *output, *time, *context; /* the device's: [entries, clip] twice, [entries], [entries, words, dim] */
    int32_t *ids;                            /* the device's: [entries, words] */
    float *velocity;                         /* [entries, clip]; the first half becomes the guided prediction */
    float *clean;                            /* [prompts, clip] */
};

static int guided(const nv_denoise_rule *rule) {
    return rule->guidance > 1.0f;
}

int32_t nv_denoiser_entries(const nv_denoiser *d) {
    return d->entries;
}

nabla_status nv_denoise_check(const nv_denoise_rule *r, nv_error *err) {
    if (r->steps < 1 || r->steps > NV_MOST_SAMPLE_STEPS)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d steps: choose 1 to %d", r->steps, NV_MOST_SAMPLE_STEPS);
    if (r->dense_steps < 0)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d dense steps: choose 0 or more", r->dense_steps);
    if (!((double)r->guidance <= NV_MOST_GUIDANCE)) /* NaN too */
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "guidance %g: choose 0 to %g", (double)r->guidance,
                       NV_MOST_GUIDANCE);
    if (!(r->shift >= (float)NV_LEAST_SHIFT && r->shift <= (float)NV_MOST_SHIFT))
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "shift %g: choose %g to %g", (double)r->shift, NV_LEAST_SHIFT,
                       NV_MOST_SHIFT);
    if (r->clip.width < 1 || r->clip.height < 1 || r->clip.frames < 1 || r->clip.width > NV_MOST_SIDE ||
        r->clip.height > NV_MOST_SIDE || r->clip.frames > NV_MOST_FRAMES)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "a clip of %dx%d and %d frames: choose 1 to %d of each",
                       r->clip.width, r->clip.height, r->clip.frames, NV_MOST_SIDE);
    return NABLA_OK;
}

static nabla_status check_memory(nv_denoiser *d, const nv_dit_shape *shape, nv_error *err) {
    size_t bytes = 0, run_bytes = 0;
    NV_TRY(nv_memory_add(&bytes, sizeof(float), 4, d->entries, (int64_t)d->clip, 1, err));
    NV_TRY(nv_memory_add(&bytes, sizeof(float), nv_solver_history(d->rule.solver), d->rule.prompts, (int64_t)d->clip, 1,
                         err));
    NV_TRY(nv_dit_run_memory(d->model->dit, shape, &run_bytes, err));
    NV_TRY(nv_memory_add(&bytes, 1, (int64_t)run_bytes, 1, 1, 1, err));
    return nv_memory_check(d->model->device, bytes, "sampling", "choose a smaller size or fewer frames", err);
}

static nabla_status make_buffers(nv_denoiser *d, const nv_dit_shape *shape, nv_error *err) {
    nv_device *device = d->model->device;
    size_t entries = (size_t)d->entries, clips = entries * d->clip * sizeof(float);
    size_t words = entries * (size_t)shape->text_length, columns = (size_t)nv_clip_model_text_dim(d->model);
    NV_TRY(check_memory(d, shape, err));
    NV_TRY(nv_dit_run_create(d->model->dit, shape, &d->run, err));
    NV_TRY(nv_sampler_create(d->rule.solver, d->rule.steps, d->rule.shift, (size_t)d->rule.prompts * d->clip,
                             &d->sampler, err));
    NV_TRY(device->ops->allocate(device, clips, (void **)&d->latent, err));
    NV_TRY(device->ops->allocate(device, clips, (void **)&d->output, err));
    NV_TRY(device->ops->allocate(device, entries * sizeof(float), (void **)&d->time, err));
    NV_TRY(device->ops->allocate(device, words * columns * sizeof(float), (void **)&d->context, err));
    NV_TRY(device->ops->allocate(device, words * sizeof(int32_t), (void **)&d->ids, err));
    d->velocity = malloc(clips);
    d->clean = malloc((size_t)d->rule.prompts * d->clip * sizeof(float));
    if (!d->velocity || !d->clean)
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %zu bytes of sampling buffers", 2 * clips);
    return NABLA_OK;
}

nabla_status nv_denoiser_create(nv_clip_model *model, const nv_denoise_rule *rule, nv_denoiser **out, nv_error *err) {
    nv_dit_shape shape;
    size_t clip = 0;
    *out = NULL;
    int32_t entries = guided(rule) ? 2 * rule->prompts : rule->prompts;
    NV_TRY(nv_clip_model_shape(model, entries, &rule->clip, 0, &shape, err));
    NV_TRY(nv_memory_add(&clip, 1, 3, rule->clip.frames, rule->clip.height, rule->clip.width, err));
    nv_denoiser *d = calloc(1, sizeof *d);
    if (!d) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a sampler");
    *d = (nv_denoiser){.model = model, .rule = *rule, .entries = entries, .clip = clip};
    nabla_status status = make_buffers(d, &shape, err);
    if (status != NABLA_OK) {
        nv_denoiser_destroy(d);
        return status;
    }
    *out = d;
    return NABLA_OK;
}

void nv_denoiser_destroy(nv_denoiser *d) {
    if (!d) return;
    nv_device *device = d->model->device;
    nv_dit_run_destroy(d->run);
    nv_sampler_destroy(d->sampler);
    device->ops->release(device, d->latent);
    device->ops->release(device, d->output);
    device->ops->release(device, d->time);
    device->ops->release(device, d->context);
    device->ops->release(device, d->ids);
    free(d->velocity);
    free(d->clean);
    free(d);
}

size_t nv_denoiser_clip(const nv_denoiser *d) {
    return d->clip;
}

const nv_dit_run *nv_denoiser_run(const nv_denoiser *d) {
    return d->run;
}

nv_sampler *nv_denoiser_sampler(const nv_denoiser *d) {
    return d->sampler;
}

/* Context rows of every entry: the prompts', then the negative's as often. */
static nabla_status set_context(nv_denoiser *d, const int32_t *ids, const int32_t *negative, nv_error *err) {
    nv_device *device = d->model->device;
    size_t words = (size_t)nv_words_length(d->model->words), prompts = (size_t)d->rule.prompts;
    device->ops->upload(device, d->ids, ids, prompts * words * sizeof *ids);
    for (size_t e = prompts; e < (size_t)d->entries; e++)
        device->ops->upload(device, d->ids + e * words, negative, words * sizeof *negative);
    return device->ops->embed(device, d->model->table, d->ids, (int64_t)((size_t)d->entries * words),
                              nv_clip_model_text_dim(d->model), d->context, err);
}

/* uncond + g (cond - uncond), into the first half. */
static void guide(nv_denoiser *d) {
    size_t n = (size_t)d->rule.prompts * d->clip;
    float *cond = d->velocity, g = d->rule.guidance;
    const float *uncond = d->velocity + n;
#pragma omp parallel for schedule(static) num_threads(d->model->device->threads)
    for (size_t i = 0; i < n; i++)
        cond[i] = uncond[i] + g * (cond[i] - uncond[i]);
}

static nabla_status set_time(nv_denoiser *d, float time, nv_error *err) {
    nv_device *device = d->model->device;
    size_t bytes = (size_t)d->entries * sizeof(float);
    float *times = malloc(bytes);
    if (!times) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %zu bytes", bytes);
    for (int32_t e = 0; e < d->entries; e++)
        times[e] = time;
    device->ops->upload(device, d->time, times, bytes);
    free(times);
    return NABLA_OK;
}

/* The model's velocity at (x, sigma), in d->velocity. */
static nabla_status find_velocity(nv_denoiser *d, int32_t step, float sigma, float time, const float *x,
                                  const nabla_policy *dense, nv_error *err) {
    nv_device *device = d->model->device;
    size_t n = (size_t)d->rule.prompts * d->clip;
    NV_TRY(set_time(d, time, err));
    device->ops->upload(device, d->latent, x, n * sizeof *x);
    if (guided(&d->rule)) device->ops->copy(device, d->latent + n, d->latent, n * sizeof *x);
    nv_dit_inputs in = {.latent = d->latent, .time = d->time, .context = d->context};
    in.policy = step < d->rule.dense_steps ? dense : &d->rule.policy;
    NV_TRY(nv_dit_forward(d->model->dit, d->run, &in, d->output, err));
    device->ops->download(device, d->velocity, d->output, (size_t)d->entries * d->clip * sizeof *x);
    if (guided(&d->rule)) guide(d);
    nv_flow_velocity(d->model->prediction, sigma, n, x, d->velocity);
    return NABLA_OK;
}

static void count_step(const nv_denoiser *d, nv_denoise_totals *totals) {
    nv_dit_stats stats;
    nv_dit_get_stats(d->run, &stats);
    totals->steps++;
    totals->density += stats.density / (double)d->rule.steps;
    totals->plan_s += stats.plan_s;
    totals->attention_s += stats.attention_s;
    totals->products_s += stats.products_s;
}

static nabla_status check_finite(const nv_denoiser *d, int32_t step, const float *x, nv_error *err) {
    size_t n = (size_t)d->rule.prompts * d->clip;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return nv_fail(
                err, NABLA_INTERNAL,
                "step %d of %d left values that are no numbers (NaN or infinity), so sampling stopped there: "
                "try fp32, less guidance, or another checkpoint of the model",
                step, d->rule.steps);
    return NABLA_OK;
}

static nabla_status take_step(nv_denoiser *d, int32_t i, const nabla_policy *dense, float *x, int watched,
                              nv_denoise_totals *totals, nv_error *err) {
    size_t n = (size_t)d->rule.prompts * d->clip;
    float sigma = nv_sampler_sigma(d->sampler, i);
    NV_TRY(find_velocity(d, i, sigma, nv_sampler_time(d->sampler, i), x, dense, err));
    if (watched) {
        for (size_t j = 0; j < n; j++)
            d->clean[j] = x[j] - sigma * d->velocity[j];
    }
    nv_sampler_step(d->sampler, i, x, d->velocity);
    NV_TRY(check_finite(d, i + 1, x, err));
    count_step(d, totals);
    return NABLA_OK;
}

nabla_status nv_denoise(nv_denoiser *d, const int32_t *ids, const int32_t *negative, float *x, nv_denoise_watch watch,
                        void *user, nv_denoise_totals *totals, nv_error *err) {
    const nabla_policy dense = {.size = sizeof dense, .dense = 1};
    NV_TRY(set_context(d, ids, negative, err));
    while (totals->steps < d->rule.steps) {
        NV_TRY(take_step(d, totals->steps, &dense, x, watch != NULL, totals, err));
        if (watch) NV_TRY(watch(user, totals->steps, d->clean, err));
    }
    return NABLA_OK;
}

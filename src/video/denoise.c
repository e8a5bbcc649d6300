/* SPDX-License-Identifier: Apache-2.0 */
#include "video/denoise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "video/files.h"
#include "video/limits.h"

struct nv_denoiser {
    nv_device *device;
    nv_dit *dit;
    nv_denoise_rule rule;
    int32_t entries; /* of the model's batch: prompts, or twice as many */
    size_t numbers;  /* of a latent */
    size_t context_numbers;
    nv_dit_run *run;
    nv_sampler *sampler;
    float *latent, *output, *time, *context; /* the device's: [entries, latent] twice, [entries], [entries, context] */
    float *velocity;                         /* [entries, latent]; the first half becomes the guided prediction */
    float *clean;                            /* [prompts, latent] */
    double density;                          /* of the last step */
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

/* ------------------------------------------------------------------ memory */

static int32_t entries_of(const nv_denoise_rule *rule) {
    return guided(rule) ? 2 * rule->prompts : rule->prompts;
}

static nv_dit_shape shape_of(const nv_denoise_rule *rule) {
    nv_dit_shape shape = rule->shape;
    shape.batch = entries_of(rule);
    shape.train = 0;
    return shape;
}

static nabla_status count_latent(const nv_dit_config *config, const nv_denoise_rule *rule, size_t *numbers,
                                 nv_error *err) {
    const nv_dit_shape *s = &rule->shape;
    *numbers = 0;
    if (config->in_channels != config->out_channels)
        return nv_fail(err, NABLA_UNSUPPORTED, "the transformer has %d channels in and %d out: it cannot be sampled",
                       config->in_channels, config->out_channels);
    return nv_memory_add(numbers, 1, config->in_channels, s->frames, s->height, s->width, err);
}

/* Beside the transformer's own: latents on both sides, contexts, what the solver remembers. */
static nabla_status add_buffers(const nv_dit_config *config, const nv_denoise_rule *rule, size_t *bytes,
                                nv_error *err) {
    const int32_t entries = entries_of(rule);
    size_t numbers;
    NV_TRY(count_latent(config, rule, &numbers, err));
    NV_TRY(nv_memory_add(bytes, sizeof(float), 3 * (int64_t)entries + rule->prompts, (int64_t)numbers, 1, 1, err));
    NV_TRY(
        nv_memory_add(bytes, sizeof(float), nv_solver_history(rule->solver), rule->prompts, (int64_t)numbers, 1, err));
    return nv_memory_add(bytes, sizeof(float), entries, rule->shape.text_length, config->text_dim, 1, err);
}

nabla_status nv_denoise_memory(nv_device *device, const nv_dit_config *config, nabla_dtype compute, nv_dit_use use,
                               const nv_denoise_rule *rule, nv_dit_needs *needs, nv_error *err) {
    const nv_dit_shape shape = shape_of(rule);
    NV_TRY(nv_dit_estimate(device, config, compute, use, &shape, needs, err));
    return add_buffers(config, rule, &needs->run, err);
}

static nabla_status check_memory(const nv_denoiser *d, const nv_dit_shape *shape, nv_error *err) {
    size_t bytes = 0;
    NV_TRY(nv_dit_run_memory(d->dit, shape, &bytes, err));
    NV_TRY(add_buffers(nv_dit_get_config(d->dit), &d->rule, &bytes, err));
    return nv_memory_check(d->device, bytes, "sampling", "choose a smaller size or fewer frames", err);
}

/* ------------------------------------------------------------------ life */

static nabla_status make_buffers(nv_denoiser *d, nv_error *err) {
    const nv_device_ops *ops = d->device->ops;
    const nv_dit_shape shape = shape_of(&d->rule);
    const size_t entries = (size_t)d->entries, latents = entries * d->numbers * sizeof(float);
    NV_TRY(check_memory(d, &shape, err));
    NV_TRY(nv_dit_run_create(d->dit, &shape, &d->run, err));
    NV_TRY(nv_sampler_create(d->rule.solver, d->rule.steps, d->rule.shift, (size_t)d->rule.prompts * d->numbers,
                             &d->sampler, err));
    NV_TRY(ops->allocate(d->device, latents, (void **)&d->latent, err));
    NV_TRY(ops->allocate(d->device, latents, (void **)&d->output, err));
    NV_TRY(ops->allocate(d->device, entries * sizeof(float), (void **)&d->time, err));
    NV_TRY(ops->allocate(d->device, entries * d->context_numbers * sizeof(float), (void **)&d->context, err));
    d->velocity = malloc(latents);
    d->clean = malloc((size_t)d->rule.prompts * d->numbers * sizeof(float));
    if (!d->velocity || !d->clean)
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %zu bytes of sampling buffers", 2 * latents);
    return NABLA_OK;
}

nabla_status nv_denoiser_create(nv_device *device, nv_dit *dit, const nv_denoise_rule *rule, nv_denoiser **out,
                                nv_error *err) {
    const nv_dit_config *config = nv_dit_get_config(dit);
    size_t numbers;
    *out = NULL;
    NV_TRY(count_latent(config, rule, &numbers, err));
    nv_denoiser *d = calloc(1, sizeof *d);
    if (!d) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a sampler");
    *d = (nv_denoiser){.device = device, .dit = dit, .rule = *rule, .entries = entries_of(rule), .numbers = numbers};
    d->context_numbers = (size_t)rule->shape.text_length * (size_t)config->text_dim;
    nabla_status status = make_buffers(d, err);
    if (status != NABLA_OK) {
        nv_denoiser_destroy(d);
        return status;
    }
    *out = d;
    return NABLA_OK;
}

void nv_denoiser_destroy(nv_denoiser *d) {
    if (!d) return;
    const nv_device_ops *ops = d->device->ops;
    nv_dit_run_destroy(d->run);
    nv_sampler_destroy(d->sampler);
    ops->release(d->device, d->latent);
    ops->release(d->device, d->output);
    ops->release(d->device, d->time);
    ops->release(d->device, d->context);
    free(d->velocity);
    free(d->clean);
    free(d);
}

size_t nv_denoiser_latent(const nv_denoiser *d) {
    return d->numbers;
}

const nv_dit_run *nv_denoiser_run(const nv_denoiser *d) {
    return d->run;
}

double nv_denoiser_density(const nv_denoiser *d) {
    return d->density;
}

nv_sampler *nv_denoiser_sampler(const nv_denoiser *d) {
    return d->sampler;
}

/* ------------------------------------------------------------------ a step */

/* Context rows of every entry: the prompts', then the negative's as often. */
static void set_context(nv_denoiser *d, const float *contexts, const float *negative) {
    const nv_device_ops *ops = d->device->ops;
    const size_t prompts = (size_t)d->rule.prompts, bytes = d->context_numbers * sizeof(float);
    ops->upload(d->device, d->context, contexts, prompts * bytes);
    for (size_t e = prompts; e < (size_t)d->entries; e++)
        ops->upload(d->device, d->context + e * d->context_numbers, negative, bytes);
}

/* uncond + g (cond - uncond), into the first half. */
static void guide(nv_denoiser *d) {
    size_t n = (size_t)d->rule.prompts * d->numbers;
    float *cond = d->velocity, g = d->rule.guidance;
    const float *uncond = d->velocity + n;
#pragma omp parallel for schedule(static) num_threads(d->device->threads)
    for (size_t i = 0; i < n; i++)
        cond[i] = uncond[i] + g * (cond[i] - uncond[i]);
}

static nabla_status set_time(nv_denoiser *d, float time, nv_error *err) {
    nv_device *device = d->device;
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
                                  const nabla_policy *dense, const nv_denoise_watch *watch, nv_error *err) {
    nv_device *device = d->device;
    size_t n = (size_t)d->rule.prompts * d->numbers;
    NV_TRY(set_time(d, time, err));
    device->ops->upload(device, d->latent, x, n * sizeof *x);
    if (guided(&d->rule)) device->ops->copy(device, d->latent + n, d->latent, n * sizeof *x);
    nv_dit_inputs in = {.latent = d->latent, .time = d->time, .context = d->context};
    in.policy = step < d->rule.dense_steps ? dense : &d->rule.policy;
    in.stop = watch->layer;
    in.user = watch->user;
    NV_TRY(nv_dit_forward(d->dit, d->run, &in, d->output, err));
    NV_TRY(device->ops->download(device, d->velocity, d->output, (size_t)d->entries * d->numbers * sizeof *x, err));
    if (guided(&d->rule)) guide(d);
    nv_flow_velocity(d->rule.prediction, sigma, n, x, d->velocity);
    return NABLA_OK;
}

static nabla_status count_step(nv_denoiser *d, nv_denoise_totals *totals, nv_error *err) {
    nv_dit_stats stats;
    NV_TRY(nv_dit_get_stats(d->run, &stats, err));
    d->density = stats.density;
    totals->steps++;
    totals->density += stats.density / (double)d->rule.steps;
    totals->plan_s += stats.plan_s;
    totals->attention_s += stats.attention_s;
    totals->products_s += stats.products_s;
    totals->weights_s += stats.weights_s;
    return NABLA_OK;
}

static nabla_status check_finite(const nv_denoiser *d, int32_t step, const float *x, nv_error *err) {
    size_t n = (size_t)d->rule.prompts * d->numbers;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return nv_fail(
                err, NABLA_INTERNAL,
                "step %d of %d left values that are no numbers (NaN or infinity), so sampling stopped there: "
                "try fp32, less guidance, or another checkpoint of the model",
                step, d->rule.steps);
    return NABLA_OK;
}

static nabla_status take_step(nv_denoiser *d, int32_t i, const nabla_policy *dense, float *x,
                              const nv_denoise_watch *watch, nv_denoise_totals *totals, nv_error *err) {
    size_t n = (size_t)d->rule.prompts * d->numbers;
    float sigma = nv_sampler_sigma(d->sampler, i);
    NV_TRY(find_velocity(d, i, sigma, nv_sampler_time(d->sampler, i), x, dense, watch, err));
    for (size_t j = 0; watch->step && j < n; j++)
        d->clean[j] = x[j] - sigma * d->velocity[j];
    nv_sampler_step(d->sampler, i, x, d->velocity);
    NV_TRY(check_finite(d, i + 1, x, err));
    return count_step(d, totals, err);
}

nabla_status nv_denoise(nv_denoiser *d, const float *contexts, const float *negative, float *x,
                        const nv_denoise_watch *watch, nv_denoise_totals *totals, nv_error *err) {
    const nabla_policy dense = {.size = sizeof dense, .dense = 1};
    const nv_denoise_watch nobody = {0};
    if (!watch) watch = &nobody;
    set_context(d, contexts, negative);
    while (totals->steps < d->rule.steps) {
        NV_TRY(take_step(d, totals->steps, &dense, x, watch, totals, err));
        if (watch->step) NV_TRY(watch->step(watch->user, totals->steps, d->clean, err));
    }
    return NABLA_OK;
}

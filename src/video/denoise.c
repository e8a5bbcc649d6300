/* SPDX-License-Identifier: Apache-2.0 */
#include "video/denoise.h"

#include <stdlib.h>

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
    nabla_policy dense;
    nv_dit_inputs in;                        /* of the step under way */
    nv_repeat repeat;                        /* of a step under in.policy */
    float *latent, *output, *time, *context; /* the device's: [entries, latent] twice, [entries], [entries, context] */
    float *times;                            /* [entries] */
    nv_dit_stats stats;                      /* of the last step */
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

/* Beside the transformer's own: latents, contexts, what the solver keeps, and that once more where it goes to a file.
 */
static nabla_status add_buffers(const nv_dit_config *config, const nv_denoise_rule *rule, size_t *bytes,
                                nv_error *err) {
    const int32_t entries = entries_of(rule);
    const int64_t latents = 2 * (int64_t)entries + 2 * (int64_t)nv_solver_latents(rule->solver) * rule->prompts;
    size_t numbers;
    NV_TRY(count_latent(config, rule, &numbers, err));
    NV_TRY(nv_memory_add(bytes, sizeof(float), latents, (int64_t)numbers, 1, 1, err));
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

static nabla_status make_sampler(nv_denoiser *d, nv_error *err) {
    const nv_sampler_rule rule = {.solver = d->rule.solver,
                                  .steps = d->rule.steps,
                                  .shift = d->rule.shift,
                                  .guided = guided(&d->rule),
                                  .guidance = d->rule.guidance,
                                  .gives_clean = d->rule.prediction == NV_PREDICT_SAMPLE};
    return nv_sampler_create(d->device, &rule, (size_t)d->rule.prompts * d->numbers, &d->sampler, err);
}

static nabla_status make_buffers(nv_denoiser *d, nv_error *err) {
    const nv_device_ops *ops = d->device->ops;
    const nv_dit_shape shape = shape_of(&d->rule);
    const size_t entries = (size_t)d->entries, latents = entries * d->numbers * sizeof(float);
    NV_TRY(check_memory(d, &shape, err));
    NV_TRY(nv_dit_run_create(d->dit, &shape, &d->run, err));
    NV_TRY(make_sampler(d, err));
    NV_TRY(ops->allocate(d->device, latents, (void **)&d->latent, err));
    NV_TRY(ops->allocate(d->device, latents, (void **)&d->output, err));
    NV_TRY(ops->allocate(d->device, entries * sizeof(float), (void **)&d->time, err));
    NV_TRY(ops->allocate(d->device, entries * d->context_numbers * sizeof(float), (void **)&d->context, err));
    d->times = malloc(entries * sizeof *d->times);
    if (!d->times) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a sampler");
    d->in = (nv_dit_inputs){.latent = d->latent, .time = d->time, .context = d->context};
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
    *d = (nv_denoiser){.device = device,
                       .dit = dit,
                       .rule = *rule,
                       .entries = entries_of(rule),
                       .numbers = numbers,
                       .dense = {.size = sizeof d->dense, .dense = 1},
                       .repeat = nv_repeat_of(device, rule->replay)};
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
    nv_repeat_forget(&d->repeat);
    nv_dit_run_destroy(d->run);
    nv_sampler_destroy(d->sampler);
    ops->release(d->device, d->latent);
    ops->release(d->device, d->output);
    ops->release(d->device, d->time);
    ops->release(d->device, d->context);
    free(d->times);
    free(d);
}

size_t nv_denoiser_latent(const nv_denoiser *d) {
    return d->numbers;
}

const nv_dit_run *nv_denoiser_run(const nv_denoiser *d) {
    return d->run;
}

const nv_dit_stats *nv_denoiser_stats(const nv_denoiser *d) {
    return &d->stats;
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

/* What a step queues: the model's output at (x, sigma), and from it the next x. */
static nabla_status queue_step(void *user, nv_error *err) {
    nv_denoiser *d = user;
    const size_t n = (size_t)d->rule.prompts * d->numbers;
    if (guided(&d->rule)) d->device->ops->copy(d->device, d->latent + n, d->latent, n * sizeof *d->latent);
    NV_TRY(nv_dit_forward(d->dit, d->run, &d->in, d->output, err));
    return nv_sampler_step(d->sampler, d->latent, d->output, err);
}

/* The numbers in which step i differs from others. */
static void set_step(nv_denoiser *d, int32_t i, const nv_denoise_watch *watch) {
    const nabla_policy *policy = i < d->rule.dense_steps ? &d->dense : &d->rule.policy;
    if (d->in.policy != policy) nv_repeat_forget(&d->repeat);
    d->in.policy = policy;
    d->in.stop = watch->layer;
    d->in.user = watch->user;
    for (int32_t e = 0; e < d->entries; e++)
        d->times[e] = nv_sampler_time(d->sampler, i);
    d->device->ops->upload(d->device, d->time, d->times, (size_t)d->entries * sizeof *d->times);
    nv_sampler_prepare(d->sampler, i);
}

static void count_step(const nv_denoiser *d, nv_denoise_totals *totals) {
    const nv_dit_stats *stats = &d->stats;
    totals->steps++;
    totals->density += stats->density / (double)d->rule.steps;
    totals->plan_s += stats->plan_s;
    totals->attention_s += stats->attention_s;
    totals->products_s += stats->products_s;
    totals->weights_s += stats->weights_s;
}

static nabla_status check_finite(const nv_denoiser *d, nv_error *err) {
    int32_t step;
    NV_TRY(nv_sampler_failed(d->sampler, &step, err));
    if (step == 0) return NABLA_OK;
    return nv_fail(err, NABLA_INTERNAL,
                   "step %d of %d left values that are no numbers (NaN or infinity), so sampling stopped there: "
                   "try fp32, less guidance, or another checkpoint of the model",
                   step, d->rule.steps);
}

/* The host waits once, at the end: what it then reads is small, and x and the history stay what the step left until it
   has said to go on. */
static nabla_status take_step(nv_denoiser *d, int32_t i, const nv_denoise_watch *watch, nv_denoise_totals *totals,
                              nv_error *err) {
    const int32_t layers = nv_dit_get_config(d->dit)->layers;
    set_step(d, i, watch);
    if (watch->layer && nv_repeat_replays(&d->repeat) && watch->layer(watch->user, 0, layers))
        return nv_fail(err, NABLA_CANCELLED, "stopped before step %d of %d", i + 1, d->rule.steps);
    if (nv_repeat_replays(&d->repeat)) d->in.stop = NULL; /* nobody else's code runs while work is recorded */
    NV_TRY(nv_repeat_queue(&d->repeat, queue_step, d, err));
    NV_TRY(nv_dit_get_stats(d->run, &d->stats, err));
    nv_repeat_done(&d->repeat);
    NV_TRY(check_finite(d, err));
    count_step(d, totals);
    return NABLA_OK;
}

static nabla_status take_steps(nv_denoiser *d, const nv_denoise_watch *watch, nv_denoise_totals *totals,
                               nv_error *err) {
    while (totals->steps < d->rule.steps) {
        NV_TRY(take_step(d, totals->steps, watch, totals, err));
        if (watch->step) NV_TRY(watch->step(watch->user, totals->steps, err));
    }
    return NABLA_OK;
}

static size_t latents_bytes(const nv_denoiser *d) {
    return (size_t)d->rule.prompts * d->numbers * sizeof(float);
}

nabla_status nv_denoiser_read(nv_denoiser *d, float *x, nv_error *err) {
    return d->device->ops->download(d->device, x, d->latent, latents_bytes(d), err);
}

nabla_status nv_denoiser_read_clean(nv_denoiser *d, float *clean, nv_error *err) {
    return d->device->ops->download(d->device, clean, nv_sampler_clean(d->sampler), latents_bytes(d), err);
}

nabla_status nv_denoise(nv_denoiser *d, const float *contexts, const float *negative, float *x,
                        const nv_denoise_watch *watch, nv_denoise_totals *totals, nv_error *err) {
    const nv_denoise_watch nobody = {0};
    set_context(d, contexts, negative);
    d->device->ops->upload(d->device, d->latent, x, latents_bytes(d));
    const nabla_status status = take_steps(d, watch ? watch : &nobody, totals, err);
    if (status != NABLA_OK && status != NABLA_CANCELLED) return status;
    NV_TRY(nv_denoiser_read(d, x, err));
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* From prompts to video files: texts, transformer, decoder, one after the other for all prompts, so that each part is
   loaded once and two are never in memory together. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "video/generation.h"
#include "video/profile.h"
#include "video/report.h"

nabla_generate_options nabla_generate_options_default(void) {
    return (nabla_generate_options){.size = sizeof(nabla_generate_options),
                                    .guidance = -1.0f,
                                    .shift = -1.0f,
                                    .dense_steps = -1,
                                    .crf = -1,
                                    .preview_every = 5};
}

/* ------------------------------------------------------------------ text */

static nabla_status encode(nv_generation *g, nv_error *err) {
    const double start = nv_now();
    const size_t bytes = ((size_t)g->count + 1) * g->context * sizeof(float);
    g->contexts = malloc(bytes);
    if (!g->contexts) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for contexts of %zu bytes", bytes);
    nv_profile_enter(g->machine, NABLA_PART_TEXT);
    nv_profile_begin(g->machine, g->pipeline->device);
    NV_TRY(g->pipeline->ops->contexts(g->pipeline, g->contexts, &g->texts_hash, err));
    nv_profile_end(g->machine, g->pipeline->device, g->machine->compute);
    g->result->text_s = nv_now() - start;
    return NABLA_OK;
}

static const float *context_of(const nv_generation *g, int32_t i) {
    return g->contexts + (size_t)i * g->context;
}

/* ------------------------------------------------------------------ between steps */

/* The state with the latent that is in clip->x. */
static nabla_status save(nv_generation *g, nv_error *err) {
    const double start = nv_now();
    const nabla_video_part part = nv_profile_enter(g->machine, NABLA_PART_FILES);
    NV_TRY(nv_generation_save(g, g->current, err));
    nv_profile_enter(g->machine, part);
    g->saved_at = nv_now();
    g->save_s = g->saved_at - start;
    return NABLA_OK;
}

/* After a step that `must` be kept, and else as often as writing stays below a twentieth of the time: every step, but
   where steps are short. */
static nabla_status save_step(nv_generation *g, int must, nv_error *err) {
    if (!must && nv_now() - g->saved_at < 20.0 * g->save_s) return NABLA_OK;
    NV_TRY(nv_denoiser_read(g->denoiser, g->current->x, err));
    return save(g, err);
}

/* Whether the file is kept up to date, not just left behind. */
static int keeps_state(const nv_generation *g) {
    return g->options->checkpoint || g->options->resume;
}

static void __attribute__((format(printf, 3, 4))) add_note(char *note, size_t size, const char *format, ...) {
    const size_t at = strlen(note), comma = at && at + 2 < size ? 2 : 0;
    va_list arguments;
    va_start(arguments, format);
    memcpy(note + at, ", ", comma);
    vsnprintf(note + at + comma, size - at - comma, format, arguments);
    va_end(arguments);
}

/* Non-zero: the caller wants to stop. `layer` of `layers` of the step under way is told where steps are long. */
static int tell(const nv_generation *g, int32_t layer, int32_t layers) {
    const nv_denoise_totals *t = &g->current->totals;
    const double running = nv_now() - g->step_at;
    char note[96] = "";
    if (g->count > 1) add_note(note, sizeof note, "clip %d of %d", (int)(g->current - g->clips) + 1, g->count);
    if (t->steps > 0) {
        const double density = t->density * (double)g->rule.steps / (double)t->steps;
        add_note(note, sizeof note, "sparsity %.0f %%", 100.0 * nv_sparsity(density));
    }
    if (layer > 0 && (running > 2.0 || g->step_s > 2.0)) add_note(note, sizeof note, "layer %d of %d", layer, layers);
    /* Until a step is done nobody else can tell how long it will be. */
    if (layer > 0 && running > 2.0 && g->step_s == 0.0)
        add_note(note, sizeof note, "about %.0f s a step", running * layers / layer);
    return nv_pipeline_tell(g->pipeline, "sample", t->steps, g->rule.steps, note);
}

static int ask(void *user, int32_t layer, int32_t layers) {
    return tell(user, layer, layers);
}

static nabla_status draw_preview(const nv_generation *g, int32_t done, nv_error *err) {
    const nabla_video_part part = nv_profile_enter(g->machine, NABLA_PART_MEDIA);
    const nabla_status status = nv_generation_preview(g, done, err);
    nv_profile_enter(g->machine, part);
    return status;
}

static nabla_status step(void *user, int32_t done, nv_error *err) {
    nv_generation *g = user;
    const nabla_generate_options *o = g->options;
    const double now = nv_now();
    const int stop = tell(g, 0, 0);
    g->step_s = now - g->step_at;
    g->step_at = now;
    nv_profile_pass(g->machine, nv_denoiser_stats(g->denoiser));
    if (g->result->densities) g->result->densities[done - 1] = (float)nv_denoiser_stats(g->denoiser)->density;
    if (keeps_state(g)) NV_TRY(save_step(g, stop || done == g->rule.steps, err));
    if (g->current->preview[0] && o->preview_every > 0 && done % o->preview_every == 0)
        NV_TRY(draw_preview(g, done, err));
    return stop ? nv_fail(err, NABLA_CANCELLED, "stopped") : NABLA_OK;
}

/* What a run that stops leaves: the state after its last step, where there is a place for it. */
static nabla_status leave(nv_generation *g, nv_error *err) {
    const nv_generated *clip = g->current;
    const int32_t done = clip->totals.steps;
    if (!clip->state[0] || (done == 0 && !keeps_state(g)))
        return nv_fail(err, NABLA_CANCELLED, "stopped after step %d of %d; nothing was written", done, g->rule.steps);
    NV_TRY(save(g, err));
    snprintf(g->result->kept_state, sizeof g->result->kept_state, "%s", clip->state);
    return nv_fail(err, NABLA_CANCELLED, "stopped after step %d of %d; resume goes on from %.300s", done, g->rule.steps,
                   clip->state);
}

/* ------------------------------------------------------------------ a clip */

static void add_figures(nv_generation *g, const nv_generated *clip, double seconds) {
    nabla_generate_result *r = g->result;
    r->sample_s += seconds;
    r->sparsity += nv_sparsity(clip->totals.density) / (double)g->count;
    r->plan_s += clip->totals.plan_s;
    r->attention_s += clip->totals.attention_s;
    r->products_s += clip->totals.products_s;
    r->weights_s += clip->totals.weights_s;
    r->other_s = r->sample_s - r->plan_s - r->attention_s - r->products_s - r->weights_s;
}

static nabla_status sample_clip(nv_generation *g, int32_t i, nv_error *err) {
    const nv_denoise_watch watch = {.step = step, .layer = ask, .user = g};
    nv_generated *clip = g->current = &g->clips[i];
    const double start = g->step_at = nv_now();
    nv_profile_enter(g->machine, NABLA_PART_SAMPLER);
    g->settings.prompt = clip->prompt;
    g->settings.seed = clip->seed;
    NV_TRY(nv_generation_noise(g, clip, err));
    g->result->resumed_steps = clip->totals.steps;
    for (int32_t s = 0; s < g->rule.steps && g->result->densities; s++)
        g->result->densities[s] = -1.0f;
    if (clip->mask[0] && clip->totals.steps == g->rule.steps)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s has no step left to draw the blocks of: ask for no mask",
                       g->options->resume);
    /* Before the first step too: a place that cannot be written shows before hours of work. */
    if (keeps_state(g)) NV_TRY(save(g, err));
    const nabla_status status =
        nv_denoise(g->denoiser, context_of(g, i), context_of(g, g->count), clip->x, &watch, &clip->totals, err);
    if (status == NABLA_CANCELLED) return leave(g, err);
    NV_TRY(status);
    add_figures(g, clip, nv_now() - start);
    nv_generation_comment(g, clip);
    const double sampled = nv_now();
    nv_profile_enter(g->machine, NABLA_PART_FILES);
    if (clip->latent[0]) NV_TRY(nv_generation_latent(g, clip, err));
    g->sampled = i + 1;
    nv_profile_enter(g->machine, NABLA_PART_MEDIA);
    if (clip->mask[0]) NV_TRY(nv_generation_mask(g, clip, err));
    g->result->write_s += nv_now() - sampled;
    return NABLA_OK;
}

static nabla_status sample(nv_generation *g, nv_error *err) {
    const double start = nv_now();
    nv_profile_enter(g->machine, NABLA_PART_LOAD);
    NV_TRY(g->pipeline->ops->load(g->pipeline, err));
    NV_TRY(nv_denoiser_create(g->pipeline->device, g->pipeline->dit, &g->rule, &g->denoiser, err));
    g->result->load_s += nv_now() - start;
    nabla_status status = NABLA_OK;
    for (int32_t i = 0; i < g->count && status == NABLA_OK; i++)
        status = sample_clip(g, i, err);
    nv_profile_enter(g->machine, NABLA_PART_OTHER);
    nv_denoiser_destroy(g->denoiser);
    g->denoiser = NULL;
    nv_pipeline_unload(g->pipeline);
    return status;
}

/* ------------------------------------------------------------------ videos */

/* The latent of the clip that failed stays, as do those of the clips after it. */
static nabla_status write_clip(nv_generation *g, const nv_generated *clip, nv_error *err) {
    const int asked_for = g->options->save_latent != NULL;
    if (!clip->output[0]) return NABLA_OK;
    NV_TRY(nv_generation_video(g, clip, err));
    if (clip->latent[0] && !asked_for) unlink(clip->latent);
    return NABLA_OK;
}

static nabla_status make_clips(nv_generation *g, nv_error *err) {
    NV_TRY(encode(g, err));
    NV_TRY(sample(g, err));
    for (; g->written < g->count; g->written++)
        NV_TRY(write_clip(g, &g->clips[g->written], err));
    return NABLA_OK;
}

/* However the call ended: the first of the latents that are there and wait for nabla_decode. */
static void tell_latent(const nv_generation *g) {
    if (g->pipeline->decodes && g->written < g->sampled)
        snprintf(g->result->kept_latent, sizeof g->result->kept_latent, "%s", g->clips[g->written].latent);
}

static nabla_status run(nv_generation *g, nv_error *err) {
    const double start = nv_now();
    NV_TRY(nv_generation_settle(g, err));
    g->result->load_s = nv_now() - start;
    if (g->options->begin && g->options->begin(g->options->begin_user, g->result))
        return nv_fail(err, NABLA_CANCELLED, "stopped before anything was loaded");
    const nabla_status status = make_clips(g, err);
    tell_latent(g);
    return status;
}

static void find_peak(nv_generation *g) {
    nv_device_memory memory;
    if (!g->pipeline) return;
    g->pipeline->device->ops->memory(g->pipeline->device, &memory);
    g->result->peak_memory = memory.held;
}

static void release(nv_generation *g) {
    nv_denoiser_destroy(g->denoiser);
    nv_st_close(g->resumed);
    nv_pipeline_close(g->pipeline);
    for (int32_t i = 0; i < g->count && g->clips; i++)
        free(g->clips[i].x);
    free(g->clips);
    free(g->contexts);
}

nabla_status nabla_generate(const nabla_generate_options *options, const nabla_video_machine *machine,
                            nabla_generate_result *result, nabla_video_error *err) {
    nv_error inner = {0};
    nabla_video_machine defaults = nabla_video_machine_default();
    nabla_generate_result ignored = {.size = sizeof ignored};
    nv_generation g = {
        .options = options, .machine = machine ? machine : &defaults, .result = result ? result : &ignored};
    if (g.result->size != sizeof ignored) return nv_report_result_version(err, "nabla_generate_result");
    *g.result = (nabla_generate_result){.size = sizeof ignored, .densities = g.result->densities};
    if (options->size != sizeof *options) return nv_report_version(err, "nabla_generate_options");
    if (machine && machine->size != sizeof *machine) return nv_report_version(err, "nabla_video_machine");
    nabla_status status = nv_profile_start(g.machine, err);
    if (status != NABLA_OK) return status;
    status = run(&g, &inner);
    find_peak(&g);
    release(&g);
    nv_profile_stop(g.machine);
    return nv_report(err, status, &inner);
}

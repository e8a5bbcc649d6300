/* SPDX-License-Identifier: Apache-2.0 */
/* Files that a generation reads and writes: noise, previews, latents, masks, videos. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/random.h"
#include "video/frames_out.h"
#include "video/generation.h"
#include "video/mask.h"
#include "weights/json.h"

/* ------------------------------------------------------------------ noise */

/* Open, with its tensor checked; the caller's to close. */
static nabla_status open_noise(const nv_generation *g, nv_st_file **file, const nv_st_entry **noise, nv_error *err) {
    const char *path = g->options->init_noise;
    const nv_dit_shape *s = &g->rule.shape;
    const int64_t shape[] = {g->pipeline->config.in_channels, s->frames, s->height, s->width};
    NV_TRY(nv_st_open(path, file, err));
    const nv_st_entry *e = *noise = nv_st_find(*file, "noise");
    if (e && e->dtype == NV_ST_F32 && e->rank == 4 && memcmp(e->shape, shape, sizeof shape) == 0) return NABLA_OK;
    nv_st_close(*file);
    *file = NULL;
    return nv_fail(
        err, NABLA_CORRUPT,
        "%s must hold a tensor \"noise\" of fp32 [%d, %d, %d, %d], the latent's channels, frames, height and "
        "width",
        path, (int)shape[0], (int)shape[1], (int)shape[2], (int)shape[3]);
}

nabla_status nv_generation_check_noise(const nv_generation *g, nv_error *err) {
    nv_st_file *file;
    const nv_st_entry *noise;
    if (!g->options->init_noise || g->resumed) return NABLA_OK;
    NV_TRY(open_noise(g, &file, &noise, err));
    nv_st_close(file);
    return NABLA_OK;
}

static nabla_status read_noise(const nv_generation *g, float *x, nv_error *err) {
    nv_st_file *file;
    const nv_st_entry *noise;
    NV_TRY(open_noise(g, &file, &noise, err));
    const nabla_status status = nv_st_read_f32(noise, x, g->numbers, err);
    nv_st_close(file);
    NV_TRY(status);
    for (size_t i = 0; i < g->numbers; i++)
        if (!isfinite(x[i]))
            return nv_fail(err, NABLA_CORRUPT, "the noise in %s holds values that are no numbers",
                           g->options->init_noise);
    return NABLA_OK;
}

/* ------------------------------------------------------------------ states */

/* With room for the history, which the caller frees. The first state of a run also finds out what tells its weights
   apart: of an offloaded transformer that brings every block to the GPU, which a run without states does without. */
static nabla_status state_tensors(nv_generation *g, const nv_generated *clip, nv_sample_tensors *out, nv_error *err) {
    const int32_t latents = nv_sampler_history(nv_denoiser_sampler(g->denoiser));
    *out = (nv_sample_tensors){.channels = g->pipeline->config.in_channels, .latents = latents, .x = clip->x};
    out->history = malloc(((size_t)latents * g->numbers + 1) * sizeof *out->history);
    if (!out->history) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %d latents of a state", latents);
    if (!g->settings.weights) g->settings.weights = nv_dit_fingerprint(g->pipeline->dit) ^ g->texts_hash;
    return NABLA_OK;
}

nabla_status nv_generation_save(nv_generation *g, const nv_generated *clip, nv_error *err) {
    nv_sample_tensors t;
    NV_TRY(state_tensors(g, clip, &t, err));
    nabla_status status = nv_sampler_read_history(nv_denoiser_sampler(g->denoiser), t.history, err);
    if (status == NABLA_OK)
        status = nv_sample_state_write(clip->state, &g->settings, &t, &clip->totals, g->pipeline->device, err);
    free(t.history);
    return status;
}

static nabla_status resume(nv_generation *g, nv_generated *clip, nv_error *err) {
    nv_sample_tensors t;
    NV_TRY(state_tensors(g, clip, &t, err));
    const nabla_status status =
        nv_sample_state_read(g->resumed, g->options->resume, &g->settings, &t, &clip->totals, err);
    if (status == NABLA_OK) nv_sampler_write_history(nv_denoiser_sampler(g->denoiser), t.history);
    free(t.history);
    return status;
}

nabla_status nv_generation_noise(nv_generation *g, nv_generated *clip, nv_error *err) {
    clip->x = malloc(g->numbers * sizeof *clip->x);
    if (!clip->x) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a latent of %zu numbers", g->numbers);
    if (g->resumed) return resume(g, clip, err);
    if (g->options->init_noise) return read_noise(g, clip->x, err);
    nv_torch_randn(clip->seed, clip->x, g->numbers);
    return NABLA_OK;
}

/* ------------------------------------------------------------------ pictures */

/* All frames side by side. */
nabla_status nv_generation_preview(const nv_generation *g, int32_t step, nv_error *err) {
    char name[32], path[NV_PATH_SIZE];
    const nv_dit_shape *s = &g->rule.shape;
    const size_t row = (size_t)s->width * 3, frame = row * (size_t)s->height;
    uint8_t *rgb = malloc(frame), *strip = malloc(frame * (size_t)s->frames);
    float *clean = malloc(g->numbers * sizeof *clean);
    nabla_status status = NABLA_OK;
    if (!rgb || !strip || !clean) status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a preview");
    if (status == NABLA_OK) status = nv_denoiser_read_clean(g->denoiser, clean, err);
    for (int32_t f = 0; status == NABLA_OK && f < s->frames; f++) {
        g->pipeline->picture(s, clean, f, rgb);
        for (size_t y = 0; y < (size_t)s->height; y++)
            memcpy(strip + (y * (size_t)s->frames + (size_t)f) * row, rgb + y * row, row);
    }
    snprintf(name, sizeof name, "step-%04d.png", step);
    if (status == NABLA_OK) status = nv_path_join(path, g->current->preview, name, err);
    if (status == NABLA_OK) status = nv_png_write(path, strip, s->width * s->frames, s->height, err);
    free(rgb);
    free(strip);
    free(clean);
    return status;
}

nabla_status nv_generation_mask(const nv_generation *g, const nv_generated *clip, nv_error *err) {
    const nv_dit_config *config = &g->pipeline->config;
    const nabla_plan *plan = nv_dit_run_plan(nv_denoiser_run(g->denoiser), config->layers / 2);
    const int32_t frames = g->rule.shape.frames / config->patch[0]; /* tiles are one frame of tokens deep */
    const nv_mask_view view = {
        .batch = nv_denoiser_entries(g->denoiser), .heads = config->heads, .q_frames = frames, .k_frames = frames};
    return nv_mask_write(g->pipeline->device->context, plan, &view, clip->mask, err);
}

/* ------------------------------------------------------------------ latents and videos */

nabla_status nv_generation_latent(const nv_generation *g, const nv_generated *clip, nv_error *err) {
    const nv_dit_shape *s = &g->rule.shape;
    nv_latent latent = {.shape = {g->pipeline->config.in_channels, s->frames, s->height, s->width},
                        .values = clip->x,
                        .fps = g->media.fps};
    nv_json_copy(latent.prompt, sizeof latent.prompt, clip->prompt);
    nv_json_copy(latent.comment, sizeof latent.comment, clip->comment);
    return nv_latent_write(clip->latent, &latent, err);
}

nabla_status nv_generation_video(nv_generation *g, const nv_generated *clip, nv_error *err) {
    const double start = nv_now();
    nv_media_options media = g->media;
    nv_frames_out *out;
    double written = 0;
    media.title = clip->prompt;
    media.comment = clip->comment;
    NV_TRY(nv_frames_out_open(clip->output, &media, g->machine, &out, err));
    nabla_status status = g->pipeline->ops->frames(g->pipeline, &g->rule.shape, clip->x, nv_frames_out_give, out, err);
    if (status == NABLA_OK)
        status = nv_frames_out_finish(out, &written, err);
    else
        nv_frames_out_abandon(out);
    g->result->write_s += written;
    g->result->decode_s += nv_now() - start - written;
    return status;
}

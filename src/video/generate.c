/* SPDX-License-Identifier: Apache-2.0 */
/* From a prompt to a video file. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "media/media.h"
#include "tensor/random.h"
#include "video/denoise.h"
#include "video/files.h"
#include "video/limits.h"
#include "video/mask.h"
#include "video/report.h"
#include "video/sample_state.h"
#include "video/warning.h"

typedef struct job {
    const nabla_generate_options *options;
    const nabla_video_machine *machine;
    nabla_generate_result *result;
    nv_clip_model model;
    nv_denoise_rule rule;
    nv_denoiser *denoiser;
    nv_st_file *resumed; /* the checkpoint to go on from, or NULL; what its settings say may be pointed to below */
    nv_sample_settings settings;
    const char *checkpoint;  /* to write after steps, or NULL */
    double saved_at, save_s; /* when that was last done, and the time that it took */
    int32_t *ids, *negative; /* word ids */
    float *x;                /* [3, F, H, W]: noise, then the clip */
    nv_media_options media;
    char comment[512];
    nv_denoise_totals totals;
} job;

nabla_generate_options nabla_generate_options_default(void) {
    return (nabla_generate_options){.size = sizeof(nabla_generate_options),
                                    .guidance = -1.0f,
                                    .shift = -1.0f,
                                    .dense_steps = -1,
                                    .crf = -1,
                                    .preview_every = 5};
}

/* ------------------------------------------------------------------ what the options and the model say */

/* The file to go on from, its settings in place of the model's own. */
static nabla_status open_resumed(job *j, nv_error *err) {
    const nabla_generate_options *o = j->options;
    j->checkpoint = o->checkpoint ? o->checkpoint : o->resume;
    if (!o->resume) return o->checkpoint ? nv_sample_state_check_place(o->checkpoint, err) : NABLA_OK;
    NV_TRY(nv_sample_state_open(o->resume, &j->resumed, err));
    nv_sample_state_defaults(j->resumed, &j->model.index, &j->rule.dense_steps);
    return NABLA_OK;
}

/* The text given, else that of the run that goes on, else none. */
static const char *text_of(const job *j, const char *given, const char *key) {
    if (given) return given;
    return j->resumed ? nv_st_metadata(j->resumed, key) : "";
}

static void settle_texts(job *j) {
    const nabla_generate_options *o = j->options;
    nv_sample_settings *s = &j->settings;
    s->rule = &j->rule;
    s->prompt = text_of(j, o->prompt, "prompt");
    s->negative = text_of(j, o->negative, "negative");
    s->noise = text_of(j, o->init_noise, "noise");
    s->policy = j->result->policy;
    s->dtype = j->machine->compute == NABLA_BF16 ? "bf16" : "fp32";
    s->seed = o->seed;
    s->weights = nv_dit_fingerprint(j->model.dit);
}

static nabla_status parse_policy(job *j, nv_error *err) {
    nabla_context *ctx = j->model.device->context;
    const char *text = j->options->policy;
    if (!text) text = j->model.index.policy[0] ? j->model.index.policy : "dense";
    nabla_status status = nabla_policy_parse(ctx, text, &j->rule.policy);
    if (status != NABLA_OK) return nv_fail(err, status, "%s", nabla_context_message(ctx));
    nabla_policy_format(&j->rule.policy, j->result->policy, sizeof j->result->policy);
    return NABLA_OK;
}

static nabla_status check_media(const job *j, nv_error *err) {
    if (j->media.fps < 1 || j->media.fps > NV_MOST_FPS)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d frames a second: choose 1 to %d", j->media.fps, NV_MOST_FPS);
    if (j->media.crf > NV_MOST_CRF)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "crf %d: choose 0 to %d", j->media.crf, NV_MOST_CRF);
    return NABLA_OK;
}

/* Options where given, else the model's own; NaN is kept, for nv_denoise_check to refuse. */
static nabla_status settle(job *j, nv_error *err) {
    const nabla_generate_options *o = j->options;
    const nv_model_index *index = &j->model.index;
    nv_denoise_rule *r = &j->rule;
    r->prompts = 1;
    r->clip.width = o->width ? o->width : index->width;
    r->clip.height = o->height ? o->height : index->height;
    r->clip.frames = o->frames ? o->frames : index->frames;
    r->steps = o->steps ? o->steps : index->steps;
    if (o->dense_steps >= 0) r->dense_steps = o->dense_steps;
    r->solver = o->solver ? o->solver : index->solver;
    r->guidance = o->guidance < 0.0f ? index->guidance : o->guidance;
    r->shift = o->shift < 0.0f ? index->shift : o->shift;
    j->media = (nv_media_options){.width = r->clip.width, .height = r->clip.height, .title = j->settings.prompt};
    j->media.fps = o->fps ? o->fps : index->fps;
    j->media.crf = o->crf < 0 ? 18 : o->crf;
    j->media.comment = j->comment;
    j->media.frames = r->clip.frames;
    NV_TRY(nv_denoise_check(r, err));
    NV_TRY(check_media(j, err));
    return parse_policy(j, err);
}

static void describe(job *j) {
    const nv_denoise_rule *r = &j->rule;
    nabla_generate_result *result = j->result;
    result->width = r->clip.width;
    result->height = r->clip.height;
    result->frames = r->clip.frames;
    result->fps = j->media.fps;
    result->steps = r->steps;
    result->guidance = r->guidance;
    result->shift = r->shift;
    snprintf(result->solver, sizeof result->solver, "%s", r->solver);
    snprintf(j->comment, sizeof j->comment,
             "nabla %s; %dx%d, %d frames; policy %s, %d dense steps; %s, %d steps, shift %g, guidance %g; seed %" PRIu64
             "%s%s",
             nabla_version(), r->clip.width, r->clip.height, r->clip.frames, result->policy, r->dense_steps, r->solver,
             r->steps, (double)r->shift, (double)r->guidance, j->options->seed,
             *j->settings.noise ? "; noise from a file" : "", *j->settings.negative ? "; with a negative prompt" : "");
}

/* ------------------------------------------------------------------ text and noise */

static nabla_status encode(job *j, nv_error *err) {
    char unknown[192] = "";
    int32_t length = nv_words_length(j->model.words);
    j->ids = calloc((size_t)length, sizeof *j->ids);
    j->negative = calloc((size_t)length, sizeof *j->negative);
    if (!j->ids || !j->negative) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %d word ids", length);
    int32_t count = nv_words_encode(j->model.words, j->settings.prompt, j->ids, unknown, sizeof unknown);
    nv_words_encode(j->model.words, j->settings.negative, j->negative, unknown, sizeof unknown);
    char *warning = j->result->warning;
    if (unknown[0])
        nv_warn_of_words(j->model.words, unknown, warning, sizeof j->result->warning);
    else if (count > length)
        snprintf(warning, sizeof j->result->warning, "the prompt has %d words; the model reads the first %d", count,
                 length);
    return NABLA_OK;
}

static nabla_status read_noise(job *j, nv_error *err) {
    const char *path = j->options->init_noise;
    const nv_clip_size *clip = &j->rule.clip;
    nv_st_file *file;
    NV_TRY(nv_st_open(path, &file, err));
    const nv_st_entry *e = nv_st_find(file, "noise");
    nabla_status status;
    if (!e || e->dtype != NV_ST_F32 || e->rank != 4 || e->shape[0] != 3 || e->shape[1] != clip->frames ||
        e->shape[2] != clip->height || e->shape[3] != clip->width)
        status = nv_fail(err, NABLA_CORRUPT,
                         "%s must hold a tensor \"noise\" of fp32 [3, %d, %d, %d], the clip's channels, frames, height "
                         "and width",
                         path, clip->frames, clip->height, clip->width);
    else
        status = nv_st_read_f32(e, j->x, nv_denoiser_clip(j->denoiser), err);
    nv_st_close(file);
    if (status != NABLA_OK) return status;
    for (size_t i = 0; i < nv_denoiser_clip(j->denoiser); i++)
        if (!isfinite(j->x[i]))
            return nv_fail(err, NABLA_CORRUPT, "the noise in %s holds values that are no numbers", path);
    return NABLA_OK;
}

static nabla_status make_noise(job *j, nv_error *err) {
    size_t n = nv_denoiser_clip(j->denoiser);
    j->x = malloc(n * sizeof *j->x);
    if (!j->x) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a clip of %zu numbers", n);
    if (j->resumed) {
        const char *path = j->options->resume;
        return nv_sample_state_read(j->resumed, path, &j->settings, j->denoiser, j->x, &j->totals, err);
    }
    if (j->options->init_noise) return read_noise(j, err);
    nv_torch_randn(j->options->seed, j->x, n);
    return NABLA_OK;
}

/* ------------------------------------------------------------------ pictures on the way */

/* All frames side by side. */
static nabla_status write_preview(const job *j, int32_t step, const float *clean, nv_error *err) {
    char name[32], path[NV_PATH_SIZE];
    const nv_clip_size *clip = &j->rule.clip;
    size_t row = (size_t)clip->width * 3, frame = row * (size_t)clip->height;
    uint8_t *rgb = malloc(frame), *strip = malloc(frame * (size_t)clip->frames);
    nabla_status status = NABLA_OK;
    if (!rgb || !strip) status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a preview");
    for (int32_t f = 0; status == NABLA_OK && f < clip->frames; f++) {
        nv_media_to_rgb(clean, clip->frames, clip->height, clip->width, f, rgb);
        for (size_t y = 0; y < (size_t)clip->height; y++)
            memcpy(strip + (y * (size_t)clip->frames + (size_t)f) * row, rgb + y * row, row);
    }
    snprintf(name, sizeof name, "step-%04d.png", step);
    if (status == NABLA_OK) status = nv_path_join(path, j->options->preview, name, err);
    if (status == NABLA_OK) status = nv_png_write(path, strip, clip->width * clip->frames, clip->height, err);
    free(rgb);
    free(strip);
    return status;
}

/* After a step that `must` be kept, and else as often as writing stays below a twentieth of the time: every step, but
   where steps are short. */
static nabla_status save(job *j, int must, nv_error *err) {
    double start = nv_now();
    if (!j->checkpoint || (!must && start - j->saved_at < 20.0 * j->save_s)) return NABLA_OK;
    NV_TRY(nv_sample_state_write(j->checkpoint, &j->settings, j->denoiser, j->x, &j->totals, err));
    j->saved_at = nv_now();
    j->save_s = j->saved_at - start;
    return NABLA_OK;
}

/* Whether the caller wants to stop. */
static int tell(const job *j, int32_t done) {
    char note[64];
    if (!j->machine->progress) return 0;
    double density = j->totals.density * (double)j->rule.steps / (double)done;
    snprintf(note, sizeof note, "sparsity %.0f %%", 100.0 * nv_sparsity(density));
    return j->machine->progress(j->machine->user, "sample", done, j->rule.steps, note);
}

static nabla_status watch(void *user, int32_t done, const float *clean, nv_error *err) {
    job *j = user;
    const nabla_generate_options *o = j->options;
    int stop = tell(j, done);
    NV_TRY(save(j, stop || done == j->rule.steps, err));
    if (o->preview && o->preview_every > 0 && done % o->preview_every == 0) NV_TRY(write_preview(j, done, clean, err));
    if (!stop) return NABLA_OK;
    if (j->checkpoint)
        return nv_fail(err, NABLA_CANCELLED, "stopped after step %d of %d; resume goes on from %s", done, j->rule.steps,
                       j->checkpoint);
    return nv_fail(err, NABLA_CANCELLED, "stopped after step %d of %d; nothing was written", done, j->rule.steps);
}

/* ------------------------------------------------------------------ files */

static nabla_status write_latent(const job *j, nv_error *err) {
    const nv_clip_size *clip = &j->rule.clip;
    nv_st_entry entry = {.name = "latent", .dtype = NV_ST_F32, .rank = 4, .data = j->x};
    entry.shape[0] = 3;
    entry.shape[1] = clip->frames;
    entry.shape[2] = clip->height;
    entry.shape[3] = clip->width;
    entry.bytes = nv_denoiser_clip(j->denoiser) * sizeof *j->x;
    return nv_st_write(j->options->save_latent, &entry, 1, NULL, 0, err);
}

static nabla_status write_frames(job *j, nv_media_writer *writer, uint8_t *rgb, nv_error *err) {
    const nv_clip_size *clip = &j->rule.clip;
    for (int32_t f = 0; f < clip->frames; f++) {
        double start = nv_now();
        nv_media_to_rgb(j->x, clip->frames, clip->height, clip->width, f, rgb);
        j->result->decode_s += nv_now() - start;
        NV_TRY(nv_media_frame(writer, rgb, err));
    }
    return NABLA_OK;
}

static nabla_status write_video(job *j, nv_error *err) {
    nv_media_writer *writer;
    uint8_t *rgb = malloc((size_t)j->rule.clip.width * (size_t)j->rule.clip.height * 3);
    if (!rgb) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a frame");
    nabla_status status = nv_media_open(j->options->output, &j->media, &writer, err);
    if (status == NABLA_OK) {
        status = write_frames(j, writer, rgb, err);
        if (status == NABLA_OK)
            status = nv_media_finish(writer, err);
        else
            nv_media_abandon(writer);
    }
    free(rgb);
    return status;
}

static nabla_status write_files(job *j, nv_error *err) {
    const nabla_generate_options *o = j->options;
    const nv_dit_config *config = nv_dit_get_config(j->model.dit);
    double start = nv_now();
    if (o->save_latent) NV_TRY(write_latent(j, err));
    if (o->mask_png) {
        const nabla_plan *plan = nv_dit_run_plan(nv_denoiser_run(j->denoiser), config->layers / 2);
        const int32_t frames = j->rule.clip.frames / config->patch[0]; /* tiles are one frame of tokens deep */
        const nv_mask_view view = {
            .batch = nv_denoiser_entries(j->denoiser), .heads = config->heads, .q_frames = frames, .k_frames = frames};
        NV_TRY(nv_mask_write(j->model.device->context, plan, &view, o->mask_png, err));
    }
    if (o->output) NV_TRY(write_video(j, err));
    j->result->write_s = nv_now() - start - j->result->decode_s;
    return NABLA_OK;
}

/* ------------------------------------------------------------------ the whole */

static nabla_status sample(job *j, nv_error *err) {
    nabla_generate_result *result = j->result;
    double start = nv_now();
    result->resumed_steps = j->totals.steps;
    if (j->options->mask_png && j->totals.steps == j->rule.steps)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s has no step left to draw the blocks of: ask for no mask",
                       j->options->resume);
    /* Before the first step too: a place that cannot be written shows before hours of work. */
    NV_TRY(save(j, 1, err));
    NV_TRY(nv_denoise(j->denoiser, j->ids, j->negative, j->x, watch, j, &j->totals, err));
    result->sample_s = nv_now() - start;
    result->sparsity = nv_sparsity(j->totals.density);
    result->plan_s = j->totals.plan_s;
    result->attention_s = j->totals.attention_s;
    result->products_s = j->totals.products_s;
    result->other_s = result->sample_s - result->plan_s - result->attention_s - result->products_s;
    return NABLA_OK;
}

static nabla_status run(job *j, nv_error *err) {
    const nabla_generate_options *o = j->options;
    double start = nv_now();
    if (!o->model) return nv_fail(err, NABLA_INVALID_ARGUMENT, "no model folder: say which model to use");
    if (!o->prompt && !o->resume)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "no prompt: say what the video should show");
    NV_TRY(nv_clip_model_open(o->model, j->machine, 0, &j->model, err));
    NV_TRY(open_resumed(j, err));
    settle_texts(j);
    NV_TRY(settle(j, err));
    describe(j);
    if (o->output) NV_TRY(nv_media_check(o->output, &j->media, err));
    if (o->preview) NV_TRY(nv_folder_make(o->preview, err));
    NV_TRY(nv_denoiser_create(&j->model, &j->rule, &j->denoiser, err));
    double loaded = nv_now();
    j->result->load_s = loaded - start;
    NV_TRY(encode(j, err));
    NV_TRY(make_noise(j, err));
    j->result->text_s = nv_now() - loaded;
    NV_TRY(sample(j, err));
    return write_files(j, err);
}

nabla_status nabla_generate(const nabla_generate_options *options, const nabla_video_machine *machine,
                            nabla_generate_result *result, nabla_video_error *err) {
    nv_error inner = {0};
    nabla_video_machine defaults = nabla_video_machine_default();
    nabla_generate_result ignored = {.size = sizeof ignored};
    job j = {.options = options, .machine = machine ? machine : &defaults, .result = result ? result : &ignored};
    if (j.result->size != sizeof ignored) return nv_report_result_version(err, "nabla_generate_result");
    *j.result = ignored;
    if (options->size != sizeof *options) return nv_report_version(err, "nabla_generate_options");
    if (machine && machine->size != sizeof *machine) return nv_report_version(err, "nabla_video_machine");
    nabla_status status = run(&j, &inner);
    nv_denoiser_destroy(j.denoiser);
    nv_st_close(j.resumed);
    nv_clip_model_close(&j.model);
    free(j.ids);
    free(j.negative);
    free(j.x);
    return nv_report(err, status, &inner);
}

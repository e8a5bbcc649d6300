/* SPDX-License-Identifier: Apache-2.0 */
/* What a generation will be: options where given, else the checkpoint's that it goes on from, else the model's own. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "video/frames_out.h"
#include "video/generation.h"
#include "video/limits.h"
#include "video/warning.h"
#include "weights/json.h"

enum { CRF = 18, WAN_FRAMES = 81 /* that the models were trained for */ };

/* ------------------------------------------------------------------ prompts and files */

static nabla_status name_files(const nv_generation *g, nv_generated *clip, int32_t number, nv_error *err) {
    const nabla_generate_options *o = g->options;
    const char *const state = o->checkpoint ? o->checkpoint : o->resume;
    if (o->output) NV_TRY(nv_path_number(clip->output, o->output, number, err));
    if (o->mask_png) NV_TRY(nv_path_number(clip->mask, o->mask_png, number, err));
    if (o->preview) NV_TRY(nv_path_number(clip->preview, o->preview, number, err));
    if (o->save_latent) NV_TRY(nv_path_number(clip->latent, o->save_latent, number, err));
    if (state) NV_TRY(nv_path_number(clip->state, state, number, err));
    if (!g->pipeline->decodes || !o->output) return NABLA_OK;
    if (!o->save_latent) NV_TRY(nv_path_beside(clip->latent, clip->output, "latent", err));
    return state ? NABLA_OK : nv_path_beside(clip->state, clip->output, "state", err);
}

static nabla_status check_files(const nv_generation *g, const nv_generated *clip, nv_error *err) {
    const struct {
        const char *what, *path;
    } files[] = {{"output", clip->output}, {"latent", clip->latent}, {"checkpoint", clip->state}, {"mask", clip->mask}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        for (size_t k = 0; k < i; k++)
            if (files[i].path[0] && strcmp(files[i].path, files[k].path) == 0)
                return nv_fail(err, NABLA_INVALID_ARGUMENT, "the %s and the %s would both be %.300s: name another",
                               files[k].what, files[i].what, files[i].path);
    if (clip->output[0]) NV_TRY(nv_frames_out_check(clip->output, &g->media, err));
    if (clip->preview[0] && !g->pipeline->picture)
        return nv_fail(err, NABLA_UNSUPPORTED, "latents of %d channels cannot be previewed: leave the preview out",
                       g->pipeline->config.out_channels);
    if (clip->preview[0]) NV_TRY(nv_folder_make(clip->preview, err));
    /* A latent that nobody asked for is removed once it is decoded: one that lies there is another run's work. */
    if (clip->latent[0] && !g->options->save_latent && nv_file_exists(clip->latent))
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "%.300s is there, and this run would keep its latent in it: decode it, or move it away",
                       clip->latent);
    /* Only the run that goes on may be replaced, by itself. */
    const int own = g->resumed && strcmp(clip->state, g->options->resume) == 0;
    return clip->state[0] && !own ? nv_sample_state_check_place(clip->state, err) : NABLA_OK;
}

static nabla_status list_clips(nv_generation *g, nv_error *err) {
    const nabla_generate_options *o = g->options;
    g->count = o->prompts ? o->prompt_count : 1;
    if (g->count < 1 || g->count > NV_MOST_SAMPLES)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d prompts: give 1 to %d", g->count, NV_MOST_SAMPLES);
    if (o->prompts && o->resume)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "a checkpoint is of one prompt: resume it without a list of them");
    g->clips = calloc((size_t)g->count, sizeof *g->clips);
    if (!g->clips) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a list of %d prompts", g->count);
    for (int32_t i = 0; i < g->count; i++) {
        g->clips[i].prompt = o->prompts ? o->prompts[i] : o->prompt ? o->prompt : nv_st_metadata(g->resumed, "prompt");
        g->clips[i].seed = o->seed + (uint64_t)i;
        NV_TRY(name_files(g, &g->clips[i], o->prompts ? i + 1 : 0, err));
    }
    return NABLA_OK;
}

static void warn(nv_generation *g, const char *sentence) {
    nv_warn_also(sentence, g->result->warning, sizeof g->result->warning);
}

/* ------------------------------------------------------------------ what the options and the model say */

/* The file to go on from, its settings in place of the model's own. */
static nabla_status open_resumed(nv_generation *g, nv_error *err) {
    nv_pipeline *p = g->pipeline;
    char note[NV_ORIGIN_NOTE];
    if (!g->options->resume) return NABLA_OK;
    NV_TRY(nv_sample_state_open(g->options->resume, &g->resumed, err));
    NV_TRY(nv_sample_state_go_on(g->resumed, g->options->resume, p->device, note, err));
    warn(g, note);
    nv_sample_state_defaults(g->resumed, &p->index, &g->rule.dense_steps);
    p->policy_from = "the checkpoint";
    return NABLA_OK;
}

/* The text given, else that of the run that goes on, else none. */
static const char *text_of(const nv_generation *g, const char *given, const char *key, const char *otherwise) {
    if (given) return given;
    return g->resumed ? nv_st_metadata(g->resumed, key) : otherwise;
}

static void settle_texts(nv_generation *g) {
    const nabla_generate_options *o = g->options;
    nv_sample_settings *s = &g->settings;
    s->rule = &g->rule;
    s->prompt = g->clips[0].prompt;
    s->negative = text_of(g, o->negative, "negative", g->pipeline->negative);
    s->noise = text_of(g, o->init_noise, "noise", "");
    s->policy = g->result->policy;
    s->dtype = g->machine->compute == NABLA_BF16 ? "bf16" : "fp32";
    s->seed = o->seed;
}

static nabla_status parse_policy(nv_generation *g, nv_error *err) {
    nabla_context *ctx = g->pipeline->device->context;
    const char *given = g->options->policy, *own = g->pipeline->index.policy;
    nabla_policy *policy = &g->rule.policy;
    nabla_status status = nabla_policy_parse(ctx, given ? given : own[0] ? own : "dense", policy);
    if (status != NABLA_OK) return nv_fail(err, status, "%s", nabla_context_message(ctx));
    nabla_policy_format(policy, g->result->policy, sizeof g->result->policy);
    snprintf(g->result->policy_from, sizeof g->result->policy_from, "%s",
             given ? "asked for" : g->pipeline->policy_from);
    if (g->options->dense_steps >= 0)
        g->rule.dense_steps = g->options->dense_steps;
    else if (g->rule.dense_steps < 0) /* no checkpoint says */
        g->rule.dense_steps = policy->has_sta && !policy->has_nabla ? g->pipeline->sta_dense_steps : 0;
    return NABLA_OK;
}

static nabla_status check_media(const nv_generation *g, nv_error *err) {
    if (g->media.fps < 1 || g->media.fps > NV_MOST_FPS)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d frames a second: choose 1 to %d", g->media.fps, NV_MOST_FPS);
    if (g->media.crf > NV_MOST_CRF)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "crf %d: choose 0 to %d", g->media.crf, NV_MOST_CRF);
    return NABLA_OK;
}

/* NaN is kept, for nv_denoise_check to refuse. */
static nabla_status settle_rule(nv_generation *g, nv_error *err) {
    const nabla_generate_options *o = g->options;
    const nv_pipeline *p = g->pipeline;
    const nv_model_index *index = &p->index;
    nv_denoise_rule *r = &g->rule;
    r->prompts = 1;
    r->prediction = p->prediction;
    r->clip.width = o->width ? o->width : index->width;
    r->clip.height = o->height ? o->height : index->height;
    r->clip.frames = o->frames ? o->frames : index->frames;
    r->steps = o->steps ? o->steps : index->steps;
    r->solver = o->solver ? o->solver : index->solver;
    r->guidance = o->guidance < 0.0f ? index->guidance : o->guidance;
    r->shift = o->shift < 0.0f ? nv_pipeline_shift(p, &r->clip) : o->shift;
    g->media = (nv_media_options){.width = r->clip.width, .height = r->clip.height, .frames = r->clip.frames};
    g->media.fps = o->fps ? o->fps : index->fps;
    g->media.crf = o->crf < 0 ? CRF : o->crf;
    NV_TRY(parse_policy(g, err));
    NV_TRY(nv_denoise_check(r, err));
    NV_TRY(check_media(g, err));
    return p->ops->shape(g->pipeline, &r->clip, &r->shape, err);
}

/* ------------------------------------------------------------------ what a caller is told */

static void describe(nv_generation *g) {
    const nv_denoise_rule *r = &g->rule;
    nabla_generate_result *result = g->result;
    result->width = r->clip.width;
    result->height = r->clip.height;
    result->frames = r->clip.frames;
    result->fps = g->media.fps;
    result->steps = r->steps;
    result->dense_steps = r->dense_steps;
    result->guidance = r->guidance;
    result->shift = r->shift;
    snprintf(result->solver, sizeof result->solver, "%s", r->solver);
}

static void warn_of_frames(nv_generation *g) {
    char text[128] = "";
    if (g->pipeline->decodes && g->rule.clip.frames > WAN_FRAMES)
        snprintf(text, sizeof text, "%d frames: these models were trained on %d, and quality drops past them",
                 g->rule.clip.frames, WAN_FRAMES);
    warn(g, text);
}

/* "; what NAME": the last name of a path, as far as it fits. */
static int add_name(char *text, size_t size, const char *what, const char *path) {
    char name[96];
    const char *slash = strrchr(path, '/');
    nv_json_copy(name, sizeof name, slash && slash[1] ? slash + 1 : path);
    return snprintf(text, size, "; %s %s", what, name);
}

void nv_generation_comment(const nv_generation *g, nv_generated *clip) {
    const nv_denoise_rule *r = &g->rule;
    const nabla_generate_options *o = g->options;
    const size_t size = sizeof clip->comment;
    int n = snprintf(clip->comment, size,
                     "nabla %s; %dx%d, %d frames; policy %s, %d dense steps; %s, %d steps, shift %g, guidance %g; seed "
                     "%" PRIu64 "%s%s; density %.3f",
                     nabla_version(), r->clip.width, r->clip.height, r->clip.frames, g->result->policy, r->dense_steps,
                     r->solver, r->steps, (double)r->shift, (double)r->guidance, clip->seed,
                     *g->settings.noise ? "; noise from a file" : "",
                     *g->settings.negative ? "; with a negative prompt" : "", clip->totals.density);
    if (g->pipeline->model) n += add_name(clip->comment + n, size - (size_t)n, "model", g->pipeline->model);
    for (int32_t i = 0; i < o->lora_count && (size_t)n + 128 < size; i++) {
        n += add_name(clip->comment + n, size - (size_t)n, "LoRA", o->loras[i].file);
        n += snprintf(clip->comment + n, size - (size_t)n, " %g", (double)o->loras[i].strength);
    }
}

/* ------------------------------------------------------------------ texts and memory */

static nabla_status read_texts(nv_generation *g, nv_error *err) {
    char warning[256] = "";
    const char **texts = calloc((size_t)g->count + 1, sizeof *texts);
    if (!texts) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a list of %d prompts", g->count);
    for (int32_t i = 0; i < g->count; i++)
        texts[i] = g->clips[i].prompt;
    texts[g->count] = g->settings.negative;
    nabla_status status = g->pipeline->ops->read_texts(g->pipeline, texts, g->count + 1, warning, sizeof warning, err);
    free(texts);
    warn(g, warning);
    return status;
}

/* Where the transformer's blocks will be: on the device where they fit beside `held`, else with the host, which is
   said. remedy: what to do if that is too much too. */
static nabla_status place_blocks(nv_generation *g, size_t held, nv_dit_needs *needs, char *remedy, size_t size,
                                 nv_error *err) {
    nv_pipeline *p = g->pipeline;
    nv_dit_needs all = {0};
    char warning[256];
    nv_device_memory memory;
    snprintf(remedy, size, "choose a smaller size or fewer frames");
    if (!g->options->offload)
        NV_TRY(nv_denoise_memory(p->device, &p->config, g->machine->compute, NV_DIT_INFER, &g->rule, &all, err));
    *needs = all;
    p->device->ops->memory(p->device, &memory);
    const int fits = memory.available == 0 || (double)(all.model + all.run + held) <= memory.available;
    const int can = p->offloads && nv_dit_check_offload(p->device, g->options->offload ? err : NULL) == NABLA_OK;
    if (g->options->offload && !can) return NABLA_UNSUPPORTED;
    if (!g->options->offload && (fits || !can)) return NABLA_OK;
    p->use = NV_DIT_OFFLOAD;
    g->rule.replay = NV_REPLAY_NEVER; /* each step copies its weights */
    NV_TRY(nv_denoise_memory(p->device, &p->config, g->machine->compute, p->use, &g->rule, needs, err));
    g->result->offloaded_memory = (double)needs->host;
    if (g->options->offload) return NABLA_OK;
    snprintf(
        warning, sizeof warning,
        "sampling with all weights on the GPU needs %.1f GB and %.1f GB is available: those of the blocks, %.1f GB, "
        "stay in the host's memory",
        (double)(all.model + all.run + held) / 1e9, memory.available / 1e9, (double)needs->host / 1e9);
    warn(g, warning);
    snprintf(remedy, size,
             "that is with the blocks' weights in the host's memory already; choose a smaller size or fewer "
             "frames");
    return NABLA_OK;
}

/* One part after the other, with the contexts and latents that are held throughout. */
static nabla_status check_memory(nv_generation *g, nv_error *err) {
    nv_pipeline *p = g->pipeline;
    const nv_dit_shape *s = &g->rule.shape;
    nv_pipeline_memory parts;
    nv_dit_needs needs;
    size_t contexts = 0, held = 0;
    char warning[256] = "", remedy[128];
    g->numbers = g->context = 0;
    NV_TRY(nv_memory_add(&g->numbers, 1, p->config.in_channels, s->frames, s->height, s->width, err));
    NV_TRY(nv_memory_add(&g->context, 1, s->text_length, p->config.text_dim, 1, 1, err));
    NV_TRY(nv_memory_add(&contexts, sizeof(float), g->count + 1, (int64_t)g->context, 1, 1, err));
    NV_TRY(nv_memory_add(&held, sizeof(float), g->count, (int64_t)g->numbers, 1, 1, err));
    const char *path = g->clips[0].output;
    const size_t out = path[0] ? nv_frames_out_memory(path, &g->media, p->device) : 0;
    NV_TRY(p->ops->memory(p, s, held + out, &parts, warning, sizeof warning, err));
    warn(g, warning);
    NV_TRY(place_blocks(g, contexts + held, &needs, remedy, sizeof remedy, err));
    const size_t text = parts.text + contexts, sample = needs.model + needs.run + contexts + held;
    const size_t decode = parts.decoder + held + out;
    g->result->text_memory = (double)text;
    g->result->sample_memory = (double)sample;
    g->result->decode_memory = (double)decode;
    NV_TRY(nv_memory_check(p->device, text, "the text encoder", "free some, or compute in bf16", err));
    NV_TRY(nv_memory_check(p->device, sample, "sampling", remedy, err));
    if (needs.host > 0)
        NV_TRY(nv_memory_check(NULL, needs.host, "keeping blocks' weights beside the GPU",
                               "free some, or use a GPU that holds them", err));
    NV_TRY(nv_memory_check(p->device, decode, "decoding", "choose a smaller size or fewer frames", err));
    return path[0] ? nv_frames_out_room(path, &g->media, p->device, err) : NABLA_OK;
}

static nabla_status check_options(const nabla_generate_options *o, nv_error *err) {
    if (!o->model && !o->transformer)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "no model folder: say which model to use");
    if (!o->prompt && !o->prompts && !o->resume)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "no prompt: say what the video should show");
    for (int32_t i = 0; o->prompts && i < o->prompt_count; i++)
        if (!o->prompts[i]) return nv_fail(err, NABLA_INVALID_ARGUMENT, "prompt %d of the list is missing", i + 1);
    if (o->lora_count < 0 || (o->lora_count > 0 && !o->loras))
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d LoRA files, and no list of them", o->lora_count);
    for (int32_t i = 0; i < o->lora_count; i++)
        if (!o->loras[i].file || !isfinite(o->loras[i].strength))
            return nv_fail(err, NABLA_INVALID_ARGUMENT, "LoRA %d has no file, or a strength that is no number", i + 1);
    return NABLA_OK;
}

nabla_status nv_generation_settle(nv_generation *g, nv_error *err) {
    const nabla_generate_options *o = g->options;
    NV_TRY(check_options(o, err));
    g->rule.dense_steps = -1;
    NV_TRY(nv_pipeline_open(o, g->machine, &g->pipeline, err));
    NV_TRY(open_resumed(g, err));
    NV_TRY(list_clips(g, err));
    NV_TRY(settle_rule(g, err));
    settle_texts(g);
    describe(g);
    for (int32_t i = 0; i < g->count; i++)
        NV_TRY(check_files(g, &g->clips[i], err));
    if (g->resumed) NV_TRY(nv_sample_state_check(g->resumed, o->resume, &g->settings, err));
    NV_TRY(nv_generation_check_noise(g, err));
    warn_of_frames(g);
    NV_TRY(read_texts(g, err));
    return check_memory(g, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A model of ours, whose latents are clips: small, so that it is loaded whole when it is opened. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "media/media.h"
#include "tensor/hash.h"
#include "video/model.h"
#include "video/pipeline.h"
#include "video/warning.h"

typedef struct pixel_pipeline {
    nv_pipeline base;
    nv_clip_model model;
    int32_t *ids; /* [texts, words] */
    int32_t texts;
} pixel_pipeline;

static pixel_pipeline *of(nv_pipeline *p) {
    return (pixel_pipeline *)(void *)p;
}

static nabla_status shape(nv_pipeline *p, const nv_clip_size *clip, nv_dit_shape *out, nv_error *err) {
    return nv_clip_model_shape(&of(p)->model, 1, clip, 0, out, err);
}

static nabla_status read_texts(nv_pipeline *p, const char *const *texts, int32_t count, char *warning, size_t size,
                               nv_error *err) {
    pixel_pipeline *pixel = of(p);
    const nv_words *words = pixel->model.words;
    const int32_t length = nv_words_length(words);
    char unknown[192] = "";
    int32_t longest = 0;
    pixel->texts = count;
    pixel->ids = calloc((size_t)count * (size_t)length, sizeof *pixel->ids);
    if (!pixel->ids) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %d word ids", length);
    for (int32_t i = 0; i < count; i++) {
        const int32_t found =
            nv_words_encode(words, texts[i], pixel->ids + (size_t)i * (size_t)length, unknown, sizeof unknown);
        if (found > longest) longest = found;
    }
    if (unknown[0])
        nv_warn_of_words(words, unknown, warning, size);
    else if (longest > length)
        snprintf(warning, size, "the prompt has %d words; the model reads the first %d", longest, length);
    return NABLA_OK;
}

/* Nothing that is not counted with the latents. */
static nabla_status memory(nv_pipeline *p, const nv_dit_shape *latent, size_t more, nv_pipeline_memory *out,
                           char *warning, size_t size, nv_error *err) {
    (void)p;
    (void)latent;
    (void)more;
    (void)warning;
    (void)size;
    (void)err;
    *out = (nv_pipeline_memory){0};
    return NABLA_OK;
}

/* They are rows of the table that makes them, and tell it apart where it matters. */
static nabla_status contexts(nv_pipeline *p, float *out, uint64_t *fingerprint, nv_error *err) {
    const pixel_pipeline *pixel = of(p);
    const size_t numbers = (size_t)nv_words_length(pixel->model.words) * (size_t)p->config.text_dim;
    NV_TRY(nv_clip_model_contexts(&of(p)->model, pixel->ids, pixel->texts, out, err));
    *fingerprint = nv_hash(NV_HASH_BEGIN, out, (size_t)pixel->texts * numbers * sizeof *out);
    return NABLA_OK;
}

static nabla_status load(nv_pipeline *p, nv_error *err) {
    (void)err;
    p->dit = of(p)->model.dit;
    of(p)->model.dit = NULL;
    return NABLA_OK;
}

static nabla_status frames(nv_pipeline *p, const nv_dit_shape *s, const float *latent, nv_vae_frame give, void *user,
                           nv_error *err) {
    const size_t area = (size_t)s->height * (size_t)s->width, plane = area * (size_t)s->frames;
    float *planes = malloc(3 * area * sizeof *planes);
    nabla_status status = planes ? NABLA_OK : nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a frame");
    (void)p;
    for (int32_t f = 0; f < s->frames && status == NABLA_OK; f++) {
        for (size_t c = 0; c < 3; c++)
            memcpy(planes + c * area, latent + c * plane + (size_t)f * area, area * sizeof *planes);
        status = give(user, f, planes, err);
    }
    free(planes);
    return status;
}

static void picture(const nv_dit_shape *s, const float *latent, int32_t frame, uint8_t *rgb) {
    nv_media_to_rgb(latent, s->frames, s->height, s->width, frame, rgb);
}

static void close(nv_pipeline *p) {
    nv_clip_model_close(&of(p)->model);
    free(of(p)->ids);
    free(p);
}

static const nv_pipeline_ops ops = {.shape = shape,
                                    .read_texts = read_texts,
                                    .memory = memory,
                                    .contexts = contexts,
                                    .load = load,
                                    .frames = frames,
                                    .close = close};

nabla_status nv_pixel_pipeline_open(const nabla_generate_options *o, const nabla_video_machine *machine,
                                    nv_pipeline **out, nv_error *err) {
    if (o->transformer || o->text_encoder || o->vae || o->lora_count > 0)
        return nv_fail(
            err, NABLA_UNSUPPORTED,
            "%.300s was written by `nabla train`: files in place of its parts and LoRA are for Wan2.1 models",
            o->model);
    if (o->offload)
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "%.300s was written by `nabla train` and is loaded as a whole: offloading is for Wan2.1 models",
                       o->model);
    pixel_pipeline *p = calloc(1, sizeof *p);
    if (!p) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a model");
    nabla_status status = nv_clip_model_open(o->model, machine, 0, &p->model, err);
    if (status != NABLA_OK) {
        free(p);
        return status;
    }
    p->base = (nv_pipeline){.ops = &ops,
                            .machine = machine,
                            .device = p->model.device,
                            .index = p->model.index,
                            .negative = "",
                            .policy_from = "the model's own",
                            .config = *nv_dit_get_config(p->model.dit),
                            .prediction = p->model.prediction,
                            .picture = picture};
    *out = &p->base;
    return NABLA_OK;
}

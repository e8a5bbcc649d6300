/* SPDX-License-Identifier: Apache-2.0 */
/* A Wan2.1 text-to-video model: UMT5, transformer and VAE, of a folder or of files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "video/decoder.h"
#include "video/latent_rgb.h"
#include "video/machine.h"
#include "video/pipeline.h"
#include "video/text_encoder.h"

/* The original's own (wan/configs/shared_config.py): what its authors sample against. */
static const char default_negative[] =
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画"
    "面，"
    "杂乱的背景，三条腿，背景人很多，倒着走";

static const nv_model_index defaults = {.kind = "WanPipeline",
                                        .width = 832,
                                        .height = 480,
                                        .frames = 81,
                                        .fps = 16,
                                        .prediction = "velocity",
                                        .guidance = 5.0f,
                                        .steps = 50,
                                        .solver = "unipc"};

enum { STA_DENSE_STEPS = 12 /* of the NABLA reference, for windows alone */ };

typedef struct wan_pipeline {
    nv_pipeline base;
    nv_wan_folder folder;
    nv_weights *transformer; /* mapped until it is loaded */
    nv_dit_names names;
    nv_text_encoder encoder; /* mapped until the texts are encoded */
    nv_tokens *tokens;       /* [texts] */
    int32_t texts;
    nv_decoder decoder;
    nv_weights **lora_files; /* [lora_count], mapped */
    const nabla_lora *loras;
    int32_t lora_count;
} wan_pipeline;

static wan_pipeline *of(nv_pipeline *p) {
    return (wan_pipeline *)(void *)p;
}

static nabla_status shape(nv_pipeline *p, const nv_clip_size *clip, nv_dit_shape *out, nv_error *err) {
    const nv_vae_config *vae = &of(p)->decoder.config;
    return nv_wan_shape(&p->config, nv_vae_space_factor(vae), nv_vae_time_factor(vae), clip, out, err);
}

/* ------------------------------------------------------------------ text */

static nabla_status read_texts(nv_pipeline *p, const char *const *texts, int32_t count, char *warning, size_t size,
                               nv_error *err) {
    wan_pipeline *w = of(p);
    w->texts = count;
    w->tokens = calloc((size_t)count, sizeof *w->tokens);
    if (!w->tokens) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the tokens of %d prompts", count);
    for (int32_t i = 0; i < count; i++) {
        NV_TRY(nv_tokenize(w->encoder.tokenizer, texts[i], &w->tokens[i], NULL, err));
        if (!warning[0]) nv_text_encoder_warn(&w->tokens[i], warning, size);
    }
    return NABLA_OK;
}

/* Each text's true tokens go to the first of its rows; the rest stays zero, which is what the models were trained to
   see behind them. */
static nv_umt5_text *list_texts(const wan_pipeline *w, float *out) {
    const size_t row = (size_t)nv_umt5_get_config(w->encoder.umt5)->dim;
    nv_umt5_text *list = calloc((size_t)w->texts, sizeof *list);
    for (int32_t i = 0; list && i < w->texts; i++)
        list[i] =
            (nv_umt5_text){w->tokens[i].ids, w->tokens[i].count, out ? out + (size_t)i * NV_TEXT_LENGTH * row : NULL};
    return list;
}

static int tell_layer(void *user, int32_t layer, int32_t layers) {
    return nv_pipeline_tell(user, "text", layer, layers, "");
}

static nabla_status text_memory(wan_pipeline *w, size_t *bytes, nv_error *err) {
    nv_umt5_text *list = list_texts(w, NULL);
    const nv_umt5_job job = {.texts = list, .count = w->texts, .compute = w->base.machine->compute};
    nabla_status status = list ? nv_umt5_memory(w->encoder.umt5, w->base.device, &job, bytes, err)
                               : nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a list of prompts");
    free(list);
    return status;
}

/* The encoder's bits differ with the number of threads: its weights are told apart, not what they give. */
static nabla_status contexts(nv_pipeline *p, float *out, uint64_t *fingerprint, nv_error *err) {
    wan_pipeline *w = of(p);
    const int32_t layers = nv_umt5_get_config(w->encoder.umt5)->layers;
    nv_umt5_text *list = list_texts(w, out);
    if (!list) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a list of prompts");
    memset(out, 0, (size_t)w->texts * NV_TEXT_LENGTH * (size_t)p->config.text_dim * sizeof *out);
    const nv_umt5_job job = {
        .texts = list, .count = w->texts, .compute = p->machine->compute, .progress = tell_layer, .user = p};
    nabla_status status = nv_umt5_encode(w->encoder.umt5, p->device, &job, err);
    if (status == NABLA_OK) status = nv_umt5_fingerprint(w->encoder.umt5, fingerprint, err);
    free(list);
    nv_text_encoder_close(&w->encoder);
    if (status == NABLA_OK) nv_pipeline_tell(p, "text", layers, layers, "");
    return status;
}

/* ------------------------------------------------------------------ the transformer */

static int tell_tensor(void *user, int32_t done, int32_t total) {
    return nv_pipeline_tell(user, "load", done, total, "");
}

static nabla_status merge_loras(wan_pipeline *w, nv_error *err) {
    nv_dit_lora *list = calloc((size_t)w->lora_count + 1, sizeof *list);
    if (!list) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a list of LoRA files");
    for (int32_t i = 0; i < w->lora_count; i++)
        list[i] = (nv_dit_lora){w->lora_files[i], w->loras[i].strength};
    const nabla_status status = nv_dit_merge_loras(w->base.dit, list, w->lora_count, err);
    free(list);
    return status;
}

static nabla_status load(nv_pipeline *p, nv_error *err) {
    wan_pipeline *w = of(p);
    NV_TRY(nv_dit_create(p->device, &p->config, p->machine->compute, p->use, &p->dit, err));
    NV_TRY(nv_dit_load(p->dit, w->transformer, &w->names, tell_tensor, p, err));
    NV_TRY(merge_loras(w, err));
    nv_weights_close(w->transformer);
    w->transformer = NULL;
    return NABLA_OK;
}

/* ------------------------------------------------------------------ the VAE */

static nabla_status memory(nv_pipeline *p, const nv_dit_shape *s, size_t more, nv_pipeline_memory *out, char *warning,
                           size_t size, nv_error *err) {
    wan_pipeline *w = of(p);
    NV_TRY(text_memory(w, &out->text, err));
    NV_TRY(nv_decoder_plan(&w->decoder, s->frames, s->height, s->width, 0, more, warning, size, err));
    out->decoder = w->decoder.weights + w->decoder.decoding;
    return NABLA_OK;
}

static nabla_status frames(nv_pipeline *p, const nv_dit_shape *s, const float *latent, nv_vae_frame give, void *user,
                           nv_error *err) {
    wan_pipeline *w = of(p);
    (void)s; /* planned for it */
    if (!w->decoder.vae) NV_TRY(nv_decoder_load(&w->decoder, err));
    return nv_decoder_run(&w->decoder, latent, give, user, err);
}

/* ------------------------------------------------------------------ opening */

/* The folder's parts, and in their place the files that are named. */
static nabla_status find_files(wan_pipeline *w, const nabla_generate_options *o, nv_error *err) {
    nv_wan_folder *f = &w->folder;
    if (o->transformer) {
        NV_TRY(nv_wan_find(o->transformer, f, err));
        if (o->model && !nv_file_exists(o->model))
            return nv_fail(err, NABLA_IO, "the model %.300s does not exist: check --model", o->model);
        if (o->model) nv_wan_find_parts(o->model, &f->parts);
    } else {
        NV_TRY(nv_wan_find(o->model, f, err));
    }
    if (o->text_encoder) {
        f->parts.text_config[0] = '\0';
        NV_TRY(nv_path_set(f->parts.text_encoder, o->text_encoder, err));
    }
    if (!o->vae) return NABLA_OK;
    nv_wan_parts vae;
    NV_TRY(nv_vae_find(o->vae, "--vae", &vae, err));
    memcpy(f->parts.vae, vae.vae, sizeof vae.vae);
    memcpy(f->parts.vae_config, vae.vae_config, sizeof vae.vae_config);
    return NABLA_OK;
}

static nabla_status check_parts(const wan_pipeline *w, const char *model, nv_error *err) {
    const nv_wan_parts *parts = &w->folder.parts;
    char missing[512] = "";
    size_t n = 0;
    if (!parts->text_encoder[0])
        n += (size_t)snprintf(missing + n, sizeof missing - n,
                              "a text encoder (text_encoder/ or models_t5_umt5-xxl-enc-bf16.pth; --text-encoder)");
    if (!parts->vae[0])
        n += (size_t)snprintf(missing + n, sizeof missing - n, "%sa VAE (vae/ or Wan2.1_VAE.pth; --vae)",
                              n ? " and " : "");
    return n ? nv_fail(err, NABLA_IO, "%.100s lacks %s: download it, or name files from elsewhere", model, missing)
             : NABLA_OK;
}

/* Parts of different models would run and show noise, or fail after hours. */
static nabla_status check_match(const wan_pipeline *w, nv_error *err) {
    const nv_dit_config *c = &w->base.config;
    const int32_t text = nv_umt5_get_config(w->encoder.umt5)->dim, z = w->decoder.config.z_dim;
    if (text != c->text_dim)
        return nv_fail(err, NABLA_CORRUPT,
                       "the transformer reads contexts of %d numbers, the text encoder %.200s makes %d: they are of "
                       "different models",
                       c->text_dim, w->folder.parts.text_encoder, text);
    if (c->in_channels != z || c->out_channels != z)
        return nv_fail(err, NABLA_CORRUPT,
                       "the transformer has latents of %d channels in and %d out, the VAE %.200s of %d: they are of "
                       "different models",
                       c->in_channels, c->out_channels, w->folder.parts.vae, z);
    return NABLA_OK;
}

static nabla_status open_loras(wan_pipeline *w, const nabla_generate_options *o, nv_error *err) {
    w->loras = o->loras;
    w->lora_files = calloc((size_t)o->lora_count + 1, sizeof(nv_weights *));
    if (!w->lora_files) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a list of LoRA files");
    for (int32_t i = 0; i < o->lora_count; i++) {
        NV_TRY(nv_weights_open(o->loras[i].file, &w->lora_files[i], err));
        w->lora_count++;
    }
    return nv_dit_check_loras(&w->base.config, (const nv_weights *const *)w->lora_files, w->lora_count, err);
}

static nabla_status open_parts(wan_pipeline *w, const nabla_generate_options *o, nv_error *err) {
    nv_pipeline *p = &w->base;
    const char *model = o->transformer ? o->transformer : o->model;
    NV_TRY(find_files(w, o, err));
    NV_TRY(check_parts(w, model, err));
    NV_TRY(nv_wan_open_transformer(&w->folder, &w->transformer, &w->names, &p->config, err));
    NV_TRY(nv_dit_check(&p->config, w->transformer, &w->names, err));
    NV_TRY(nv_text_encoder_open(&w->folder.parts, o->model, &w->encoder, err));
    NV_TRY(nv_machine_open(p->machine, &p->device, err));
    NV_TRY(nv_decoder_open(&w->folder.parts, p->device, p->machine, NABLA_FP32, &w->decoder, err));
    NV_TRY(check_match(w, err));
    NV_TRY(open_loras(w, o, err));
    p->index = defaults;
    memcpy(p->index.policy, w->folder.policy, sizeof p->index.policy);
    p->policy_from = w->folder.policy[0] ? w->folder.policy_from : "nothing tells another";
    p->model = model;
    return NABLA_OK;
}

static void close(nv_pipeline *p) {
    wan_pipeline *w = of(p);
    nv_decoder_close(&w->decoder);
    nv_text_encoder_close(&w->encoder);
    nv_weights_close(w->transformer);
    for (int32_t i = 0; i < w->lora_count; i++)
        nv_weights_close(w->lora_files[i]);
    free(w->lora_files);
    free(w->tokens);
    nv_device_destroy(p->device);
    free(w);
}

static const nv_pipeline_ops ops = {.shape = shape,
                                    .read_texts = read_texts,
                                    .memory = memory,
                                    .contexts = contexts,
                                    .load = load,
                                    .frames = frames,
                                    .close = close};

nabla_status nv_wan_pipeline_open(const nabla_generate_options *o, const nabla_video_machine *machine,
                                  nv_pipeline **out, nv_error *err) {
    wan_pipeline *w = calloc(1, sizeof *w);
    if (!w) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a model");
    w->base = (nv_pipeline){.ops = &ops,
                            .machine = machine,
                            .negative = default_negative,
                            .sta_dense_steps = STA_DENSE_STEPS,
                            .decodes = 1,
                            .offloads = 1,
                            .prediction = NV_PREDICT_VELOCITY};
    const nabla_status status = open_parts(w, o, err);
    if (status != NABLA_OK) {
        close(&w->base);
        return status;
    }
    if (w->base.config.out_channels == NV_LATENT_RGB_CHANNELS) w->base.picture = nv_latent_rgb;
    *out = &w->base;
    return NABLA_OK;
}

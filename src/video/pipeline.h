/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What generation needs of a model, whatever kind it is: contexts for prompts, a latent's shape for a clip's size, a
 * transformer, and frames for a latent. Opening one reads names and configurations; a part's weights are loaded when
 * the part is asked for and released when it is done, so that the largest part decides the memory, not their sum. Two
 * kinds: models that work on pixels, as `nabla train` writes them (pixel_pipeline.c), and Wan2.1's (wan_pipeline.c).
 */
#ifndef NV_PIPELINE_H
#define NV_PIPELINE_H

#include "dit/lora.h"
#include "nabla/video.h"
#include "train/flow.h"
#include "train/source.h"
#include "vae/vae.h"
#include "weights/config.h"

typedef struct nv_pipeline nv_pipeline;

/* Bytes that each part takes while it is there. */
typedef struct nv_pipeline_memory {
    size_t text;    /* the encoder at work */
    size_t decoder; /* the decoder's weights and its work on one clip */
} nv_pipeline_memory;

typedef struct nv_pipeline_ops {
    /* The latent of one clip; a size that does not fit is refused with the nearest that does. */
    nabla_status (*shape)(nv_pipeline *p, const nv_clip_size *clip, nv_dit_shape *shape, nv_error *err);
    /* Keeps what the texts are made of until they are encoded. warning: what is lost of them, "" if nothing. */
    nabla_status (*read_texts)(nv_pipeline *p, const char *const *texts, int32_t count, char *warning, size_t size,
                               nv_error *err);
    /* more: bytes that are held beside the decoder, which works in tiles where they and whole frames do not fit. */
    nabla_status (*memory)(nv_pipeline *p, const nv_dit_shape *shape, size_t more, nv_pipeline_memory *out,
                           char *warning, size_t size, nv_error *err);
    /* Of the texts that were read: [count, text_length, text_dim]; fingerprint: a hash of what made them. */
    nabla_status (*contexts)(nv_pipeline *p, float *out, uint64_t *fingerprint, nv_error *err);
    nabla_status (*load)(nv_pipeline *p, nv_error *err); /* the transformer, as p->dit */
    /* The clip that a latent [channels, frames, height, width] shows, frame by frame, planes [3, height, width]. */
    nabla_status (*frames)(nv_pipeline *p, const nv_dit_shape *shape, const float *latent, nv_vae_frame give,
                           void *user, nv_error *err);
    void (*close)(nv_pipeline *p);
} nv_pipeline_ops;

struct nv_pipeline {
    const nv_pipeline_ops *ops;
    const nabla_video_machine *machine;
    nv_device *device;
    nv_model_index index;    /* how the model wants to be used; shift 0: it depends on the size (nv_pipeline_shift) */
    const char *negative;    /* its own negative prompt */
    const char *policy_from; /* where index.policy was told */
    const char *model;       /* its path, for the metadata of what it makes */
    int32_t sta_dense_steps; /* first steps that a policy of windows alone leaves dense */
    int32_t decodes;         /* 1: frames are the work of a decoder, minutes or hours, so that latents are kept */
    nv_dit_config config;
    nv_prediction prediction;
    /* A quick view of a latent's frame, a pixel a latent's pixel [height, width, 3]; NULL: there is none. */
    void (*picture)(const nv_dit_shape *shape, const float *latent, int32_t frame, uint8_t *rgb);
    int32_t offloads; /* 1: `load` can leave the weights of blocks with the host */
    nv_dit_use use;   /* how `load` makes the transformer */
    nv_dit *dit;      /* NULL but between load and nv_pipeline_unload */
};

/* The model of options->model and of the files in place of its parts. */
nabla_status nv_pipeline_open(const nabla_generate_options *options, const nabla_video_machine *machine,
                              nv_pipeline **out, nv_error *err);
void nv_pipeline_close(nv_pipeline *p); /* NULL is fine */
/* Frees the transformer and its attention's scratch, for what comes after it. */
void nv_pipeline_unload(nv_pipeline *p);

float nv_pipeline_shift(const nv_pipeline *p, const nv_clip_size *clip);
/* Tells the caller how far a phase is; non-zero: it wants to stop. */
int nv_pipeline_tell(const nv_pipeline *p, const char *phase, int64_t done, int64_t total, const char *note);

nabla_status nv_pixel_pipeline_open(const nabla_generate_options *options, const nabla_video_machine *machine,
                                    nv_pipeline **out, nv_error *err);
nabla_status nv_wan_pipeline_open(const nabla_generate_options *options, const nabla_video_machine *machine,
                                  nv_pipeline **out, nv_error *err);

#endif

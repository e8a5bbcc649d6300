/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Wan2.1 text-to-video model as people have it: a folder as downloaded, of diffusers (model_index.json, transformer/,
 * text_encoder/, tokenizer/, vae/) or of the original (config.json, diffusion_pytorch_model*.safetensors,
 * models_t5_umt5-xxl-enc-bf16.pth, Wan2.1_VAE.pth, google/umt5-xxl/), a folder of the transformer alone, or its file.
 */
#ifndef NV_WAN_FOLDER_H
#define NV_WAN_FOLDER_H

#include "dit/dit.h"
#include "nabla/video.h"
#include "train/source.h"
#include "video/files.h"

/* Where the parts beside the transformer lie; "" where one is missing. */
typedef struct nv_wan_parts {
    char text_encoder[NV_PATH_SIZE], text_config[NV_PATH_SIZE]; /* its weights; its config.json, which may be missing */
    char tokenizer[NV_PATH_SIZE];                               /* spiece.model */
    char vae[NV_PATH_SIZE], vae_config[NV_PATH_SIZE];           /* as the text encoder's */
} nv_wan_parts;

/* The parts in a folder of either layout. Of a part that is there twice, a .safetensors is taken before a .pth. */
void nv_wan_find_parts(const char *folder, nv_wan_parts *out);

typedef struct nv_wan_folder {
    char transformer[NV_PATH_SIZE]; /* for nv_weights_open */
    char config[NV_PATH_SIZE];      /* the transformer's config.json; "": sizes come from shapes */
    nv_wan_parts parts;
    char policy[96];         /* that the model was tuned for, in nabla_policy_parse's grammar; "": none is told */
    const char *policy_from; /* where it was told, for the sentence that says so */
} nv_wan_folder;

/* Looks at names and configurations alone. Other kinds (image-to-video, VACE, Wan2.2 with its two transformers, GGUF)
   are NABLA_UNSUPPORTED and named, as is a folder that `nabla train` wrote. */
nabla_status nv_wan_find(const char *path, nv_wan_folder *out, nv_error *err);

/* Its transformer, opened and recognised; the configuration is its file's, else the shapes'. */
nabla_status nv_wan_open_transformer(const nv_wan_folder *folder, nv_weights **w, nv_dit_names *names,
                                     nv_dit_config *config, nv_error *err);

/* What a VAE makes of a latent: pixels a side of a latent's pixel, frames of each latent frame after the first.
   Wan2.1's are these. */
enum { NV_WAN_SPACE = 8, NV_WAN_TIME = 4 };

/* The latent's shape, of one clip, for a clip's size in pixels. A size that the strides and the patch do not divide is
   NABLA_INVALID_ARGUMENT, with the nearest that they do. */
nabla_status nv_wan_shape(const nv_dit_config *config, int32_t space, int32_t time, const nv_clip_size *clip,
                          nv_dit_shape *shape, nv_error *err);

typedef struct nv_wan_facts {
    nv_dit_names names;
    nv_dit_config config;
    int64_t parameters, files;
    double bytes;    /* of the transformer's tensors in their files */
    char dtypes[64]; /* theirs, "BF16, F32" */
    int32_t sized;   /* 1: the memory of a run is told below */
    size_t model_memory, run_memory;
    size_t offloaded_memory, host_memory; /* the model's on a GPU and on the host, where blocks are offloaded */
} nv_wan_facts;

/* What the transformer is, every name and shape checked, and the memory that it and one forward pass over a video of
   that size take on that machine. A size that does not fit is not an error: `sized` is 0. */
nabla_status nv_wan_describe(const nv_wan_folder *folder, const nv_clip_size *clip, const nabla_video_machine *machine,
                             nv_wan_facts *out, nv_error *err);

/* "...-NABLA-0.6-STA-11-3-3" -> "nabla-0.6_sta-11-3-3"; 0 if the name tells none. */
int nv_wan_policy_of_name(const char *name, char *policy, size_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Wan2.1 text-to-video model as people have it: a folder as downloaded, of diffusers (model_index.json, transformer/,
 * text_encoder/, tokenizer/, vae/) or of the original (config.json, diffusion_pytorch_model*.safetensors,
 * models_t5_umt5-xxl-enc-bf16.pth, Wan2.1_VAE.pth, google/umt5-xxl/), a folder of the transformer alone, or its file.
 */
#ifndef NV_WAN_FOLDER_H
#define NV_WAN_FOLDER_H

#include "dit/names.h"
#include "video/files.h"

typedef struct nv_wan_folder {
    char transformer[NV_PATH_SIZE]; /* for nv_weights_open; the parts below are "" where they are missing */
    char config[NV_PATH_SIZE];      /* the transformer's config.json; "": sizes come from shapes */
    char text_encoder[NV_PATH_SIZE], tokenizer[NV_PATH_SIZE], vae[NV_PATH_SIZE];
    char policy[96];         /* that the model was tuned for, in nabla_policy_parse's grammar; "": none is told */
    const char *policy_from; /* where it was told, for the sentence that says so */
} nv_wan_folder;

/* Looks at names and configurations alone. Other kinds (image-to-video, VACE, Wan2.2 with its two transformers, GGUF)
   are NABLA_UNSUPPORTED and named, as is a folder that `nabla train` wrote. */
nabla_status nv_wan_find(const char *path, nv_wan_folder *out, nv_error *err);

/* Its transformer, opened and recognised; the configuration is its file's, else the shapes'. */
nabla_status nv_wan_open_transformer(const nv_wan_folder *folder, nv_weights **w, nv_dit_names *names,
                                     nv_dit_config *config, nv_error *err);

typedef struct nv_wan_facts {
    nv_dit_names names;
    nv_dit_config config;
    int64_t parameters, files;
    double bytes;    /* of the transformer's tensors in their files */
    char dtypes[64]; /* theirs, "BF16, F32" */
    int32_t sized;   /* 1: the memory of a run is told below */
    size_t model_memory, run_memory;
} nv_wan_facts;

/* What the transformer is, every name and shape checked, and the memory that it and one forward pass over a video of
   that size take. A size that the latent's strides or the patch do not divide is not an error: `sized` is 0. */
nabla_status nv_wan_describe(const nv_wan_folder *folder, int32_t width, int32_t height, int32_t frames,
                             nabla_dtype compute, nv_wan_facts *out, nv_error *err);

/* "...-NABLA-0.6-STA-11-3-3" -> "nabla-0.6_sta-11-3-3"; 0 if the name tells none. */
int nv_wan_policy_of_name(const char *name, char *policy, size_t size);

#endif

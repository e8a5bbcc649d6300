/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tensors of a Wan2.1 transformer are called in the files that people have. Two layouts: diffusers' names,
 * which are the engine's own, and those of the original code, which ComfyUI's single files use too, sometimes under a
 * prefix. The map between them is the table in parameters.c.
 */
#ifndef NV_DIT_NAMES_H
#define NV_DIT_NAMES_H

#include "dit/dit_config.h"
#include "weights/set.h"

typedef enum nv_dit_layout { NV_DIT_DIFFUSERS, NV_DIT_ORIGINAL } nv_dit_layout;

typedef struct nv_dit_names {
    nv_dit_layout layout;
    const char *prefix; /* in front of every name; "" none */
} nv_dit_names;

enum { NV_DIT_NAME_SIZE = 80 };

/* Layout and prefix, from the tensors themselves. Image-to-video, VACE and Wan2.2 transformers and scaled fp8 files,
   which would run and show noise, are NABLA_UNSUPPORTED and named; what is no Wan transformer at all is
   NABLA_INVALID_ARGUMENT. */
nabla_status nv_dit_recognise(const nv_weights *w, nv_dit_names *out, nv_error *err);

/* A name of one layout in another, without prefix, e.g. "blocks.3.ffn.0.bias" <-> "blocks.3.ffn.net.0.proj.bias". 0 if
   no Wan2.1 transformer has a tensor of that name. */
int nv_dit_translate(nv_dit_layout from, const char *name, nv_dit_layout to, char out[NV_DIT_NAME_SIZE]);

/* The configuration that the shapes tell, for files without one: heads of 128, eps 1e-6 and 1024 positions, as every
   released model has them. */
nabla_status nv_dit_config_of(const nv_weights *w, const nv_dit_names *names, nv_dit_config *out, nv_error *err);

const char *nv_dit_layout_name(nv_dit_layout layout); /* "diffusers", "original" */

#endif

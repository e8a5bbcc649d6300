/* SPDX-License-Identifier: Apache-2.0 */
/* The text encoder of a Wan model, where its folder or a file has it. */
#ifndef NV_TEXT_ENCODER_H
#define NV_TEXT_ENCODER_H

#include "text/tokenizer.h"
#include "text/umt5.h"

typedef struct nv_text_encoder {
    nv_tokenizer *tokenizer;
    nv_umt5 *umt5; /* files mapped, nothing loaded */
} nv_text_encoder;

/* model: a folder as diffusers lays it out (text_encoder/, tokenizer/) or as Wan's own code does
   (models_t5_umt5-xxl-enc-bf16, google/umt5-xxl/). file: weights alone, in place of the folder's; ComfyUI's carry the
   tokenizer, others leave it to the folder. One of the two may be NULL. On failure all is closed already. */
nabla_status nv_text_encoder_open(const char *model, const char *file, nv_text_encoder *t, nv_error *err);
void nv_text_encoder_close(nv_text_encoder *t); /* an all-zero one is fine */

#endif

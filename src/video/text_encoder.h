/* SPDX-License-Identifier: Apache-2.0 */
/* The text encoder of a Wan model, with its tokenizer. */
#ifndef NV_TEXT_ENCODER_H
#define NV_TEXT_ENCODER_H

#include "text/tokenizer.h"
#include "text/umt5.h"
#include "video/wan_folder.h"

typedef struct nv_text_encoder {
    nv_tokenizer *tokenizer;
    nv_umt5 *umt5; /* files mapped, nothing loaded */
} nv_text_encoder;

/* Where `parts` has them. Weights that carry the tokenizer, as ComfyUI's file does, need no other. `where` is the
   model's folder, for the sentence that says what it lacks; NULL: there is none. On failure all is closed already. */
nabla_status nv_text_encoder_open(const nv_wan_parts *parts, const char *where, nv_text_encoder *t, nv_error *err);
void nv_text_encoder_close(nv_text_encoder *t); /* an all-zero one is fine */

/* What is lost or strange of a prompt, as a sentence; "" if nothing. */
void nv_text_encoder_warn(const nv_tokens *tokens, char *text, size_t size);

#endif

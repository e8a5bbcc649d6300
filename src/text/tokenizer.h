/* SPDX-License-Identifier: Apache-2.0 */
/* UMT5's tokenizer: a prompt is cleaned (clean.h), cut into SentencePiece's pieces, and ended by </s>. */
#ifndef NV_TOKENIZER_H
#define NV_TOKENIZER_H

#include "tensor/error.h"

enum { NV_TEXT_LENGTH = 512 /* tokens that Wan's models take, the end's included */ };

typedef struct nv_tokenizer nv_tokenizer;

int nv_tokenizer_available(void); /* 0: a build without SentencePiece, where the rest is NABLA_UNSUPPORTED */

/* spiece.model as a file, or as bytes that need not outlive the call (ComfyUI's files carry them in a tensor); name is
   the file's, for messages. */
nabla_status nv_tokenizer_read(const char *path, nv_tokenizer **out, nv_error *err);
nabla_status nv_tokenizer_create(const void *data, size_t size, const char *name, nv_tokenizer **out, nv_error *err);
void nv_tokenizer_destroy(nv_tokenizer *t);        /* NULL is fine */
int32_t nv_tokenizer_count(const nv_tokenizer *t); /* ids are below this */

typedef struct nv_tokens {
    int32_t ids[NV_TEXT_LENGTH];
    int32_t count; /* the true tokens: at least 1, the end's */
    int64_t cut;   /* tokens that did not fit */
    int misread;   /* the prompt looks like text in another encoding than it was read in */
} nv_tokens;

/* "</s>" and "<pad>" written in a prompt are those tokens, as they are for transformers. *cleaned (may be NULL): the
   text that was cut into pieces, the caller's to free. */
nabla_status nv_tokenize(const nv_tokenizer *t, const char *prompt, nv_tokens *out, char **cleaned, nv_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer of a build without SentencePiece. */
#include "text/tokenizer.h"

static nabla_status refuse(nv_error *err) {
    return nv_fail(err, NABLA_UNSUPPORTED,
                   "this build has no SentencePiece, which prompts of Wan's models need: configure with "
                   "-DNABLA_SENTENCEPIECE=ON");
}

int nv_tokenizer_available(void) {
    return 0;
}

nabla_status nv_tokenizer_read(const char *path, nv_tokenizer **out, nv_error *err) {
    (void)path;
    *out = NULL;
    return refuse(err);
}

nabla_status nv_tokenizer_create(const void *data, size_t size, const char *name, nv_tokenizer **out, nv_error *err) {
    (void)data;
    (void)size;
    (void)name;
    *out = NULL;
    return refuse(err);
}

void nv_tokenizer_destroy(nv_tokenizer *t) {
    (void)t; /* there is none */
}

int32_t nv_tokenizer_count(const nv_tokenizer *t) {
    (void)t;
    return 0;
}

nabla_status nv_tokenize(const nv_tokenizer *t, const char *prompt, nv_tokens *out, char **cleaned, nv_error *err) {
    (void)t;
    (void)prompt;
    *out = (nv_tokens){0};
    if (cleaned) *cleaned = NULL;
    return refuse(err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/text_encoder.h"

#include <inttypes.h>
#include <stdio.h>

#include "video/files.h"

static const char embedded[] = "spiece_model"; /* ComfyUI's tensor: the bytes of spiece.model */

static nabla_status open_weights(const nv_wan_parts *parts, const char *where, nv_umt5 **out, nv_error *err) {
    if (parts->text_encoder[0])
        return nv_umt5_open(parts->text_encoder, parts->text_config[0] ? parts->text_config : NULL, out, err);
    return nv_fail(err, NABLA_UNSUPPORTED,
                   "%.200s has no text encoder of Wan: neither text_encoder/model.safetensors nor "
                   "models_t5_umt5-xxl-enc-bf16.pth; name another's with --text-encoder",
                   where ? where : "the model");
}

static nabla_status open_tokenizer(const nv_wan_parts *parts, const char *where, nv_text_encoder *t, nv_error *err) {
    const nv_st_entry *bytes = nv_umt5_find(t->umt5, embedded);
    if (bytes && bytes->dtype == NV_ST_U8)
        return nv_tokenizer_create(bytes->data, bytes->bytes, parts->text_encoder, &t->tokenizer, err);
    if (parts->tokenizer[0]) return nv_tokenizer_read(parts->tokenizer, &t->tokenizer, err);
    if (!where)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "%.300s carries no tokenizer (a tensor \"%s\"): name a model's folder that has one",
                       parts->text_encoder, embedded);
    return nv_fail(err, NABLA_IO,
                   "%.200s has no tokenizer: neither tokenizer/spiece.model nor google/umt5-xxl/spiece.model", where);
}

static nabla_status open_parts(const nv_wan_parts *parts, const char *where, nv_text_encoder *t, nv_error *err) {
    NV_TRY(open_weights(parts, where, &t->umt5, err));
    NV_TRY(open_tokenizer(parts, where, t, err));
    const int32_t pieces = nv_tokenizer_count(t->tokenizer), rows = nv_umt5_get_config(t->umt5)->vocab;
    if (pieces > rows)
        return nv_fail(err, NABLA_CORRUPT,
                       "the tokenizer has %d pieces, the text encoder's table %d rows: they are of different models",
                       pieces, rows);
    return NABLA_OK;
}

nabla_status nv_text_encoder_open(const nv_wan_parts *parts, const char *where, nv_text_encoder *t, nv_error *err) {
    *t = (nv_text_encoder){0};
    nabla_status status = open_parts(parts, where, t, err);
    if (status != NABLA_OK) nv_text_encoder_close(t);
    return status;
}

void nv_text_encoder_close(nv_text_encoder *t) {
    nv_tokenizer_destroy(t->tokenizer);
    nv_umt5_close(t->umt5);
    *t = (nv_text_encoder){0};
}

void nv_text_encoder_warn(const nv_tokens *tokens, char *text, size_t size) {
    size_t n = 0;
    text[0] = '\0';
    if (tokens->cut > 0)
        n = (size_t)snprintf(text, size,
                             "the prompt's last %" PRId64 " tokens are left out: models take %d, the end's included",
                             tokens->cut, NV_TEXT_LENGTH);
    if (tokens->misread)
        snprintf(text + n, size - n,
                 "%sthe prompt looks like UTF-8 that was read as another encoding: it is used as it is",
                 n > 0 ? "; " : "");
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "text/clean.h"
#include "text/spiece.h"
#include "weights/file.h"

enum { MAX_FILE = 1 << 28, WHY = 256 };

static const char end_piece[] = "</s>", pad_piece[] = "<pad>";

struct nv_tokenizer {
    nv_spiece *pieces;
    int32_t end, pad;
};

int nv_tokenizer_available(void) {
    return 1;
}

nabla_status nv_tokenizer_create(const void *data, size_t size, const char *name, nv_tokenizer **out, nv_error *err) {
    char why[WHY] = "";
    *out = NULL;
    nv_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a tokenizer");
    t->pieces = nv_spiece_create(data, size, why, sizeof why);
    if (!t->pieces) {
        free(t);
        return nv_fail(err, NABLA_CORRUPT, "%s is no SentencePiece model: %s", name, why);
    }
    t->end = nv_spiece_id(t->pieces, end_piece);
    t->pad = nv_spiece_id(t->pieces, pad_piece);
    if (t->end < 0) {
        nv_tokenizer_destroy(t);
        return nv_fail(err, NABLA_CORRUPT, "%s has no piece \"%s\" to end a text with: it is not UMT5's", name,
                       end_piece);
    }
    *out = t;
    return NABLA_OK;
}

nabla_status nv_tokenizer_read(const char *path, nv_tokenizer **out, nv_error *err) {
    char *data;
    size_t size;
    *out = NULL;
    NV_TRY(nv_file_read(path, MAX_FILE, &data, &size, err));
    nabla_status status = nv_tokenizer_create(data, size, path, out, err);
    free(data);
    return status;
}

void nv_tokenizer_destroy(nv_tokenizer *t) {
    if (!t) return;
    nv_spiece_destroy(t->pieces);
    free(t);
}

int32_t nv_tokenizer_count(const nv_tokenizer *t) {
    return nv_spiece_count(t->pieces);
}

/* The next special token written out in text, and its id; NULL if there is none. */
static const char *next_special(const nv_tokenizer *t, const char *text, size_t *length, int32_t *id) {
    const char *end = strstr(text, end_piece), *pad = t->pad >= 0 ? strstr(text, pad_piece) : NULL;
    const int is_end = end && (!pad || end < pad);
    *length = strlen(is_end ? end_piece : pad_piece);
    *id = is_end ? t->end : t->pad;
    return is_end ? end : pad;
}

/* One more token, or the count of those that no longer fit: the last place is the end's. */
static void add(nv_tokens *out, int32_t id) {
    if (out->count < NV_TEXT_LENGTH - 1)
        out->ids[out->count++] = id;
    else
        out->cut++;
}

static nabla_status add_text(const nv_tokenizer *t, const char *text, size_t size, nv_tokens *out, nv_error *err) {
    int32_t ids[NV_TEXT_LENGTH];
    char why[WHY] = "";
    const int64_t count = nv_spiece_encode(t->pieces, text, size, ids, NV_TEXT_LENGTH, why, sizeof why);
    if (count < 0) return nv_fail(err, NABLA_INTERNAL, "SentencePiece cannot read the prompt: %s", why);
    for (int64_t i = 0; i < count && i < NV_TEXT_LENGTH; i++)
        add(out, ids[i]);
    if (count > NV_TEXT_LENGTH) out->cut += count - NV_TEXT_LENGTH;
    return NABLA_OK;
}

static nabla_status add_all(const nv_tokenizer *t, const char *text, nv_tokens *out, nv_error *err) {
    while (*text) {
        size_t length;
        int32_t id;
        const char *special = next_special(t, text, &length, &id);
        const size_t size = special ? (size_t)(special - text) : strlen(text);
        if (size > 0) NV_TRY(add_text(t, text, size, out, err));
        text += size;
        if (!special) break;
        add(out, id);
        text += length;
    }
    return NABLA_OK;
}

nabla_status nv_tokenize(const nv_tokenizer *t, const char *prompt, nv_tokens *out, char **cleaned, nv_error *err) {
    char *text;
    if (cleaned) *cleaned = NULL;
    *out = (nv_tokens){0};
    NV_TRY(nv_clean(prompt, &text, &out->misread, err));
    nabla_status status = add_all(t, text, out, err);
    out->ids[out->count++] = t->end;
    if (cleaned && status == NABLA_OK)
        *cleaned = text;
    else
        free(text);
    return status;
}

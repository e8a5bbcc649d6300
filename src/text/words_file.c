/* SPDX-License-Identifier: Apache-2.0 */
/* words.json: {"length": N, "words": [...]} */
#include <stdlib.h>

#include "text/words_table.h"
#include "weights/file.h"
#include "weights/json.h"

enum { MAX_FILE = 1 << 26 };

static nabla_status read_list(const nv_json *j, const json_t *list, int32_t length, nv_words **out) {
    size_t count = json_array_size(list);
    const char **words = calloc(count + 1, sizeof *words);
    if (!words) return nv_fail(j->err, NABLA_OUT_OF_MEMORY, "no memory for the %zu words of %s", count, j->name);
    nabla_status status = NABLA_OK;
    for (size_t i = 0; i < count && status == NABLA_OK; i++) {
        words[i] = json_string_value(json_array_get(list, i));
        if (!words[i]) status = nv_fail(j->err, NABLA_CORRUPT, "%s: item %zu of \"words\" is no text", j->name, i);
    }
    if (status == NABLA_OK) {
        status = nv_words_create(words, count, length, out, j->err);
        /* the same mistake in a file is the file's */
        if (status == NABLA_INVALID_ARGUMENT) status = NABLA_CORRUPT;
        if (status != NABLA_OK) {
            nv_fail_in(j->err, "%s", j->name);
            if (j->err) j->err->status = status;
        }
    }
    free(words);
    return status;
}

static nabla_status read_words(const nv_json *j, nv_words **out) {
    static const char *const keys[] = {"length", "words", NULL};
    int32_t length;
    json_t *list;
    NV_TRY(nv_json_known_keys(j, keys));
    NV_TRY(nv_json_i32(j, "length", 1, NV_CAPTION_MAX, &length));
    NV_TRY(nv_json_array(j, "words", 0, NV_WORDS_MAX, &list));
    return read_list(j, list, length, out);
}

nabla_status nv_words_parse(const char *text, size_t size, const char *name, nv_words **out, nv_error *err) {
    nv_json j;
    *out = NULL;
    NV_TRY(nv_json_parse(text, size, name, &j, err));
    nabla_status status = read_words(&j, out);
    nv_json_close(&j);
    return status;
}

nabla_status nv_words_read(const char *path, nv_words **out, nv_error *err) {
    char *text;
    size_t size;
    *out = NULL;
    NV_TRY(nv_file_read(path, MAX_FILE, &text, &size, err));
    nabla_status status = nv_words_parse(text, size, path, out, err);
    free(text);
    return status;
}

nabla_status nv_words_write(const nv_words *words, const char *path, nv_error *err) {
    json_t *list = json_array();
    for (int32_t i = 0; i < words->count; i++) {
        if (json_array_append_new(list, json_string(words->list[i])) == 0) continue;
        json_decref(list);
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "the word \"%s\" cannot be written to %s: write it in UTF-8",
                       words->list[i], path);
    }
    return nv_json_write(path, json_pack("{s:i, s:o}", "length", words->length, "words", list), err);
}

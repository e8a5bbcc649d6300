/* SPDX-License-Identifier: Apache-2.0 */
/* words.json: {"length": N, "words": [...], "joins": [...]} */
#include <stdlib.h>

#include "text/words_table.h"
#include "weights/file.h"
#include "weights/json.h"

enum { MAX_FILE = 1 << 26 };

/* The same mistake in a file is the file's. */
static nabla_status blame_file(const nv_json *j, nabla_status status) {
    if (status == NABLA_OK) return status;
    nv_fail_in(j->err, "%s", j->name);
    if (status == NABLA_INVALID_ARGUMENT) status = NABLA_CORRUPT;
    if (j->err) j->err->status = status;
    return status;
}

/* The texts of an array, which live as long as it does; the caller frees *out. */
static nabla_status texts_of(const nv_json *j, const char *key, const json_t *list, const char ***out) {
    size_t count = json_array_size(list);
    const char **texts = calloc(count + 1, sizeof *texts);
    *out = texts;
    if (!texts) return nv_fail(j->err, NABLA_OUT_OF_MEMORY, "no memory for the %zu words of %s", count, j->name);
    for (size_t i = 0; i < count; i++) {
        texts[i] = json_string_value(json_array_get(list, i));
        if (!texts[i]) return nv_fail(j->err, NABLA_CORRUPT, "%s: item %zu of \"%s\" is no text", j->name, i, key);
    }
    return NABLA_OK;
}

static nabla_status read_list(const nv_json *j, const json_t *list, int32_t length, nv_words **out) {
    const char **words;
    nabla_status status = texts_of(j, "words", list, &words);
    if (status == NABLA_OK) status = blame_file(j, nv_words_create(words, json_array_size(list), length, out, j->err));
    free(words);
    return status;
}

static nabla_status read_joins(const nv_json *j, nv_words *words) {
    json_t *list;
    const char **joins;
    if (!json_object_get(j->object, "joins")) return NABLA_OK;
    NV_TRY(nv_json_array(j, "joins", 1, NV_WORDS_MAX, &list));
    nabla_status status = texts_of(j, "joins", list, &joins);
    if (status == NABLA_OK) status = blame_file(j, nv_words_join(words, joins, json_array_size(list), j->err));
    free(joins);
    return status;
}

static nabla_status read_words(const nv_json *j, nv_words **out) {
    static const char *const keys[] = {"length", "words", "joins", NULL};
    int32_t length;
    json_t *list;
    NV_TRY(nv_json_known_keys(j, keys));
    NV_TRY(nv_json_i32(j, "length", 1, NV_CAPTION_MAX, &length));
    NV_TRY(nv_json_array(j, "words", 0, NV_WORDS_MAX, &list));
    NV_TRY(read_list(j, list, length, out));
    const nabla_status status = read_joins(j, *out);
    if (status == NABLA_OK) return status;
    nv_words_destroy(*out);
    *out = NULL;
    return status;
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

/* Appends a word; fails on what JSON cannot hold. */
static nabla_status append(json_t *list, const char *word, const char *path, nv_error *err) {
    if (json_array_append_new(list, json_string(word)) == 0) return NABLA_OK;
    return nv_fail(err, NABLA_INVALID_ARGUMENT, "the word \"%s\" cannot be written to %s: write it in UTF-8", word,
                   path);
}

nabla_status nv_words_write(const nv_words *words, const char *path, nv_error *err) {
    json_t *list = json_array(), *joins = json_array();
    nabla_status status = NABLA_OK;
    for (int32_t i = 0; i < words->count && status == NABLA_OK; i++) {
        status = append(list, words->list[i], path, err);
        if (status == NABLA_OK && words->joins[i]) status = append(joins, words->list[i], path, err);
    }
    if (status == NABLA_OK) {
        json_t *file = json_pack("{s:i, s:O}", "length", words->length, "words", list);
        if (words->clauses > 1 && file && json_object_set(file, "joins", joins)) {
            json_decref(file);
            status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to write %s", path);
        } else {
            status = nv_json_write(path, file, err);
        }
    }
    json_decref(list);
    json_decref(joins);
    return status;
}

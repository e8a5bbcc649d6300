/* SPDX-License-Identifier: Apache-2.0 */
#include "video/warning.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_SIZE = 192 };

void nv_warn_of_words(const nv_words *words, const char *unknown, char *text, size_t size) {
    char list[LIST_SIZE], *word, *rest = list;
    size_t n = (size_t)snprintf(text, size, "the model does not know: ");
    snprintf(list, sizeof list, "%s", unknown);
    while ((word = strtok_r(rest, ", ", &rest)) && n < size) {
        const char *nearest = nv_words_nearest(words, word);
        const char *comma = word == list ? "" : ", ";
        n += (size_t)(nearest ? snprintf(text + n, size - n, "%s%s (%s?)", comma, word, nearest)
                              : snprintf(text + n, size - n, "%s%s", comma, word));
    }
}

/* The i-th text that holds what captions are made of, or NULL: captions themselves, else words. */
static const char *text_at(const nv_source *source, size_t i) {
    if (source->caption) return source->caption(source->user, i);
    return i < source->word_count ? source->words[i] : NULL;
}

void nv_warn_of_captions(const nv_words *words, const nv_source *source, char *text, size_t size) {
    char unknown[LIST_SIZE] = "";
    int32_t length = nv_words_length(words);
    int32_t *ids = calloc((size_t)length, sizeof *ids);
    size_t too_long = 0;
    const char *caption, *example = NULL;
    text[0] = '\0';
    for (size_t i = 0; ids && (caption = text_at(source, i)); i++) {
        if (nv_words_encode(words, caption, ids, unknown, sizeof unknown) <= length) continue;
        too_long++;
        if (!example) example = caption;
    }
    free(ids);
    size_t n = 0;
    if (unknown[0]) {
        nv_warn_of_words(words, unknown, text, size);
        n = strlen(text);
        n += (size_t)snprintf(text + n, size - n, ": they train as one unknown word");
    }
    if (too_long > 0 && n < size)
        snprintf(text + n, size - n, "%s%zu captions have more than %d words and lose the rest, such as \"%.80s\"",
                 n > 0 ? "; " : "", too_long, length, example);
}

void nv_warn_also(const char *sentence, char *text, size_t size) {
    const size_t at = strlen(text);
    if (sentence[0]) snprintf(text + at, size - at, "%s%s", at ? "; " : "", sentence);
}

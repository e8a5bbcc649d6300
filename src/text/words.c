/* SPDX-License-Identifier: Apache-2.0 */
#include "text/words.h"

#include <stdlib.h>
#include <string.h>

#include "text/words_table.h"

/* Bytes of UTF-8 beyond ASCII count as letters, whatever they are: no table of Unicode for a demo's captions. */
static int is_word_byte(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* ------------------------------------------------------------------ the table */

/* Words of a phrase are parted by single spaces. */
static int is_gap(const char *word, size_t i, size_t length) {
    return word[i] == ' ' && i > 0 && i + 1 < length && word[i - 1] != ' ';
}

static nabla_status check_word(const char *word, nv_error *err) {
    size_t length = strlen(word);
    int good = length > 0 && length < NV_WORD_BYTES;
    for (size_t i = 0; i < length && good; i++) {
        good = (is_word_byte((unsigned char)word[i]) && lower(word[i]) == word[i]) || is_gap(word, i, length);
    }
    return good ? NABLA_OK
                : nv_fail(err, NABLA_INVALID_ARGUMENT,
                          "\"%.64s\" cannot be in a list of words: use 1 to %d lower-case letters and digits, or words "
                          "of them parted by "
                          "single spaces",
                          word, NV_WORD_BYTES - 1);
}

static int compare_words(const void *a, const void *b, void *list) {
    const nv_word *words = list;
    return strcmp(words[*(const int32_t *)a], words[*(const int32_t *)b]);
}

static nabla_status sort_words(nv_words *w, nv_error *err) {
    for (int32_t i = 0; i < w->count; i++) {
        w->sorted[i] = i;
    }
    qsort_r(w->sorted, (size_t)w->count, sizeof *w->sorted, compare_words, w->list);
    for (int32_t i = 1; i < w->count; i++) {
        if (strcmp(w->list[w->sorted[i - 1]], w->list[w->sorted[i]]) == 0) {
            return nv_fail(err, NABLA_INVALID_ARGUMENT, "the word \"%s\" is listed twice", w->list[w->sorted[i]]);
        }
    }
    return NABLA_OK;
}

static int32_t count_words(const char *phrase) {
    int32_t count = 1;
    for (; *phrase; phrase++)
        count += *phrase == ' ';
    return count;
}

static int32_t larger(int32_t a, int32_t b) {
    return a > b ? a : b;
}

nabla_status nv_words_create(const char *const *words, size_t count, int32_t length, nv_words **out, nv_error *err) {
    *out = NULL;
    if (count > NV_WORDS_MAX) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%zu words are more than a list can hold, %d", count, NV_WORDS_MAX);
    }
    if (length < 1 || length > NV_CAPTION_MAX) {
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "a caption's length is %d words, but must lie in 1 to %d", length,
                       NV_CAPTION_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        NV_TRY(check_word(words[i], err));
    }
    nv_words *w = calloc(1, sizeof *w + count * sizeof *w->list);
    int32_t *sorted = calloc(count + 1, sizeof *sorted);
    uint8_t *joins = calloc(count + 1, sizeof *joins);
    if (!w || !sorted || !joins) {
        free(w);
        free(sorted);
        free(joins);
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a list of %zu words", count);
    }
    w->count = (int32_t)count;
    w->length = length;
    w->clauses = 1;
    w->sorted = sorted;
    w->joins = joins;
    for (size_t i = 0; i < count; i++) {
        memcpy(w->list[i], words[i], strlen(words[i]) + 1);
        w->longest = larger(w->longest, count_words(words[i]));
    }
    nabla_status status = sort_words(w, err);
    if (status != NABLA_OK) {
        nv_words_destroy(w);
        return status;
    }
    *out = w;
    return NABLA_OK;
}

void nv_words_destroy(nv_words *words) {
    if (!words) return;
    free(words->sorted);
    free(words->joins);
    free(words);
}

int32_t nv_words_rows(const nv_words *words) {
    return words->count * words->clauses + NV_WORD_FIRST;
}

int32_t nv_words_length(const nv_words *words) {
    return words->length;
}

int nv_words_equal(const nv_words *a, const nv_words *b) {
    if (a->count != b->count || a->length != b->length || a->clauses != b->clauses) return 0;
    for (int32_t i = 0; i < a->count; i++)
        if (strcmp(a->list[i], b->list[i]) != 0 || a->joins[i] != b->joins[i]) return 0;
    return 1;
}

static int32_t id_of(const nv_words *w, const char *word) {
    int32_t low = 0, high = w->count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        int order = strcmp(word, w->list[w->sorted[middle]]);
        if (order == 0) return w->sorted[middle] + NV_WORD_FIRST;
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NV_WORD_UNKNOWN;
}

nabla_status nv_words_join(nv_words *words, const char *const *joins, size_t count, nv_error *err) {
    for (size_t i = 0; i < count; i++) {
        const int32_t id = id_of(words, joins[i]);
        if (id == NV_WORD_UNKNOWN)
            return nv_fail(err, NABLA_INVALID_ARGUMENT, "\"%.64s\" is to join clauses but is not in the list of words",
                           joins[i]);
        words->joins[id - NV_WORD_FIRST] = 1;
        words->clauses = 2;
    }
    return NABLA_OK;
}

/* ------------------------------------------------------------------ captions */

int nv_words_next(const char **text, nv_word word) {
    const char *at = *text;
    while (*at && !is_word_byte((unsigned char)*at)) {
        at++;
    }
    const char *begin = at;
    while (is_word_byte((unsigned char)*at)) {
        at++;
    }
    size_t length = (size_t)(at - begin);
    if (length >= NV_WORD_BYTES) {
        length = NV_WORD_BYTES - 1;
        /* A character of UTF-8 has at most three bytes behind its first; broken text must not shrink to nothing. */
        for (int i = 0; i < 3 && ((unsigned char)begin[length] & 0xc0) == 0x80; i++)
            length--;
    }
    for (size_t i = 0; i < length; i++) {
        word[i] = lower(begin[i]);
    }
    word[length] = '\0';
    *text = at;
    return length > 0;
}

static int is_listed(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = strstr(list, word); at; at = strstr(at + 1, word)) {
        int begins = at == list || at[-1] == ' ', ends = at[length] == '\0' || at[length] == ',';
        if (begins && ends) return 1;
    }
    return 0;
}

static void list_once(char *list, size_t size, const char *word) {
    size_t used = strlen(list), separator = used > 0 ? 2 : 0, length = strlen(word);
    if (is_listed(list, word) || used + separator + length >= size) return;
    memcpy(list + used, ", ", separator);
    memcpy(list + used + separator, word, length + 1);
}

/* The id of the longest phrase of the list that begins with `word`, behind which *text stands; moves *text behind it.
 */
static int32_t longest_match(const nv_words *w, const char *word, const char **text) {
    nv_word phrase, next;
    int32_t id = id_of(w, word);
    const char *at = *text;
    size_t used = strlen(word);
    memcpy(phrase, word, used + 1);
    for (int32_t n = 1; n < w->longest && nv_words_next(&at, next); n++) {
        size_t length = strlen(next);
        if (used + 1 + length >= sizeof phrase) break;
        phrase[used] = ' ';
        memcpy(phrase + used + 1, next, length + 1);
        used += 1 + length;
        int32_t found = id_of(w, phrase);
        if (found == NV_WORD_UNKNOWN) continue;
        id = found;
        *text = at;
    }
    return id;
}

int32_t nv_words_encode(const nv_words *words, const char *text, int32_t *ids, char *unknown, size_t unknown_size) {
    int32_t count = 0, clause = 0;
    nv_word word;
    if (unknown_size == 0) unknown = NULL;
    while (count < INT32_MAX && nv_words_next(&text, word)) {
        int32_t id = longest_match(words, word, &text);
        const int known = id != NV_WORD_UNKNOWN;
        if (known && count > 0 && words->joins[id - NV_WORD_FIRST]) clause = 1;
        if (count < words->length) ids[count] = known ? id + clause * words->count : id;
        if (unknown && id == NV_WORD_UNKNOWN) list_once(unknown, unknown_size, word);
        count++;
    }
    for (int32_t i = count; i < words->length; i++) {
        ids[i] = NV_WORD_PAD;
    }
    return count;
}

/* ------------------------------------------------------------------ suggestions */

static int smaller(int a, int b) {
    return a < b ? a : b;
}

/* Optimal string alignment distance (Damerau 1964): row by row, remembering the two rows before. */
static int edits_between(const char *a, const char *b) {
    int rows[3][NV_WORD_BYTES];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    int m = (int)strlen(a), n = (int)strlen(b);
    for (int j = 0; j <= n; j++) {
        last[j] = j;
    }
    for (int i = 1; i <= m; i++) {
        now[0] = i;
        for (int j = 1; j <= n; j++) {
            now[j] = smaller(last[j - 1] + (a[i - 1] != b[j - 1]), smaller(last[j], now[j - 1]) + 1);
            int swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped) now[j] = smaller(now[j], before[j - 2] + 1);
        }
        int *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[n];
}

const char *nv_words_nearest(const nv_words *words, const char *word) {
    nv_word wanted;
    if (!nv_words_next(&word, wanted)) return NULL;
    int best = smaller(2, (int)strlen(wanted) / 3) + 1;
    const char *nearest = NULL;
    for (int32_t i = 0; i < words->count; i++) {
        int edits = edits_between(wanted, words->list[i]);
        if (edits < best) {
            best = edits;
            nearest = words->list[i];
        }
    }
    return nearest;
}

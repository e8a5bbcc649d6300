/* SPDX-License-Identifier: Apache-2.0 */
/* The demo model's text encoder: a table of words. A caption becomes a fixed number of word ids; the ids' rows of a
   trained table are the context. Ids: 0 pad, 1 unknown, then the list's words. */
#ifndef NV_WORDS_H
#define NV_WORDS_H

#include "tensor/error.h"

enum { NV_WORD_PAD = 0, NV_WORD_UNKNOWN = 1, NV_WORD_FIRST = 2 };

typedef struct nv_words nv_words;

enum { NV_WORD_BYTES = 64 /* of a word or phrase and its NUL */ };
typedef char nv_word[NV_WORD_BYTES];

/* Copies the next word of a text in lower case and moves *text behind it; 0 at the end of the text. Too long a word is
   cut, never inside a character. */
int nv_words_next(const char **text, nv_word word);

/* words: count distinct lower-case words, of letters and digits (any byte above ASCII counts as a letter), or phrases:
   words parted by single spaces. The transformer sees a caption as a bag of ids, so words that mean something else
   together ("in a circle") should be one phrase. length: ids a caption becomes (longer captions are cut, shorter
   padded). */
nabla_status nv_words_create(const char *const *words, size_t count, int32_t length, nv_words **out, nv_error *err);
/* Makes a caption two clauses, parted by the first of these words or phrases (each must be listed) behind another word:
   it and what follows have rows of their own, so that "a red circle and a blue square" is not the same bag of ids as
   "a blue circle and a red square". No joins, or none given: one clause. */
nabla_status nv_words_join(nv_words *words, const char *const *joins, size_t count, nv_error *err);
/* words.json: {"length": N, "words": [...], "joins": [...]}, the last only where there are any */
nabla_status nv_words_read(const char *path, nv_words **out, nv_error *err);
nabla_status nv_words_parse(const char *text, size_t size, const char *name, nv_words **out, nv_error *err);
nabla_status nv_words_write(const nv_words *words, const char *path, nv_error *err);
void nv_words_destroy(nv_words *words);
int32_t nv_words_rows(const nv_words *words); /* table rows: the list's words in each clause, and NV_WORD_FIRST */
int32_t nv_words_length(const nv_words *words);
/* Whether every caption becomes the same ids. */
int nv_words_equal(const nv_words *a, const nv_words *b);

/* text (any case, punctuation ignored) -> ids[length]; of phrases that fit, the longest. unknown (may be NULL, else a
   text in unknown_size bytes) is extended by the words not in the list, each once, separated by ", " (those that fit).
   Returns how many ids the text has, which may exceed the length. An empty text is all pad: the unconditional branch.
 */
int32_t nv_words_encode(const nv_words *words, const char *text, int32_t *ids, char *unknown, size_t unknown_size);

/* The word of the list that `word` is likely a misspelling of, or NULL: at most one edit for every three letters, two
   at most (a letter more, less or other, or two neighbours swapped). */
const char *nv_words_nearest(const nv_words *words, const char *word);

#endif

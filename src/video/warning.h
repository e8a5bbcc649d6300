/* SPDX-License-Identifier: Apache-2.0 */
/* Sentences that warn: of texts that a model reads only in part, and several in one. */
#ifndef NV_WARNING_H
#define NV_WARNING_H

#include <stddef.h>

#include "text/words.h"
#include "train/source.h"

/* Words as nv_words_encode lists them -> "the model does not know: pinkk (pink?), dog" in text. */
void nv_warn_of_words(const nv_words *words, const char *unknown, char *text, size_t size);

/* What of a source's captions is lost on a model with these words; "" if nothing. */
void nv_warn_of_captions(const nv_words *words, const nv_source *source, char *text, size_t size);

/* Adds a sentence to what text says already; an empty one adds nothing. */
void nv_warn_also(const char *sentence, char *text, size_t size);

#endif

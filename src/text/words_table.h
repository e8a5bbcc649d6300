/* SPDX-License-Identifier: Apache-2.0 */
/* What words.c and words_file.c share. */
#ifndef NV_WORDS_TABLE_H
#define NV_WORDS_TABLE_H

#include "text/words.h"

enum { NV_WORDS_MAX = 1 << 20, NV_CAPTION_MAX = 4096 };

struct nv_words {
    int32_t count, length, longest; /* longest: words in the longest phrase */
    int32_t clauses;                /* 1, or 2 where some words join */
    int32_t *sorted;                /* [count] indices of the list in strcmp's order */
    uint8_t *joins;                 /* [count] 1: begins the second clause */
    nv_word list[];
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What words.c and words_file.c share. */
#ifndef NV_WORDS_TABLE_H
#define NV_WORDS_TABLE_H

#include "text/words.h"

enum { NV_WORDS_MAX = 1 << 20, NV_CAPTION_MAX = 4096 };

struct nv_words {
    int32_t count, length, longest; /* longest: words in the longest phrase */
    int32_t *sorted;                /* indices of the list in strcmp's order */
    nv_word list[];
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What Wan's reference does to a prompt before its tokenizer: ftfy.fix_text without the repair of mis-decoded text,
   html.unescape twice, white space. https://ftfy.readthedocs.io, Python's html module */
#ifndef NV_CLEAN_H
#define NV_CLEAN_H

#include "tensor/error.h"

enum { NV_PROMPT_MOST = 1 << 16 /* bytes; 512 tokens are some 2,000 */ };

/* *out: the cleaned text, UTF-8, the caller's to free. Text that is not UTF-8 or too long is NABLA_INVALID_ARGUMENT.
   *misread (may be NULL): 1 where the text looks like UTF-8 that was read as another encoding ("Ã©" for "é"), which
   ftfy would repair and this does not. */
nabla_status nv_clean(const char *text, char **out, int *misread, nv_error *err);

#endif

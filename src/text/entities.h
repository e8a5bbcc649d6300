/* SPDX-License-Identifier: Apache-2.0 */
/* Character references of HTML, as two readers of them understand them. */
#ifndef NV_ENTITIES_H
#define NV_ENTITIES_H

#include "text/chars.h"

/* As Python's html.unescape: numbers, names, and those names that stand without a semicolon, the longest that fits. */
void nv_html_unescape(const nv_chars *in, nv_chars *out);
/* As ftfy: only what ends in a semicolon, and names in capitals for capitals. */
void nv_html_unescape_strictly(const nv_chars *in, nv_chars *out);

/* What Windows-1252 has where Unicode has control characters, 0x80 to 0x9f; its five gaps stay as they are. */
uint32_t nv_windows_1252(uint32_t point);

#endif

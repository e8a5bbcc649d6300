/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NV_UTF8_H
#define NV_UTF8_H

/* Whether text is well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF). */
int nv_utf8_is_valid(const char *text);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "text/chars.h"

#include <string.h>
#include <utf8proc.h>

size_t nv_chars_read(nv_chars *c, const char *text, size_t size) {
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text;
    for (size_t i = 0; i < size;) {
        utf8proc_int32_t point;
        const utf8proc_ssize_t length = utf8proc_iterate(bytes + i, (utf8proc_ssize_t)(size - i), &point);
        if (length <= 0) return i;
        nv_chars_add(c, (uint32_t)point);
        i += (size_t)length;
    }
    return size;
}

char *nv_chars_text(const nv_chars *c, size_t *size) {
    utf8proc_uint8_t *text = c->failed ? NULL : malloc(4 * c->count + 1);
    size_t n = 0;
    if (!text) return NULL;
    for (size_t i = 0; i < c->count; i++)
        n += (size_t)utf8proc_encode_char((utf8proc_int32_t)c->at[i], text + n);
    text[n] = '\0';
    *size = n;
    return (char *)text;
}

static int is_ascii(const nv_chars *c) {
    for (size_t i = 0; i < c->count; i++)
        if (c->at[i] >= 0x80) return 0;
    return 1;
}

void nv_chars_compose(nv_chars *c) {
    utf8proc_uint8_t *composed = NULL;
    size_t size;
    if (is_ascii(c)) return;
    char *text = nv_chars_text(c, &size);
    const utf8proc_ssize_t length = text ? utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)size,
                                                        &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE)
                                         : -1;
    if (length < 0) {
        c->failed = 1; /* memory alone is missing: these are code points */
    } else {
        c->count = 0;
        nv_chars_read(c, (const char *)composed, (size_t)length);
    }
    free(composed);
    free(text);
}

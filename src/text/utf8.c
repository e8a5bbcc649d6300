/* SPDX-License-Identifier: Apache-2.0 */
#include "text/utf8.h"

#include <stddef.h>

/* Bytes of the character that begins at s, or 0 if it is malformed. A NUL is no continuation, so nothing is read
   behind the end. */
static size_t character_bytes(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4) return 0;
    size_t n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    int overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    int surrogate = s[0] == 0xed && s[1] >= 0xa0, beyond = s[0] == 0xf4 && s[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : n;
}

int nv_utf8_is_valid(const char *text) {
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        size_t n = character_bytes(s);
        if (n == 0) return 0;
        s += n;
    }
    return 1;
}

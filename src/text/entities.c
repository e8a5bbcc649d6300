/* SPDX-License-Identifier: Apache-2.0 */
#include "text/entities.h"

#include <string.h>

typedef struct entity {
    const char *name, *text;
    int bare; /* known without the semicolon too */
} entity;

#include "text/entities.inc"

enum {
    ENTITIES = sizeof entities / sizeof *entities,
    CAPITALS = sizeof capitals / sizeof *capitals,
    NAME_MOST = 32,   /* of a name and its semicolon, as both readers have it */
    STRICT_MOST = 24, /* letters and digits that ftfy looks at */
    LAST = 0x10ffff,  /* code point */
    REPLACEMENT = 0xfffd
};

uint32_t nv_windows_1252(uint32_t point) {
    static const uint16_t table[32] = {0x20ac, 0x81,   0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021,
                                       0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0x8d,   0x017d, 0x8f,
                                       0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
                                       0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0x9d,   0x017e, 0x0178};
    return point >= 0x80 && point < 0xa0 ? table[point - 0x80] : point;
}

/* ------------------------------------------------------------------ numbers */

/* The digit's value in the base, or -1. */
static int digit(uint32_t c, uint32_t base) {
    if (c >= '0' && c <= '9') return (int)(c - '0');
    if (base == 16 && c >= 'a' && c <= 'f') return (int)(c - 'a' + 10);
    if (base == 16 && c >= 'A' && c <= 'F') return (int)(c - 'A' + 10);
    return -1;
}

/* HTML leaves these out. */
static int is_dropped(uint32_t n) {
    return (n >= 0x1 && n <= 0x8) || n == 0xb || (n >= 0xe && n <= 0x1f) || n == 0x7f || (n >= 0xfdd0 && n <= 0xfdef) ||
           (n & 0xfffe) == 0xfffe;
}

static void add_number(uint32_t n, nv_chars *out) {
    if (n >= 0x80 && n < 0xa0)
        nv_chars_add(out, nv_windows_1252(n));
    else if (n == 0 || n > LAST || (n >= 0xd800 && n <= 0xdfff))
        nv_chars_add(out, REPLACEMENT);
    else if (!is_dropped(n))
        nv_chars_add(out, n);
}

/* "#123", "#x1f" and the semicolon after it, if there is one; s is what follows the ampersand. Returns how many code
   points that is, 0 where it is no number. */
static size_t read_number(const uint32_t *s, size_t left, uint32_t *number) {
    if (left < 2 || s[0] != '#') return 0;
    const uint32_t base = s[1] == 'x' || s[1] == 'X' ? 16 : 10;
    const size_t first = base == 16 ? 2 : 1;
    size_t i = first;
    *number = 0;
    for (; i < left && digit(s[i], base) >= 0; i++)
        if (*number <= LAST) *number = *number * base + (uint32_t)digit(s[i], base);
    if (i == first) return 0;
    return i < left && s[i] == ';' ? i + 1 : i;
}

/* ------------------------------------------------------------------ names */

typedef struct key {
    const char *name;
    size_t length;
} key;

static int compare(const void *a, const void *b) {
    const key *k = a;
    const entity *e = b;
    const int order = strncmp(k->name, e->name, k->length);
    return order ? order : e->name[k->length] ? -1 : 0;
}

static const entity *find(const entity *list, size_t count, const char *name, size_t length) {
    const key k = {name, length};
    return bsearch(&k, list, count, sizeof *list, compare);
}

/* The ASCII letters and digits at s, at most NAME_MOST of them. */
static size_t read_name(const uint32_t *s, size_t left, char name[NAME_MOST + 1]) {
    size_t n = 0;
    for (; n < left && n < NAME_MOST; n++) {
        const uint32_t c = s[n];
        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))) break;
        name[n] = (char)c;
    }
    name[n] = '\0';
    return n;
}

static void add_text(const char *text, nv_chars *out) {
    nv_chars_read(out, text, strlen(text));
}

/* The longest name at s that html.unescape knows; *used is how many code points it takes. */
static const entity *longest(const uint32_t *s, size_t left, size_t *used) {
    char name[NAME_MOST + 1];
    const size_t n = read_name(s, left, name);
    const entity *e = n > 0 && n < left && s[n] == ';' ? find(entities, ENTITIES, name, n) : NULL;
    *used = n + 1;
    for (size_t length = n; !e && length >= 2; length--) {
        e = find(entities, ENTITIES, name, length);
        *used = length;
        if (e && !e->bare) e = NULL;
    }
    return e;
}

void nv_html_unescape(const nv_chars *in, nv_chars *out) {
    for (size_t i = 0; i < in->count;) {
        const uint32_t *s = in->at + i + 1;
        const size_t left = in->count - i - 1;
        uint32_t number;
        size_t used = in->at[i] == '&' ? read_number(s, left, &number) : 0;
        const entity *e = NULL;
        if (used > 0) {
            add_number(number, out);
        } else if (in->at[i] == '&' && (e = longest(s, left, &used))) {
            add_text(e->text, out);
        } else {
            nv_chars_add(out, in->at[i]);
            used = 0;
        }
        i += 1 + used;
    }
}

/* "EACUTE" -> "É": a name in capitals that is none itself, even in part, is that of its small letters. */
static const char *capital_of(const uint32_t *s, const char *name, size_t length) {
    char small[NAME_MOST + 1];
    size_t used;
    if (longest(s, length + 1, &used)) return NULL;
    for (size_t i = 0; i <= length; i++) {
        if (name[i] >= 'a' && name[i] <= 'z') return NULL;
        small[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
    }
    const entity *e = find(capitals, CAPITALS, small, length);
    if (!e) e = find(entities, ENTITIES, small, length);
    return e ? e->text : NULL;
}

static const char *strict_text(const uint32_t *s, const char *name, size_t length) {
    const entity *e = find(entities, ENTITIES, name, length);
    return e ? e->text : capital_of(s, name, length);
}

void nv_html_unescape_strictly(const nv_chars *in, nv_chars *out) {
    char name[NAME_MOST + 1];
    for (size_t i = 0; i < in->count;) {
        const uint32_t *s = in->at + i + 1;
        const size_t left = in->count - i - 1;
        uint32_t number = 0;
        size_t used = in->at[i] == '&' ? read_number(s, left, &number) : 0;
        const size_t digits = used - 2; /* '#' and ';' are not counted */
        if (used > 0 && s[used - 1] == ';' && digits <= STRICT_MOST && number != ';') {
            add_number(number, out);
            i += 1 + used;
            continue;
        }
        used = in->at[i] == '&' ? read_name(s, left, name) : 0;
        const int ended = used > 0 && used <= STRICT_MOST && used < left && s[used] == ';';
        const char *text = ended ? strict_text(s, name, used) : NULL;
        if (text)
            add_text(text, out);
        else
            nv_chars_add(out, in->at[i]);
        i += text ? used + 2 : 1;
    }
}

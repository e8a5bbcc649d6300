/* SPDX-License-Identifier: Apache-2.0 */
#include "text/clean.h"

#include <string.h>
#include <utf8proc.h>

#include "text/chars.h"
#include "text/entities.h"

/* ------------------------------------------------------------------ characters */

typedef struct pair {
    uint32_t from;
    const char *to;
} pair;

/* Latin letters set as one, which tokenizers have not seen; other scripts' may be meant. */
static const pair ligatures[] = {
    {0x132, "IJ"},         {0x133, "ij"},  {0x149, "\xca\xbcn"}, {0x1c4, "D\xc5\xbd"}, {0x1c5, "D\xc5\xbe"},
    {0x1c6, "d\xc5\xbe"},  {0x1c7, "LJ"},  {0x1c8, "Lj"},        {0x1c9, "lj"},        {0x1ca, "NJ"},
    {0x1cb, "Nj"},         {0x1cc, "nj"},  {0x1f1, "DZ"},        {0x1f2, "Dz"},        {0x1f3, "dz"},
    {0xfb00, "ff"},        {0xfb01, "fi"}, {0xfb02, "fl"},       {0xfb03, "ffi"},      {0xfb04, "ffl"},
    {0xfb05, "\xc5\xbft"}, {0xfb06, "st"}};

static const char *ligature(uint32_t c) {
    for (size_t i = 0; i < sizeof ligatures / sizeof *ligatures; i++)
        if (ligatures[i].from == c) return ligatures[i].to;
    return NULL;
}

/* Full-width and half-width forms at their usual width. */
static void add_width(uint32_t c, nv_chars *out) {
    utf8proc_int32_t parts[8];
    int boundary = 0;
    if (c < 0xff01 || c > 0xffef) {
        nv_chars_add(out, c == 0x3000 ? ' ' : c);
        return;
    }
    const utf8proc_ssize_t n = utf8proc_decompose_char(
        (utf8proc_int32_t)c, parts, 8, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT | UTF8PROC_STABLE, &boundary);
    for (utf8proc_ssize_t i = 0; i < n && n <= 8; i++)
        nv_chars_add(out, (uint32_t)parts[i]);
}

static uint32_t straight_quote(uint32_t c) {
    if (c == 0x2bc || (c >= 0x2018 && c <= 0x201b)) return '\'';
    return c >= 0x201c && c <= 0x201f ? '"' : c;
}

static int is_control(uint32_t c) {
    return c <= 0x8 || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || (c >= 0x206a && c <= 0x206f) ||
           c == 0xfeff || (c >= 0xfff9 && c <= 0xfffc);
}

/* Python's str.isspace. */
static int is_space(uint32_t c) {
    return (c >= 0x9 && c <= 0xd) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* ------------------------------------------------------------------ ftfy's passes over a line */

static void fix_characters(const nv_chars *in, nv_chars *out) {
    for (size_t i = 0; i < in->count; i++) {
        const uint32_t c = nv_windows_1252(in->at[i]);
        const char *letters = ligature(c);
        if (letters)
            nv_chars_read(out, letters, strlen(letters));
        else
            add_width(c, out);
    }
}

/* Quotes and line breaks; what C1 stands for is settled by now. */
static void fix_marks(const nv_chars *in, nv_chars *out) {
    for (size_t i = 0; i < in->count; i++) {
        const uint32_t c = straight_quote(in->at[i]);
        if (c == '\r' && i + 1 < in->count && in->at[i + 1] == '\n') continue;
        nv_chars_add(out, c == '\r' || c == 0x2028 || c == 0x2029 ? '\n' : c);
    }
}

/* How long a terminal's escape sequence at i is: ESC [ digits and semicolons, a letter. */
static size_t escape_length(const nv_chars *c, size_t i) {
    if (i + 2 >= c->count || c->at[i] != 0x1b || c->at[i + 1] != '[') return 0;
    size_t j = i + 2;
    while (j < c->count && (c->at[j] == ';' || utf8proc_category((utf8proc_int32_t)c->at[j]) == UTF8PROC_CATEGORY_ND))
        j++;
    const int letter = j < c->count && c->at[j] < 0x80 && ((c->at[j] | 0x20) >= 'a' && (c->at[j] | 0x20) <= 'z');
    return letter ? j + 1 - i : 0;
}

static void remove_controls(const nv_chars *in, nv_chars *out) {
    for (size_t i = 0; i < in->count;) {
        const size_t escape = escape_length(in, i);
        if (!escape && !is_control(in->at[i])) nv_chars_add(out, in->at[i]);
        i += escape ? escape : 1;
    }
}

static void copy(const nv_chars *in, nv_chars *out) {
    for (size_t i = 0; i < in->count; i++)
        nv_chars_add(out, in->at[i]);
}

/* text becomes what a pass makes of it; spare is memory to work in. */
static void apply(void (*pass)(const nv_chars *, nv_chars *), nv_chars *text, nv_chars *spare) {
    const nv_chars old = *text;
    spare->count = 0;
    pass(&old, spare);
    spare->failed |= old.failed;
    *text = *spare;
    *spare = old;
}

static int same(const nv_chars *a, const nv_chars *b) {
    return a->count == b->count && (a->count == 0 || memcmp(a->at, b->at, a->count * sizeof *a->at) == 0);
}

/* Until nothing changes any more: what one pass uncovers (an entity in an entity) the next one sees. */
static void fix_line(nv_chars *line, int unescape, nv_chars *before, nv_chars *spare) {
    do {
        before->count = 0;
        copy(line, before);
        line->failed |= before->failed;
        if (unescape) apply(nv_html_unescape_strictly, line, spare);
        apply(fix_characters, line, spare);
        apply(fix_marks, line, spare);
        apply(remove_controls, line, spare);
        nv_chars_compose(line);
    } while (!line->failed && !same(line, before));
}

/* Lines one by one; from the first with a '<' on the text may be HTML, whose entities are left for later. */
static void fix_text(const nv_chars *in, nv_chars *out) {
    nv_chars line = {0}, before = {0}, spare = {0};
    int unescape = 1;
    for (size_t i = 0; i < in->count && !line.failed;) {
        line.count = 0;
        do {
            if (in->at[i] == '<') unescape = 0;
            nv_chars_add(&line, in->at[i]);
        } while (in->at[i++] != '\n' && i < in->count);
        fix_line(&line, unescape, &before, &spare);
        copy(&line, out);
    }
    out->failed |= line.failed;
    nv_chars_free(&line);
    nv_chars_free(&before);
    nv_chars_free(&spare);
}

/* Runs of white space become one space, none at the ends. */
static void collapse(const nv_chars *in, nv_chars *out) {
    for (size_t i = 0; i < in->count; i++) {
        if (!is_space(in->at[i]))
            nv_chars_add(out, in->at[i]);
        else if (out->count > 0 && out->at[out->count - 1] != ' ')
            nv_chars_add(out, ' ');
    }
    if (out->count > 0 && out->at[out->count - 1] == ' ') out->count--;
}

/* ------------------------------------------------------------------ text that was read wrongly */

/* The byte that Windows-1252 (and, for its gaps, Latin-1) writes for a character, or -1. */
static int byte_of(uint32_t c) {
    if (c < 0x100) return (int)c;
    for (uint32_t b = 0x80; b < 0xa0; b++)
        if (nv_windows_1252(b) == c) return (int)b;
    return -1;
}

/* What also follows an accented letter at the end of a word in ordinary text: quotes, dashes, an ellipsis, a space. */
static int ends_words(int byte) {
    return byte == 0x85 || (byte >= 0x91 && byte <= 0x97 && byte != 0x95) || byte == 0xa0 || byte == 0xab ||
           byte == 0xbb;
}

/* Whether the characters from i on have bytes that would be one character of UTF-8. */
static int would_be_one(const nv_chars *c, size_t i) {
    const int first = byte_of(c->at[i]);
    const size_t more = first >= 0xf5 ? 0 : first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc2 ? 1 : 0;
    int telling = 0;
    if (more == 0 || c->count - i <= more) return 0;
    for (size_t n = 1; n <= more; n++) {
        const int next = byte_of(c->at[i + n]);
        if (next < 0x80 || next >= 0xc0) return 0;
        telling |= !ends_words(next);
    }
    return telling;
}

static int looks_misread(const nv_chars *c) {
    for (size_t i = 0; i < c->count; i++)
        if (c->at[i] == 0xfffd || would_be_one(c, i)) return 1;
    return 0;
}

/* ------------------------------------------------------------------ the whole */

static nabla_status read_text(const char *text, nv_chars *c, nv_error *err) {
    const size_t size = strnlen(text, NV_PROMPT_MOST + 1);
    if (size > NV_PROMPT_MOST)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "the prompt is longer than %d bytes: shorten it", NV_PROMPT_MOST);
    const size_t good = nv_chars_read(c, text, size);
    if (good < size)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "the prompt is not UTF-8: byte %zu of it is 0x%02x; convert it, as iconv does", good + 1,
                       (unsigned)(unsigned char)text[good]);
    return NABLA_OK;
}

nabla_status nv_clean(const char *text, char **out, int *misread, nv_error *err) {
    nv_chars c = {0}, spare = {0};
    size_t size;
    *out = NULL;
    nabla_status status = read_text(text, &c, err);
    if (status == NABLA_OK) {
        if (misread) *misread = looks_misread(&c);
        apply(fix_text, &c, &spare);
        apply(nv_html_unescape, &c, &spare);
        apply(nv_html_unescape, &c, &spare);
        apply(collapse, &c, &spare);
        *out = nv_chars_text(&c, &size);
        if (!*out) status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to clean the prompt");
    }
    nv_chars_free(&c);
    nv_chars_free(&spare);
    return status;
}

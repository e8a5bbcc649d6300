/* SPDX-License-Identifier: Apache-2.0 */
/* PNG (ISO/IEC 15948): 8-bit RGB. */
#include "media/png.h"

#include <stdlib.h>
#include <string.h>

#include "media/deflate.h"
#include "weights/file.h"

enum { PIXEL = 3, FILTERS = 5, CRC_TABLE = 256, MOST_TEXT = 1 << 16 };

/* ------------------------------------------------------------------ rows */

static int paeth(int left, int up, int corner) {
    int guess = left + up - corner, dl = abs(guess - left), du = abs(guess - up), dc = abs(guess - corner);
    return dl <= du && dl <= dc ? left : du <= dc ? up : corner;
}

/* One row with its filter's number in front; up is the row above or zeros. Returns the sum of absolute differences. */
static int64_t filter_row(int filter, const uint8_t *row, const uint8_t *up, size_t bytes, uint8_t *out) {
    int64_t sum = 0;
    *out++ = (uint8_t)filter;
    for (size_t i = 0; i < bytes; i++) {
        int left = i >= PIXEL ? row[i - PIXEL] : 0, corner = i >= PIXEL ? up[i - PIXEL] : 0;
        const int guess[FILTERS] = {0, left, up[i], (left + up[i]) / 2, paeth(left, up[i], corner)};
        out[i] = (uint8_t)(row[i] - guess[filter]);
        sum += out[i] < 128 ? out[i] : 256 - out[i];
    }
    return sum;
}

/* Every row with the filter of the least sum, as the standard advises. out: height * (1 + bytes); spare: 1 + bytes;
   zeros: bytes */
static void filter_rows(const uint8_t *rgb, int32_t height, size_t bytes, const uint8_t *zeros, uint8_t *spare,
                        uint8_t *out) {
    for (int32_t y = 0; y < height; y++, out += 1 + bytes) {
        const uint8_t *row = rgb + (size_t)y * bytes, *up = y ? row - bytes : zeros;
        int64_t least = filter_row(0, row, up, bytes, out);
        for (int f = 1; f < FILTERS; f++) {
            int64_t sum = filter_row(f, row, up, bytes, spare);
            if (sum >= least) continue;
            least = sum;
            memcpy(out, spare, 1 + bytes);
        }
    }
}

/* ------------------------------------------------------------------ chunks */

static uint32_t crc32_of(const uint8_t *p, size_t n) {
    uint32_t table[CRC_TABLE], crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < CRC_TABLE; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++) {
            table[i] = table[i] & 1 ? 0xEDB88320u ^ table[i] >> 1 : table[i] >> 1;
        }
    }
    for (size_t i = 0; i < n; i++) {
        crc = table[(crc ^ p[i]) & 0xFF] ^ crc >> 8;
    }
    return ~crc;
}

static uint8_t *put_u32(uint8_t *p, uint32_t v) {
    for (int shift = 24; shift >= 0; shift -= 8) {
        *p++ = (uint8_t)(v >> shift);
    }
    return p;
}

enum { CHUNK = 12 }; /* bytes around a chunk's data: length, type, crc */

/* data may already lie at its place, p + 8. */
static uint8_t *put_chunk(uint8_t *p, const char type[4], const void *data, size_t n) {
    put_u32(p, (uint32_t)n);
    memcpy(p + 4, type, 4);
    if (n > 0) memmove(p + 8, data, n);
    return put_u32(p + 8 + n, crc32_of(p + 4, 4 + n));
}

static size_t text_size(const char *text) {
    size_t n = text ? strlen(text) : 0;
    return n < MOST_TEXT ? n : MOST_TEXT;
}

/* iTXt: keyword, NUL, not compressed, no language, no translation, UTF-8. */
static uint8_t *put_text(uint8_t *p, const char *keyword, const char *text) {
    size_t key = strlen(keyword), n = text_size(text);
    if (n == 0) return p;
    uint8_t *data = p + 8;
    memcpy(data, keyword, key);
    memset(data + key, 0, 5);
    memcpy(data + key + 5, text, n);
    return put_chunk(p, "iTXt", data, key + 5 + n);
}

static size_t assemble(const uint8_t *rows, size_t row_bytes, int32_t width, int32_t height, const char *title,
                       const char *comment, uint8_t *out) {
    static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    uint8_t header[13] = {[8] = 8 /* bits */, [9] = 2 /* RGB */};
    put_u32(header, (uint32_t)width);
    put_u32(header + 4, (uint32_t)height);
    memcpy(out, signature, sizeof signature);
    uint8_t *p = put_chunk(out + sizeof signature, "IHDR", header, sizeof header);
    p = put_text(p, "Title", title);
    p = put_text(p, "Comment", comment);
    size_t packed = nv_zlib_pack(rows, row_bytes, p + 8);
    p = put_chunk(p, "IDAT", p + 8, packed);
    p = put_chunk(p, "IEND", NULL, 0);
    return (size_t)(p - out);
}

nabla_status nv_png_write_titled(const char *path, const uint8_t *rgb, int32_t width, int32_t height, const char *title,
                                 const char *comment, nv_error *err) {
    if (width < 1 || height < 1)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: an image of %d x %d pixels has none", path, width, height);
    size_t bytes = (size_t)width * PIXEL, rows = (1 + bytes) * (size_t)height;
    if (bytes > NV_ZLIB_MOST || rows > NV_ZLIB_MOST)
        return nv_fail(err, NABLA_UNSUPPORTED, "%s: an image of %d x %d pixels is too large; write a smaller one", path,
                       width, height);
    size_t room = nv_zlib_bound(rows) + 8 * CHUNK + text_size(title) + text_size(comment) + 64;
    uint8_t *zeros = calloc(bytes, 1), *spare = malloc(1 + bytes), *filtered = malloc(rows), *out = malloc(room);
    nabla_status status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to write %s", path);
    if (zeros && spare && filtered && out) {
        filter_rows(rgb, height, bytes, zeros, spare, filtered);
        status = nv_file_write(path, out, assemble(filtered, rows, width, height, title, comment, out), err);
    }
    free(zeros);
    free(spare);
    free(filtered);
    free(out);
    return status;
}

nabla_status nv_png_write(const char *path, const uint8_t *rgb, int32_t width, int32_t height, nv_error *err) {
    return nv_png_write_titled(path, rgb, width, height, NULL, NULL, err);
}

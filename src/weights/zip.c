/* SPDX-License-Identifier: Apache-2.0 */
#include "weights/zip.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Sizes of records without what follows them, and their signatures. */
enum {
    END_SIZE = 22,       /* 4.3.16 */
    LOCATOR_SIZE = 20,   /* 4.3.15 */
    END64_SIZE = 56,     /* 4.3.14 */
    DIRECTORY_SIZE = 46, /* 4.3.12 */
    LOCAL_SIZE = 30,     /* 4.3.7 */
    MAX_COMMENT = 65535,
    ENCRYPTED = 1, /* bit of the flags */
    ZIP64_EXTRA = 1
};
#define END_MAGIC 0x06054b50u
#define LOCATOR_MAGIC 0x07064b50u
#define END64_MAGIC 0x06064b50u
#define DIRECTORY_MAGIC 0x02014b50u
#define LOCAL_MAGIC 0x04034b50u
#define IN_ZIP64 0xffffffffu /* the 32-bit field's value is in the zip64 record */

typedef struct reader {
    const unsigned char *data;
    size_t size;
    const char *file;
    nv_error *err;
} reader;

static uint16_t u16(const unsigned char *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t u32(const unsigned char *p) {
    return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16;
}

static uint64_t u64(const unsigned char *p) {
    return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32;
}

/* Whether `length` bytes lie in the file at `offset`. */
static int within(const reader *r, uint64_t offset, uint64_t length) {
    return offset <= r->size && length <= r->size - offset;
}

/* The central directory: where it lies and how many entries it has. */
typedef struct directory {
    uint64_t offset, size, count;
} directory;

/* The archive ends in a record that a comment may follow. */
static const unsigned char *find_end(const reader *r) {
    if (r->size < END_SIZE) return NULL;
    for (size_t comment = 0; comment <= MAX_COMMENT && comment + END_SIZE <= r->size; comment++) {
        const unsigned char *end = r->data + r->size - END_SIZE - comment;
        if (u32(end) == END_MAGIC && u16(end + 20) == comment) return end;
    }
    return NULL;
}

/* Large archives have a second end record, and a locator of it in front of the first. */
static nabla_status read_end64(const reader *r, size_t end, directory *d) {
    if (end < LOCATOR_SIZE || u32(r->data + end - LOCATOR_SIZE) != LOCATOR_MAGIC) return NABLA_OK;
    const uint64_t at = u64(r->data + end - LOCATOR_SIZE + 8);
    if (!within(r, at, END64_SIZE) || u32(r->data + at) != END64_MAGIC)
        return nv_fail(r->err, NABLA_CORRUPT, "%s: its zip64 end record is not at %llu, where its locator says",
                       r->file, (unsigned long long)at);
    *d = (directory){u64(r->data + at + 48), u64(r->data + at + 40), u64(r->data + at + 32)};
    return NABLA_OK;
}

static nabla_status find_directory(const reader *r, directory *d) {
    const unsigned char *end = find_end(r);
    if (!end)
        return nv_fail(r->err, NABLA_CORRUPT, "%s is cut off: a zip archive ends in its directory, and there is none",
                       r->file);
    *d = (directory){u32(end + 16), u32(end + 12), u16(end + 10)};
    NV_TRY(read_end64(r, (size_t)(end - r->data), d));
    if (!within(r, d->offset, d->size) || d->count > d->size / DIRECTORY_SIZE)
        return nv_fail(r->err, NABLA_CORRUPT,
                       "%s: its zip directory, %llu entries in %llu bytes at %llu, does not fit the file's %zu",
                       r->file, (unsigned long long)d->count, (unsigned long long)d->size,
                       (unsigned long long)d->offset, r->size);
    return NABLA_OK;
}

/* ------------------------------------------------------------------ entries */

/* 4.5.3: those of the three fields that are full in the directory follow in this order. */
static int read_extra64(const unsigned char *extra, size_t length, uint64_t *fields[3]) {
    while (length >= 4) {
        const size_t size = u16(extra + 2);
        if (size > length - 4) return 0;
        if (u16(extra) != ZIP64_EXTRA) {
            extra += 4 + size;
            length -= 4 + size;
            continue;
        }
        size_t at = 0;
        for (int i = 0; i < 3; i++) {
            if (*fields[i] != IN_ZIP64) continue;
            if (at + 8 > size) return 0;
            *fields[i] = u64(extra + 4 + at);
            at += 8;
        }
        return 1;
    }
    return *fields[0] != IN_ZIP64 && *fields[1] != IN_ZIP64 && *fields[2] != IN_ZIP64;
}

/* The data follow the local header, whose name must be the directory's and whose extra field has its own length. */
static nabla_status locate(const reader *r, uint64_t offset, uint64_t size, nv_zip_entry *e) {
    const int length = e->name_length < 100 ? (int)e->name_length : 100;
    if (!within(r, offset, LOCAL_SIZE) || u32(r->data + offset) != LOCAL_MAGIC)
        return nv_fail(r->err, NABLA_CORRUPT, "%s: no entry \"%.*s\" begins at %llu, where the zip directory says",
                       r->file, length, e->name, (unsigned long long)offset);
    const unsigned char *local = r->data + offset;
    const uint64_t name = u16(local + 26), extra = u16(local + 28), begin = offset + LOCAL_SIZE + name + extra;
    if (name != e->name_length || !within(r, offset + LOCAL_SIZE, name) ||
        memcmp(local + LOCAL_SIZE, e->name, e->name_length) != 0)
        return nv_fail(r->err, NABLA_CORRUPT, "%s: entry \"%.*s\" has another name at its data", r->file, length,
                       e->name);
    if (!within(r, begin, size))
        return nv_fail(r->err, NABLA_CORRUPT, "%s is cut off: entry \"%.*s\" has %llu bytes at %llu, the file %zu",
                       r->file, length, e->name, (unsigned long long)size, (unsigned long long)begin, r->size);
    e->data = r->data + begin;
    e->size = (size_t)size;
    return NABLA_OK;
}

/* *at moves past the entry; rest: bytes from there to the directory's end. */
static nabla_status read_entry(const reader *r, const unsigned char **at, size_t *rest, nv_zip_entry *e) {
    const unsigned char *p = *at;
    if (*rest < DIRECTORY_SIZE || u32(p) != DIRECTORY_MAGIC)
        return nv_fail(r->err, NABLA_CORRUPT, "%s: its zip directory breaks off at %zu", r->file,
                       (size_t)(p - r->data));
    const size_t name = u16(p + 28), extra = u16(p + 30), total = DIRECTORY_SIZE + name + extra + u16(p + 32);
    if (total > *rest)
        return nv_fail(r->err, NABLA_CORRUPT, "%s: its zip directory breaks off at %zu", r->file,
                       (size_t)(p - r->data));
    uint64_t size = u32(p + 24), packed = u32(p + 20), offset = u32(p + 42);
    uint64_t *fields[3] = {&size, &packed, &offset};
    *e = (nv_zip_entry){.name = (const char *)p + DIRECTORY_SIZE, .name_length = name};
    if (!read_extra64(p + DIRECTORY_SIZE + name, extra, fields))
        return nv_fail(r->err, NABLA_CORRUPT, "%s: the zip directory's entry at %zu has a broken extra field", r->file,
                       (size_t)(p - r->data));
    e->stored = u16(p + 10) == 0 && !(u16(p + 8) & ENCRYPTED);
    if (e->stored && packed != size)
        return nv_fail(r->err, NABLA_CORRUPT, "%s: the zip directory's entry at %zu is stored, in another size",
                       r->file, (size_t)(p - r->data));
    *at = p + total;
    *rest -= total;
    return e->stored ? locate(r, offset, size, e) : NABLA_OK;
}

static int compare_name(const char *a, size_t a_length, const char *b, size_t b_length) {
    const size_t shorter = a_length < b_length ? a_length : b_length;
    const int order = shorter ? memcmp(a, b, shorter) : 0;
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_entries(const void *a, const void *b) {
    const nv_zip_entry *x = a, *y = b;
    return compare_name(x->name, x->name_length, y->name, y->name_length);
}

static nabla_status read_directory(const reader *r, const directory *d, nv_zip *zip) {
    const unsigned char *at = r->data + d->offset;
    size_t rest = (size_t)d->size;
    for (uint64_t i = 0; i < d->count; i++) {
        NV_TRY(read_entry(r, &at, &rest, &zip->entries[zip->count]));
        zip->count++;
    }
    qsort(zip->entries, zip->count, sizeof *zip->entries, compare_entries);
    for (size_t i = 1; i < zip->count; i++)
        if (compare_entries(&zip->entries[i - 1], &zip->entries[i]) == 0)
            return nv_fail(r->err, NABLA_CORRUPT, "%s holds two entries called \"%.*s\"", r->file,
                           zip->entries[i].name_length < 100 ? (int)zip->entries[i].name_length : 100,
                           zip->entries[i].name);
    return NABLA_OK;
}

nabla_status nv_zip_open(const void *data, size_t size, const char *file, nv_zip *out, nv_error *err) {
    const reader r = {data, size, file, err};
    directory d = {0};
    *out = (nv_zip){0};
    NV_TRY(find_directory(&r, &d));
    out->entries = calloc((size_t)d.count + 1, sizeof *out->entries);
    if (!out->entries)
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "%s: no memory for a directory of %llu entries", file,
                       (unsigned long long)d.count);
    nabla_status status = read_directory(&r, &d, out);
    if (status != NABLA_OK) nv_zip_close(out);
    return status;
}

void nv_zip_close(nv_zip *zip) {
    free(zip->entries);
    *zip = (nv_zip){0};
}

const nv_zip_entry *nv_zip_find(const nv_zip *zip, const char *name, size_t name_length) {
    const nv_zip_entry wanted = {.name = name, .name_length = name_length};
    return zip->count ? bsearch(&wanted, zip->entries, zip->count, sizeof wanted, compare_entries) : NULL;
}

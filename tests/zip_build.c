/* SPDX-License-Identifier: Apache-2.0 */
#include "zip_build.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS = 256 /* more than any record of an entry without its name, or of the end */ };

static unsigned char *put(unsigned char *at, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++, value >>= 8)
        *at++ = (unsigned char)value;
    return at;
}

static unsigned char *put_bytes(unsigned char *at, const void *data, size_t size) {
    if (size > 0) memcpy(at, data, size);
    return at + size;
}

static unsigned char *put_local(unsigned char *at, const zip_item *item) {
    at = put(at, 0x04034b50, 4);
    at = put(at, 20, 2);
    at = put(at, 0, 2);
    at = put(at, (unsigned)item->method, 2);
    at = put(at, 0, 8); /* time, date, checksum */
    at = put(at, item->size, 4);
    at = put(at, item->size, 4);
    at = put(at, strlen(item->name), 2);
    at = put(at, 3, 2); /* an extra field of another length than the directory's */
    at = put_bytes(at, item->name, strlen(item->name));
    at = put(at, 0, 3);
    return put_bytes(at, item->data, item->size);
}

static unsigned char *put_entry(unsigned char *at, const zip_item *item, size_t offset, int zip64) {
    const uint64_t full = 0xffffffff;
    at = put(at, 0x02014b50, 4);
    at = put(at, 20, 2);
    at = put(at, 20, 2);
    at = put(at, 0, 2);
    at = put(at, (unsigned)item->method, 2);
    at = put(at, 0, 8);
    at = put(at, zip64 ? full : item->size, 4);
    at = put(at, zip64 ? full : item->size, 4);
    at = put(at, strlen(item->name), 2);
    at = put(at, zip64 ? 33 : 0, 2);
    at = put(at, 0, 2); /* comment */
    at = put(at, 0, 8); /* disk, attributes */
    at = put(at, zip64 ? full : offset, 4);
    at = put_bytes(at, item->name, strlen(item->name));
    if (!zip64) return at;
    at = put(at, 0x4246, 2); /* some other program's field first */
    at = put(at, 1, 2);
    at = put(at, 0, 1);
    at = put(at, 1, 2);
    at = put(at, 24, 2);
    at = put(at, item->size, 8);
    at = put(at, item->size, 8);
    return put(at, offset, 8);
}

static unsigned char *put_end64(unsigned char *at, size_t count, size_t begin, size_t end) {
    at = put(at, 0x06064b50, 4);
    at = put(at, 44, 8);
    at = put(at, 0, 12); /* versions, disks */
    at = put(at, count, 8);
    at = put(at, count, 8);
    at = put(at, end - begin, 8);
    at = put(at, begin, 8);
    at = put(at, 0x07064b50, 4);
    at = put(at, 0, 4);
    at = put(at, end, 8);
    return put(at, 1, 4);
}

unsigned char *zip_build(const zip_item *items, size_t count, int zip64, size_t *size, size_t *directory) {
    size_t most = RECORDS;
    for (size_t i = 0; i < count; i++)
        most += RECORDS + 2 * strlen(items[i].name) + items[i].size;
    unsigned char *all = malloc(most), *at = all;
    size_t *offsets = calloc(count + 1, sizeof *offsets);
    if (!all || !offsets) abort();
    for (size_t i = 0; i < count; i++) {
        offsets[i] = (size_t)(at - all);
        at = put_local(at, &items[i]);
    }
    const size_t begin = (size_t)(at - all);
    for (size_t i = 0; i < count; i++)
        at = put_entry(at, &items[i], offsets[i], zip64);
    const size_t end = (size_t)(at - all);
    if (zip64) at = put_end64(at, count, begin, end);
    at = put(at, 0x06054b50, 4);
    at = put(at, 0, 4);
    at = put(at, zip64 ? 0xffff : count, 2);
    at = put(at, zip64 ? 0xffff : count, 2);
    at = put(at, zip64 ? 0xffffffff : end - begin, 4);
    at = put(at, zip64 ? 0xffffffff : begin, 4);
    at = put(at, 0, 2);
    *size = (size_t)(at - all);
    if (directory) *directory = begin;
    free(offsets);
    return all;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* FNV-1a, to tell contents apart. */
#ifndef NV_HASH_H
#define NV_HASH_H

#include <stddef.h>
#include <stdint.h>

#define NV_HASH_BEGIN 0xcbf29ce484222325u

static inline uint64_t nv_hash(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

#endif

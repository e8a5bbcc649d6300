/* SPDX-License-Identifier: Apache-2.0 */
/* A small compressor for PNG: zlib streams (RFC 1950) of one deflate block with fixed codes (RFC 1951). */
#ifndef NV_DEFLATE_H
#define NV_DEFLATE_H

#include <stddef.h>
#include <stdint.h>

enum { NV_ZLIB_MOST = 1 << 30 }; /* bytes of input */

/* The most bytes that n can become. */
size_t nv_zlib_bound(size_t n);
/* out: nv_zlib_bound(n) bytes; returns how many are used. n <= NV_ZLIB_MOST. */
size_t nv_zlib_pack(const uint8_t *in, size_t n, uint8_t *out);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* SentencePiece (C++) as C; only spiece.cpp includes its headers. No call throws. */
#ifndef NV_SPIECE_H
#define NV_SPIECE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nv_spiece nv_spiece;

/* A model from its bytes, which need not outlive the call. NULL on failure, with the reason in why. */
nv_spiece *nv_spiece_create(const void *data, size_t size, char *why, size_t why_size);
void nv_spiece_destroy(nv_spiece *s); /* NULL is fine */

int32_t nv_spiece_count(const nv_spiece *s);                 /* pieces: ids are below this */
int32_t nv_spiece_id(const nv_spiece *s, const char *piece); /* -1: there is none */

/* Writes the first `most` ids of a text and returns how many it has, or -1 on failure, with the reason in why. */
int64_t nv_spiece_encode(const nv_spiece *s, const char *text, size_t size, int32_t *ids, int64_t most, char *why,
                         size_t why_size);

#ifdef __cplusplus
}
#endif
#endif

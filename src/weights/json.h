/* SPDX-License-Identifier: Apache-2.0 */
/* Strict reading of small JSON objects: each getter checks kind and range, and fails with the file and the key. */
#ifndef NV_JSON_H
#define NV_JSON_H

#include <jansson.h>

#include "tensor/error.h"

/* An object being read; `name` is the file's, for messages. */
typedef struct nv_json {
    json_t *object;
    const char *name;
    nv_error *err;
} nv_json;

/* Duplicate keys are errors. On success the caller frees with nv_json_close. */
nabla_status nv_json_parse(const char *text, size_t size, const char *name, nv_json *out, nv_error *err);
void nv_json_close(nv_json *j);

/* Fails on a key that is none of `keys` (NULL-terminated); keys that begin with '_' are for humans and tools. */
nabla_status nv_json_known_keys(const nv_json *j, const char *const *keys);

nabla_status nv_json_i32(const nv_json *j, const char *key, int32_t least, int32_t most, int32_t *out);
/* As above, but absent or null leaves *out as it is. */
nabla_status nv_json_i32_or(const nv_json *j, const char *key, int32_t least, int32_t most, int32_t *out);
nabla_status nv_json_f32(const nv_json *j, const char *key, float least, float most, float *out);
nabla_status nv_json_bool(const nv_json *j, const char *key, int32_t *out);
/* At most size - 1 bytes. */
nabla_status nv_json_text(const nv_json *j, const char *key, char *out, size_t size);
nabla_status nv_json_array(const nv_json *j, const char *key, size_t least, size_t most, json_t **out);

/* Whether text is well-formed UTF-8: JSON holds no other. */
int nv_json_can_hold(const char *text);
/* A copy that fits, cut between two characters; "" of what JSON cannot hold. */
void nv_json_copy(char *to, size_t size, const char *from);
/* A JSON number of the shortest decimal fraction that reads back as x, not of its seventeen digits. */
json_t *nv_json_real(float x);
/* Atomically; takes over the reference to object, which may be NULL (out of memory). */
nabla_status nv_json_write(const char *path, json_t *object, nv_error *err);

#endif

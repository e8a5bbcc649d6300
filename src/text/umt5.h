/* SPDX-License-Identifier: Apache-2.0 */
/* UMT5's encoder: token ids to a context [tokens, dim]. Layers are streamed: one layer's weights at a time are
   converted from the mapped files, all texts go through it, and the next takes its place. So the largest encoder needs
   the memory of one layer, and files of any dtype are read once. Each layer is h = norm1(x);  x += (softmax(q k^T +
   bias) v) o^T      no scaling by sqrt(head_dim); bias by distance, per layer h = norm2(x);  x += (gelu(h gate^T) * (h
   up^T)) down^T  GELU by tanh without biases; norms divide by the root of the mean square. A last norm ends it. (Raffel
   et al. 2020, Chung et al. 2023) */
#ifndef NV_UMT5_H
#define NV_UMT5_H

#include "device/device.h"
#include "weights/safetensors.h"

typedef struct nv_umt5_config {
    int32_t vocab, dim, heads, head_dim, ffn_dim, layers;
    int32_t buckets, max_distance; /* of the position bias: half of the buckets are for keys after the query */
    float eps;
} nv_umt5_config;

typedef struct nv_umt5 nv_umt5;

/* weights: .safetensors or an index of shards, with the names of transformers or of Wan's own code. Sizes come from the
   tensors' shapes; config (transformers' config.json, NULL: none) adds what shapes do not say and must agree with them.
   Files stay mapped, nothing is loaded. */
nabla_status nv_umt5_open(const char *weights, const char *config, nv_umt5 **out, nv_error *err);
void nv_umt5_close(nv_umt5 *m); /* NULL is fine */
const nv_umt5_config *nv_umt5_get_config(const nv_umt5 *m);
/* A hash of its norms' weights: equal for the same encoder in files of any layout and dtype that holds them exactly. */
nabla_status nv_umt5_fingerprint(const nv_umt5 *m, uint64_t *hash, nv_error *err);
/* Another tensor of its files; NULL if there is none. */
const nv_st_entry *nv_umt5_find(const nv_umt5 *m, const char *name);

typedef struct nv_umt5_text {
    const int32_t *ids; /* [count], each below vocab; true tokens only, which gives what masking the padding would */
    int32_t count;      /* 1 or more */
    float *context;     /* [count, dim], on the host: gets the result */
} nv_umt5_text;

/* Called before each layer; non-zero cancels. */
typedef int (*nv_umt5_progress)(void *user, int32_t layer, int32_t layers);

typedef struct nv_umt5_job {
    const nv_umt5_text *texts;
    int32_t count;
    nabla_dtype compute; /* NABLA_FP32 or NABLA_BF16: of weights and products. The stream and the norms are fp32 */
    nv_umt5_progress progress; /* may be NULL */
    void *user;
} nv_umt5_job;

/* The bytes that the call below takes, mapped files not counted: weights that dev can read there need none. */
nabla_status nv_umt5_memory(const nv_umt5 *m, nv_device *dev, const nv_umt5_job *job, size_t *bytes, nv_error *err);
nabla_status nv_umt5_encode(const nv_umt5 *m, nv_device *dev, const nv_umt5_job *job, nv_error *err);

#endif

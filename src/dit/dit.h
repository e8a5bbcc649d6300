/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Wan2.1 transformer, forward and backward. One mental model: a *model* is parameters (fp32 masters, and the
 * compute copy in bf16 when asked); a *run* is everything that one batch shape needs (order, plans, activations), made
 * once and used again and again. Forward fills the run; backward walks it the other way and adds to the gradients.
 */
#ifndef NV_DIT_H
#define NV_DIT_H

#include "device/device.h"
#include "dit/dit_config.h"
#include "dit/names.h"
#include "tensor/error.h"
#include "tensor/random.h"

typedef struct nv_dit nv_dit;
typedef struct nv_dit_run nv_dit_run;

/* A trainable tensor, under its diffusers name ("blocks.0.attn1.to_q.weight"). */
typedef struct nv_parameter {
    const char *name;
    int32_t rank;
    int64_t shape[5];
    size_t count;
    float *value;    /* fp32, in the device's memory (of an offloaded block: while it is there); NULL where only what
                        products read is kept */
    float *grad;     /* NULL unless made with train */
    void *copy;      /* bf16, what products read; NULL where that is `value` */
    int32_t rounded; /* 1: products read it in bf16 */
    int32_t decay;   /* 1: weight decay applies (matrices), 0: not (biases, norms, modulation) */
    int32_t layer;   /* of the block that it is part of; -1: of none */
} nv_parameter;

typedef enum nv_dit_use {
    NV_DIT_INFER,  /* no weight is held twice: matrices are in the compute dtype alone */
    NV_DIT_TRAIN,  /* gradients too, and fp32 masters of everything; value and grad of all parameters are then each one
                      contiguous run, in the order of nv_dit_parameter() */
    NV_DIT_OFFLOAD /* as NV_DIT_INFER, with the same bits; the blocks' weights are in the host's memory (page-locked),
                      two blocks at a time on the device */
} nv_dit_use;

/* compute: NABLA_FP32 or NABLA_BF16, the dtype of products and stored activations; the residual stream, modulation,
   norms' statistics and accumulation are fp32 either way. */
nabla_status nv_dit_create(nv_device *device, const nv_dit_config *config, nabla_dtype compute, nv_dit_use use,
                           nv_dit **out, nv_error *err);
/* NABLA_UNSUPPORTED on a device where NV_DIT_OFFLOAD makes no sense. */
nabla_status nv_dit_check_offload(const nv_device *device, nv_error *err);
void nv_dit_destroy(nv_dit *m);
const nv_dit_config *nv_dit_get_config(const nv_dit *m);
size_t nv_dit_parameter_count(const nv_dit *m); /* tensors */
nv_parameter *nv_dit_parameter(nv_dit *m, size_t i);
size_t nv_dit_values(const nv_dit *m); /* numbers in all */
/* A hash of the first numbers of each parameter, all of which training and LoRA files move: equal for the same weights
   alone. Where the weights cannot be read the device's next wait tells it. */
uint64_t nv_dit_fingerprint(nv_dit *m);

/* Random start (as the public Wan code: Xavier uniform linears, zero biases, N(0, 0.02) for time and text embedders,
   modulation N(0, 1) / sqrt(dim), zero head). Then call nv_dit_update. */
void nv_dit_init(nv_dit *m, uint64_t seed);
/* Random numbers everywhere, the head too, of the sizes that a start has: for timing. All threads draw. */
nabla_status nv_dit_randomise(nv_dit *m, uint64_t seed, nv_error *err);

/* How far a long call is: `done` parts of total. Non-zero stops it with NABLA_CANCELLED. */
typedef int (*nv_dit_stop)(void *user, int32_t done, int32_t total);

/* From files of either layout (names.h); names NULL: recognised. Every tensor must be there with its shape, and under
   the prefix there must be no others: the error names the first few of both. Tensors are converted one at a time, and
   their pages given back to the file; stop (may be NULL) is asked before each. Updates the compute copy. */
nabla_status nv_dit_load(nv_dit *m, const nv_weights *w, const nv_dit_names *names, nv_dit_stop stop, void *user,
                         nv_error *err);
/* Whether nv_dit_load will find every tensor and its shape, without making a model. */
nabla_status nv_dit_check(const nv_dit_config *config, const nv_weights *w, const nv_dit_names *names, nv_error *err);
/* count numbers of a parameter from the first on, from and to the host, in whatever way it is kept; not the copy of a
   parameter that has a master. */
void nv_dit_write(nv_dit *m, const nv_parameter *p, size_t first, const float *values, size_t count);
nabla_status nv_dit_read(nv_dit *m, const nv_parameter *p, size_t first, float *values, size_t count, nv_error *err);
/* Call after the masters changed (optimizer step, load): refreshes the compute copy. */
nabla_status nv_dit_update(nv_dit *m, nv_error *err);

typedef struct nv_dit_shape {
    int32_t batch, frames, height, width; /* of the latent, before patches; any size that the patch divides */
    int32_t text_length;                  /* context rows a sample */
    int32_t tile[3];                      /* tokens a tile; 1, 8, 8 */
    float rope_scale[3];                  /* multiplies token positions an axis; 1 = as Wan. Lets a small grid span the
                                             positions of a large one */
    int32_t train;                        /* keep activations for backward */
    int32_t recompute;                    /* with train: keep of a block no more than the stream that enters it (and its
                                             plan), and run the block again within the backward pass. The same bits,
                                             for one more forward pass of all blocks but the last */
} nv_dit_shape;

/* Bytes that a run will take. */
nabla_status nv_dit_run_memory(const nv_dit *m, const nv_dit_shape *shape, size_t *bytes, nv_error *err);

/* Bytes that a model, and a run of it, will take. */
typedef struct nv_dit_needs {
    size_t model, run; /* of the device */
    size_t host;       /* of the host, where blocks are offloaded */
    size_t values;     /* nv_dit_values() */
} nv_dit_needs;
/* Without making either, and whether or not such a device can have it. */
nabla_status nv_dit_estimate(nv_device *device, const nv_dit_config *config, nabla_dtype compute, nv_dit_use use,
                             const nv_dit_shape *shape, nv_dit_needs *out, nv_error *err);
nabla_status nv_dit_run_create(nv_dit *m, const nv_dit_shape *shape, nv_dit_run **out, nv_error *err);
void nv_dit_run_destroy(nv_dit_run *run);

typedef struct nv_dit_inputs {
    const float *latent;        /* [B, in_channels, F, H, W] */
    const float *time;          /* [B], 0 .. 1000 */
    const float *context;       /* [B, text_length, text_dim] */
    const nabla_policy *policy; /* self-attention of every block; built anew for every layer, sample and head. NULL: the
                                   run's plans as they are (nv_dit_run_import) */
    nv_dit_stop stop;           /* asked before every layer of a forward pass; may be NULL */
    void *user;
} nv_dit_inputs;

/* Both passes only queue their work: what of it fails, the device's next wait tells. out: [B, out_channels, F, H, W] */
nabla_status nv_dit_forward(nv_dit *m, nv_dit_run *run, const nv_dit_inputs *in, float *out, nv_error *err);
/* After a forward with the same run (shape.train = 1), once: it uses up what the forward saved. Adds to the parameters'
   gradients. d_context (may be NULL,
   [B, text_length, text_dim]) is written. */
nabla_status nv_dit_backward(nv_dit *m, nv_dit_run *run, const nv_dit_inputs *in, const float *d_out, float *d_context,
                             nv_error *err);

/* What the last forward kept, and where the device's time since it began went: ask right after the passes. */
typedef struct nv_dit_stats {
    double density; /* mean over layers of kept token pairs / all */
    double plan_s, attention_s, products_s, other_s;
    double weights_s;                    /* waiting for offloaded weights */
    double update_s;                     /* beside the passes: NV_UPDATE */
    double product_flop, attention_flop; /* 2 a multiply-add; attention counts kept pairs only. What the backward pass
                                            computes again counts too */
} nv_dit_stats;
/* Of the last pass; the times and product_flop since the device's clock was reset, which is for the caller. Waits. */
nabla_status nv_dit_get_stats(const nv_dit_run *run, nv_dit_stats *stats, nv_error *err);
/* Gives every layer the same lists (nabla_plan_import_lists), for passes without a policy. */
nabla_status nv_dit_run_import(nv_dit_run *run, const int32_t *num, const int32_t *indices, nv_error *err);
/* The plan of a layer as the last forward left it (to draw it); layer in [0, layers). */
const nabla_plan *nv_dit_run_plan(const nv_dit_run *run, int32_t layer);

#endif

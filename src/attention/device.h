/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device does for a context. The public functions check their arguments once; what is left is done by the table
 * of the context's device, cpu/device.c or cuda/device.c. On a GPU these queue work on the context's stream and do not
 * wait, but where it says so.
 */
#ifndef NABLA_DEVICE_H
#define NABLA_DEVICE_H

#include "attention.h"
#include "order.h"
#include "plan.h"

/* Token i of one side is token raster[i] of the other. */
typedef struct nabla_permutation {
    const nabla_order *order;
    const nabla_tensor *src, *dst;
    int64_t elements; /* of one token */
    bool gather;      /* dst token i is src token raster[i]; else dst token raster[i] is src token i */
} nabla_permutation;

/* What one set of a plan keeps, in blocks and in token pairs (ragged blocks count by their size). */
typedef struct nabla_kept {
    int64_t blocks;
    double pairs;
} nabla_kept;

/* Inputs of a build, checked: tokens, or means where q is NULL. Nothing is looked at where head_dim is 0. */
typedef struct nabla_scored {
    const nabla_tensor *q, *k, *q_mean, *k_mean;
    int32_t head_dim;
    float scale;
} nabla_scored;

struct nabla_device_ops {
    const char *name; /* as sentences call it: "the CPU" */
    unsigned accept;  /* NABLA_ACCEPT_* of q, k and v */

    /* Fills the context from the options. After a failure `close` is called as well. */
    nabla_status (*open)(nabla_context *ctx, const nabla_context_options *options);
    void (*close)(nabla_context *ctx);
    nabla_status (*synchronize)(nabla_context *ctx); /* waits */
    nabla_status (*reserve)(nabla_context *ctx, size_t bytes);
    size_t (*reserved)(const nabla_context *ctx);
    nabla_status (*trim)(nabla_context *ctx);

    nabla_status (*allocate)(nabla_context *ctx, size_t bytes, void **out);
    void (*release)(nabla_context *ctx, void *memory);
    nabla_status (*upload)(nabla_context *ctx, void *to, const void *from, size_t bytes);   /* waits */
    nabla_status (*download)(nabla_context *ctx, void *to, const void *from, size_t bytes); /* waits */
    /* Whether the device can reach a tensor's data. */
    nabla_status (*check_data)(nabla_context *ctx, const char *name, const void *data);

    /* What the device keeps of an order or a plan beside the struct itself. A plan starts empty. */
    nabla_status (*order_open)(nabla_context *ctx, nabla_order *order);
    void (*order_close)(nabla_order *order);
    nabla_status (*permute)(nabla_context *ctx, const nabla_permutation *p);
    nabla_status (*merge)(nabla_context *ctx, const nabla_tensor *o_a, const nabla_tensor *lse_a,
                          const nabla_tensor *o_b, const nabla_tensor *lse_b);

    /* Bytes of the device's memory that a plan takes; `host` bytes of the processor's are its struct and offsets. */
    nabla_status (*plan_bytes)(nabla_context *ctx, const nabla_plan *plan, size_t host, size_t *bytes);
    nabla_status (*plan_open)(nabla_context *ctx, const nabla_plan_desc *desc, nabla_plan *plan);
    void (*plan_close)(nabla_plan *plan);
    nabla_status (*build_memory)(nabla_context *ctx, const nabla_plan *plan, int64_t head_dim, size_t *bytes);
    nabla_status (*build)(nabla_context *ctx, nabla_plan *plan, const nabla_policy *policy, const nabla_scored *in);
    nabla_status (*export_lists)(nabla_context *ctx, const nabla_plan *plan, int32_t *num, int32_t *indices);
    nabla_status (*import_lists)(nabla_context *ctx, nabla_plan *plan, const int32_t *num, const int32_t *indices);
    nabla_status (*export_bitmap)(nabla_context *ctx, const nabla_plan *plan, uint8_t *bytes);
    nabla_status (*import_bitmap)(nabla_context *ctx, nabla_plan *plan, const uint8_t *bytes);
    /* kept[plan->sets], and kept_mass of nabla_plan_stats; either may be NULL. Waits. */
    nabla_status (*count)(nabla_context *ctx, const nabla_plan *plan, nabla_kept *kept, double *kept_mass);
    nabla_status (*count_pairs)(nabla_context *ctx, const nabla_plan *plan, int64_t *pairs); /* [B * H]; queues */

    nabla_status (*forward_memory)(const nabla_call *call, size_t *bytes);
    nabla_status (*backward_memory)(const nabla_call *call, size_t *bytes);
    nabla_status (*forward)(const nabla_call *call);
    nabla_status (*backward)(const nabla_call *call);
};

extern const nabla_device_ops nabla_cpu_ops;
nabla_status nabla_cpu_describe(nabla_device_info *info);

/* A build without CUDA has the same three, which say so (no_cuda.c). Where there is no GPU to be used the count is 0
   and the reason goes to message. */
extern const nabla_device_ops nabla_cuda_ops;
int32_t nabla_cuda_device_count(char *message, size_t message_size);
nabla_status nabla_cuda_describe(int32_t ordinal, nabla_device_info *info, char *message, size_t message_size);

#endif

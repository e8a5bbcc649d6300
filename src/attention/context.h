/* SPDX-License-Identifier: Apache-2.0 */
/* The context from inside: its device, and the last message. */
#ifndef NABLA_CONTEXT_H
#define NABLA_CONTEXT_H

#include "kernel.h"
#include "nabla/nabla.h"

#include <stdbool.h>

typedef struct nabla_device_ops nabla_device_ops; /* device.h */

/* Where memory is. */
typedef struct nabla_place {
    nabla_device device;
    int32_t ordinal; /* which GPU; 0 on the CPU */
} nabla_place;

struct nabla_context {
    const nabla_device_ops *ops;
    nabla_place place;
    const char *level;
    int32_t threads;
    nabla_kernels kernels;         /* CPU */
    void *scratch;                 /* CPU: grows, never shrinks; every call lays it out anew */
    size_t scratch_size;           /* CPU */
    struct nabla_cuda_state *cuda; /* CUDA: cuda/state.h */
    char message[512];
};

/* Keeps the sentence (control characters, which come from foreign text, become '?') and returns status. ctx may be
   NULL. */
nabla_status nabla_fail(nabla_context *ctx, nabla_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A context of the CPU: at least `bytes` of scratch on a 64-byte boundary, contents undefined; what earlier calls got
   is gone. */
nabla_status nabla_context_scratch(nabla_context *ctx, size_t bytes, void **out);

/* The size field that a growing struct starts with. */
nabla_status nabla_check_struct(nabla_context *ctx, const char *type, size_t size, size_t expected);

/* Refuses what was made for another device; `what`: "the plan". */
nabla_status nabla_check_place(nabla_context *ctx, const char *what, nabla_place place);

/* cpu/detect.c: fills the table with `level`, or with the best where it is NULL (NABLA_CPU is read there). */
nabla_status nabla_kernels_select(const char *level, nabla_kernels *table, char *message, size_t message_size);

#endif

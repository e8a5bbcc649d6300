/* SPDX-License-Identifier: Apache-2.0 */
/* The context from inside: threads, kernel table, scratch and the last message. */
#ifndef NABLA_CONTEXT_H
#define NABLA_CONTEXT_H

#include "kernel.h"
#include "nabla/nabla.h"

struct nabla_context {
    int32_t threads;
    nabla_kernels kernels;
    void *scratch; /* grows, never shrinks; every call lays it out anew */
    size_t scratch_size;
    char message[512];
};

/* Keeps the sentence (control characters, which come from foreign text, become '?') and returns status. ctx may be
   NULL. */
nabla_status nabla_fail(nabla_context *ctx, nabla_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* At least `bytes` of scratch on a 64-byte boundary, contents undefined; what earlier calls got is gone. */
nabla_status nabla_context_scratch(nabla_context *ctx, size_t bytes, void **out);

/* The size field that a growing struct starts with. */
nabla_status nabla_check_struct(nabla_context *ctx, const char *type, size_t size, size_t expected);

/* cpu/detect.c: fills the table with `level`, or with the best where it is NULL (NABLA_CPU is read there). */
nabla_status nabla_kernels_select(const char *level, nabla_kernels *table, char *message, size_t message_size);

#endif

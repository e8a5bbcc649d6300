/* SPDX-License-Identifier: Apache-2.0 */
/* How the engine reports failure: a status, and a sentence that names the value and the remedy. */
#ifndef NV_ERROR_H
#define NV_ERROR_H

#include "nabla/nabla.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nv_error {
    nabla_status status;
    char text[512];
} nv_error;

/* Writes the sentence (printf's grammar) and returns status, so that callers `return nv_fail(err, ...)`. err may be
   NULL. The first failure wins nothing: the last call's sentence stands. */
nabla_status nv_fail(nv_error *err, nabla_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the sentence and returns its status, for callers who know more (a file's name). */
nabla_status nv_fail_in(nv_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define NV_TRY(call)                                         \
    do {                                                     \
        nabla_status nv_try_status = (call);                 \
        if (nv_try_status != NABLA_OK) return nv_try_status; \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif

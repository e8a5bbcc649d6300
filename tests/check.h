/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka, in the order that it wants its headers. */
#ifndef NABLA_CHECK_H
#define NABLA_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A call that must succeed, with `why` as its nv_error argument (tensor/error.h). */
#define GOOD(call)                                                        \
    do {                                                                  \
        nv_error good_err = {0}, *why = &good_err;                        \
        if ((call) != NABLA_OK) fail_msg("%s: %s", #call, good_err.text); \
    } while (0)

#endif

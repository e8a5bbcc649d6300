/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka, in the order that it wants its headers. */
#ifndef NABLA_CHECK_H
#define NABLA_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif

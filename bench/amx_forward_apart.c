/* SPDX-License-Identifier: Apache-2.0 */
/* A rival for amx_parts.c: the forward kernel with P between the products of S instead of amid them. */
#define AMX_MIXED 0
#define amx_forward amx_forward_apart
#define amx_forward_scratch amx_forward_apart_scratch
#include "amx_forward.c"

/* SPDX-License-Identifier: Apache-2.0 */
/* A rival for amx_parts.c: the forward kernel with O added to every 2 panels and P between the products of S. */
#define AMX_CHUNK 2
#define AMX_MIXED 0
#define amx_forward amx_forward_2_apart
#define amx_forward_scratch amx_forward_2_apart_scratch
#include "amx_forward.c"

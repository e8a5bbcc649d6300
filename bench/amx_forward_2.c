/* SPDX-License-Identifier: Apache-2.0 */
/* A rival for amx_parts.c: the forward kernel with O added to every 2 panels. */
#define AMX_CHUNK 2
#define amx_forward amx_forward_2
#define amx_forward_scratch amx_forward_2_scratch
#include "amx_forward.c"

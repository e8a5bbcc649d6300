/* SPDX-License-Identifier: Apache-2.0 */
/* A rival for amx_parts.c: the forward kernel with P amid the products of S where the library has it between them, and
   the reverse. */
#define AMX_ROWS_64 4
#define AMX_ROWS_128 0
#define amx_forward amx_forward_other
#define amx_forward_scratch amx_forward_other_scratch
#include "amx_forward.c"

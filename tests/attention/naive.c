/* SPDX-License-Identifier: Apache-2.0 */
#include "naive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

float naive_round_bf16(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if (x != x) return x;
    u += 0x7fffu + (u >> 16 & 1u);
    u &= 0xffff0000u;
    memcpy(&x, &u, sizeof x);
    return x;
}

#define REAL double
#define EXP exp
#define LOG log
#define OPERAND(x) (x)
#define STORE(x, bf16) (x)
#define NAME(x) x##_fp64
#include "naive.inc.h"
#undef REAL
#undef EXP
#undef LOG
#undef OPERAND
#undef STORE
#undef NAME

#define REAL float
#define EXP expf
#define LOG logf
#define OPERAND(x) (p->bf16 ? naive_round_bf16(x) : (x))
#define STORE(x, bf16) ((bf16) ? naive_round_bf16(x) : (x))
#define NAME(x) x##_plain
#include "naive.inc.h"

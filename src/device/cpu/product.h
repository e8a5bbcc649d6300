/* SPDX-License-Identifier: Apache-2.0 */
/* One matrix product, whoever makes it: C[m, n] (+)= A[m, k] B[k, n] + bias[n]. A and B are of one dtype with one of
   their two strides 1; C has contiguous rows and is fp32, or of the inputs' dtype where add is 0. Or `count` of them of
   one shape, whose matrices lie a_step, b_step and c_step elements apart. */
#ifndef NV_PRODUCT_H
#define NV_PRODUCT_H

#include "tensor/error.h"

typedef struct nv_product {
    int64_t m, n, k;
    nabla_dtype in, out;
    const void *a, *b;
    int64_t a_row, a_col, b_row, b_col, c_row; /* strides */
    const float *bias;                         /* NULL: none */
    void *c;
    int32_t add;
    int64_t count, a_step, b_step, c_step; /* count 1: the steps are not read */
} nv_product;

/* oneDNN behind its C API; only the files onednn* include it. A build without it has a create that gives NULL. */
typedef struct nv_onednn nv_onednn;
nabla_status nv_onednn_create(int32_t threads, nv_onednn **out, nv_error *err);
void nv_onednn_destroy(nv_onednn *d);
/* 1 if it multiplies this dtype here without converting it to another; name gets its version and kernel. */
int nv_onednn_supports(nv_onednn *d, nabla_dtype dtype, char *name, size_t size);
nabla_status nv_onednn_run(nv_onednn *d, const nv_product *p, nv_error *err);

struct nv_cpu;
/* Our own, of panels packed as fp32, and the bytes of scratch memory that it needs. */
size_t nv_own_product_bytes(const struct nv_cpu *cpu, const nv_product *p);
nabla_status nv_own_product(struct nv_cpu *cpu, const nv_product *p, nv_error *err);

#endif

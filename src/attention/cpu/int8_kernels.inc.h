/* SPDX-License-Identifier: Apache-2.0 */
/* The forward kernels in 8 bits of a level, which has defined forward(task, dtype) and scratch_size(head_dim) before it
   includes this. */
static NABLA_DECL_PACK(pack_k_fp32) {
    int8_pack_k(x, NABLA_FP32, first, last, head_dim, piece, packed);
}
static NABLA_DECL_PACK(pack_v_fp32) {
    int8_pack_v(x, NABLA_FP32, first, last, head_dim, piece, packed);
}
static NABLA_DECL_FORWARD(forward_fp32) {
    forward(task, NABLA_FP32);
}
static NABLA_DECL_PACK(pack_k_bf16) {
    int8_pack_k(x, NABLA_BF16, first, last, head_dim, piece, packed);
}
static NABLA_DECL_PACK(pack_v_bf16) {
    int8_pack_v(x, NABLA_BF16, first, last, head_dim, piece, packed);
}
static NABLA_DECL_FORWARD(forward_bf16) {
    forward(task, NABLA_BF16);
}

static nabla_forward_kernels int8_kernels(nabla_dtype dtype) {
    nabla_forward_kernels all = {.packed_size = int8_packed_size, .scratch = scratch_size};
    const int bf16 = dtype == NABLA_BF16;
    all.run = bf16 ? forward_bf16 : forward_fp32;
    all.pack_k = bf16 ? pack_k_bf16 : pack_k_fp32;
    all.pack_v = bf16 ? pack_v_bf16 : pack_v_fp32;
    return all;
}

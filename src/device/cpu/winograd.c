/* SPDX-License-Identifier: Apache-2.0 */
/* Winograd's convolutions: where they are used, the weights' sums, and tiles shared out among the threads. */
#include "device/cpu/winograd.h"
#include "device/cpu/cpu.h"
#include "device/cpu/sizes.h"
#include "tensor/bf16.h"
#include <omp.h>
#include <string.h>

/* Bytes of a task's sums of pixels: about a core's second cache. Weights pass through it once a task, so it has at
   least LEAST tiles for all of them. */
enum { TASK = 1 << 20, LEAST = 48 };

/* ------------------------------------------------------------------------------------------ where */

/* A processor with AMX has instructions for dot products of bf16, too, but they are half as fast as those of fp32,
   which are faster than oneDNN's convolution in tiles by a fifth. */
nv_winograd_kernel nv_winograd_find(const struct nv_cpu *cpu, const nv_conv_shape *s, nabla_dtype dtype) {
    const int bf16 = dtype == NABLA_BF16, whole = s->in % (bf16 ? 32 : 16) == 0 && s->out % 16 == 0; /* vectors */
    if (s->kernel != 3 || s->stride != 1 || s->pad_before != 1 || s->pad_after != 1 || !whole) return NULL;
#ifdef NV_X86
    const char *level = cpu->base.level;
    if (strcmp(level, "avx512bf16") == 0) return nv_winograd_avx512bf16.tiles[bf16];
    if (strncmp(level, "avx512", 6) == 0 || strncmp(level, "amx", 3) == 0) return nv_winograd_avx512.tiles[bf16];
#endif
    (void)cpu;
    return NULL;
}

/* ------------------------------------------------------------------------------------------ weights */

size_t nv_winograd_weights_bytes(const nv_conv_shape *s, nabla_dtype dtype) {
    return NV_WINOGRAD_SPOTS * (size_t)s->in * (size_t)s->out * nabla_dtype_size(dtype);
}

/* The sums of three weights that lie `step` apart, into four places. */
static void sums_of(const float *g, int64_t step, float *out, int64_t out_step) {
    out[0] = g[0];
    out[out_step] = 0.5f * (g[0] + g[step] + g[2 * step]);
    out[2 * out_step] = 0.5f * (g[0] - g[step] + g[2 * step]);
    out[3 * out_step] = g[2 * step];
}

/* Where the weight of `in` and `out` lies within a spot; bf16 in the pairs that a product takes at once, of channels in
   the order of the sums of pixels: of 32, the even ones come first. */
static size_t place(const nv_conv_shape *s, int32_t in, int32_t out, int bf16) {
    const int32_t pair = bf16 ? 2 : 1;
    if (bf16) in = in / 32 * 32 + in % 2 * 16 + in % 32 / 2;
    const int32_t first = out - out % NV_WINOGRAD_PANEL, left = s->out - first;
    const int32_t width = left < NV_WINOGRAD_PANEL ? left : NV_WINOGRAD_PANEL;
    return (size_t)first * (size_t)s->in + (size_t)(in / pair * pair) * (size_t)width + (size_t)((out - first) * pair) +
           (size_t)(in % pair);
}

void nv_winograd_weights(const nv_conv_shape *s, nabla_dtype dtype, const float *values, void *u) {
    const int bf16 = dtype == NABLA_BF16;
    const size_t spot = (size_t)s->in * (size_t)s->out;
    for (int32_t out = 0; out < s->out; out++)
        for (int32_t in = 0; in < s->in; in++) {
            const float *g = values + (int64_t)out * 9 * s->in + in;
            const size_t at = place(s, in, out, bf16);
            float half[12], all[16]; /* sums over lines [4, 3]; of those over columns [4, 4] */
            for (int i = 0; i < 3; i++)
                sums_of(g + i * s->in, 3 * s->in, half + i, 3);
            for (int i = 0; i < 4; i++)
                sums_of(half + 3 * i, 1, all + 4 * i, 1);
            for (size_t i = 0; i < NV_WINOGRAD_SPOTS; i++)
                if (bf16)
                    ((nv_bf16 *)u)[i * spot + at] = nv_bf16_from_float(all[i]);
                else
                    ((float *)u)[i * spot + at] = all[i];
        }
}

/* ------------------------------------------------------------------------------------------ running */

/* Tiles of a task: of few tiles each thread gets some. */
static int64_t task_of(const nv_winograd_job *j, int64_t all, int32_t threads, size_t size) {
    const int64_t tile = NV_WINOGRAD_SPOTS * j->frames * (int64_t)j->in * (int64_t)size, fit = TASK / tile,
                  share = (all + threads - 1) / threads, most = fit > LEAST ? fit : LEAST;
    return nv_round_up(most < share ? most : share, NV_WINOGRAD_ROWS);
}

nabla_status nv_winograd_run(struct nv_cpu *cpu, nv_winograd_kernel kernel, nabla_dtype dtype, nv_winograd_job *j,
                             nv_error *err) {
    const size_t size = nabla_dtype_size(dtype);
    const int32_t threads = cpu->base.threads;
    const int64_t all = (int64_t)((j->height + 1) / 2) * ((j->width + 1) / 2);
    void *scratch;
    j->tiles = task_of(j, all, threads, size);
    const size_t bytes = NV_WINOGRAD_SPOTS * (nv_winograd_inputs(j, size) + nv_winograd_outputs(j));
    NV_TRY(nv_cpu_scratch(cpu, NV_SCRATCH_COLUMNS, (size_t)threads * bytes, &scratch, err));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t first = 0; first < all; first += j->tiles) {
        const int64_t last = first + j->tiles < all ? first + j->tiles : all;
        unsigned char *own = (unsigned char *)scratch + (size_t)omp_get_thread_num() * bytes;
        kernel(j, first, last, own);
    }
    return NABLA_OK;
}

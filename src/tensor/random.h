/* SPDX-License-Identifier: Apache-2.0 */
/* Two sources of random numbers: torch's CPU generator, so that a seed means the same noise as elsewhere, and a
   counter-based one for training, where any sample of any step can be drawn without drawing those before it. */
#ifndef NV_RANDOM_H
#define NV_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* out[n] = torch.randn(n, generator=torch.Generator('cpu').manual_seed(seed)), fp32, to about 1e-6. n >= 1. */
void nv_torch_randn(uint64_t seed, float *out, size_t n);

/* Philox 4x32-10 (Salmon et al. 2011) keyed by a seed; `stream` separates uses (step, sample, purpose ...). */
typedef struct nv_philox {
    uint32_t key[2];
    uint32_t counter[4]; /* [0..1] position, [2..3] stream */
    uint32_t block[4];
    int used;
} nv_philox;

nv_philox nv_philox_at(uint64_t seed, uint64_t stream);
void nv_philox_seek(nv_philox *g, uint64_t block); /* of four words; 0: where nv_philox_at begins */
uint32_t nv_philox_u32(nv_philox *g);
float nv_philox_uniform(nv_philox *g);              /* [0, 1), 24 bits */
uint32_t nv_philox_below(nv_philox *g, uint32_t n); /* uniform in [0, n), n >= 1, without bias */

/* N(0, 1), Box-Muller; the same bits on every machine. Normals are made of whole blocks of four words: what is left of
   the current block is dropped, and n normals take (n + 3) / 4 blocks. out[i] depends on i only, never on n. */
void nv_philox_normal(nv_philox *g, float *out, size_t n);

#endif

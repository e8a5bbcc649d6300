/* SPDX-License-Identifier: Apache-2.0 */
/* Philox 4x32-10: "Parallel random numbers: as easy as 1, 2, 3", Salmon, Moraes, Dror and Shaw, SC 2011. */
#include <string.h>

#include "tensor/philox.h"
#include "tensor/random.h"

/* Blocks made at once: the loops over lanes have no dependency, so that compilers vectorise them. */
enum { LANES = 64, WORDS = NV_PHILOX_WORDS };

nv_philox nv_philox_at(uint64_t seed, uint64_t stream) {
    nv_philox g = {.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                   .counter = {0, 0, (uint32_t)stream, (uint32_t)(stream >> 32)},
                   .used = WORDS};
    return g;
}

static uint64_t position_of(const nv_philox *g) {
    return (uint64_t)g->counter[1] << 32 | g->counter[0];
}

static void set_position(nv_philox *g, uint64_t position) {
    g->counter[0] = (uint32_t)position;
    g->counter[1] = (uint32_t)(position >> 32);
}

void nv_philox_seek(nv_philox *g, uint64_t block) {
    set_position(g, block);
    g->used = WORDS;
}

uint32_t nv_philox_u32(nv_philox *g) {
    if (g->used == WORDS) {
        nv_philox_block(g->counter, g->key, g->block);
        set_position(g, position_of(g) + 1);
        g->used = 0;
    }
    return g->block[g->used++];
}

float nv_philox_uniform(nv_philox *g) {
    return (float)(nv_philox_u32(g) >> 8) * 0x1p-24f;
}

/* Lemire 2019, "Fast random integer generation in an interval": the high word of a product, rejecting the few low
   words that would make some results likelier. */
uint32_t nv_philox_below(nv_philox *g, uint32_t n) {
    uint64_t product = (uint64_t)nv_philox_u32(g) * n;
    if ((uint32_t)product < n) {
        uint32_t reject = (0u - n) % n;
        while ((uint32_t)product < reject) {
            product = (uint64_t)nv_philox_u32(g) * n;
        }
    }
    return (uint32_t)(product >> 32);
}

/* ------------------------------------------------------------------ many blocks at once */

/* The blocks at position, position + 1, ... as words[word][lane]. */
static void blocks_at(const nv_philox *g, uint64_t position, uint32_t words[WORDS][LANES]) {
    for (int i = 0; i < LANES; i++) {
        uint64_t p = position + (uint64_t)i;
        words[0][i] = (uint32_t)p;
        words[1][i] = (uint32_t)(p >> 32);
        words[2][i] = g->counter[2];
        words[3][i] = g->counter[3];
    }
    uint32_t k0 = g->key[0], k1 = g->key[1];
    for (int r = 0; r < NV_PHILOX_ROUNDS; r++) {
        for (int i = 0; i < LANES; i++)
            nv_philox_round(&words[0][i], &words[1][i], &words[2][i], &words[3][i], k0, k1);
        nv_philox_next_key(&k0, &k1);
    }
}

/* Words 0, 1 make one pair of normals and words 2, 3 the other. */
static void normals_of_blocks(uint32_t words[WORDS][LANES], float *out) {
    float normal[WORDS][LANES];
    for (int pair = 0; pair < WORDS; pair += 2) {
        for (int i = 0; i < LANES; i++)
            nv_philox_pair(words[pair][i], words[pair + 1][i], &normal[pair][i], &normal[pair + 1][i]);
    }
    for (int i = 0; i < LANES; i++) {
        for (int w = 0; w < WORDS; w++) {
            out[i * WORDS + w] = normal[w][i];
        }
    }
}

void nv_philox_normal(nv_philox *g, float *out, size_t n) {
    uint32_t words[WORDS][LANES];
    float rest[LANES * WORDS];
    uint64_t position = position_of(g);
    for (size_t done = 0; done < n; done += LANES * WORDS) {
        size_t left = n - done;
        blocks_at(g, position + done / WORDS, words);
        if (left >= LANES * WORDS) {
            normals_of_blocks(words, out + done);
        } else {
            normals_of_blocks(words, rest);
            memcpy(out + done, rest, left * sizeof *out);
        }
    }
    set_position(g, position + n / WORDS + (n % WORDS != 0));
    g->used = WORDS;
}

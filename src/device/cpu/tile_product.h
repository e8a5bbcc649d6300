/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Matrix products in bf16 on the tiles of AMX. Both operands are packed into strips: 32 rows of A, or 32 columns of B,
 * by all of k, two tiles of 1 KB for each 32 of k; what lies past an end is zero. A strip of A by a strip of B is a
 * square of C: 32 x 32 floats, as 2 x 2 tiles.
 *
 * Our own because oneDNN's, packed weights or not, are at a sixth to a third of what a core's tiles can do, and
 * most of a sparse block's time is products: docs/amx.md.
 */
#ifndef NV_TILE_PRODUCT_H
#define NV_TILE_PRODUCT_H

#include "device/cpu/product.h"
#include "device/device.h"

enum {
    NV_STRIP = 32,         /* rows of A or columns of B, and how much of k a step takes */
    NV_STEP_BYTES = 2048,  /* of a strip */
    NV_SQUARE_BYTES = 4096 /* of a square */
};

/* What becomes one strip. */
typedef struct nv_tile_source {
    const void *data; /* bf16 */
    int64_t across;   /* numbers from a row of A, or a column of B, to the next; this or `along` is 1 */
    int64_t along;    /* from one of k to the next */
    int32_t count;    /* rows or columns, at most NV_STRIP */
    int64_t k;
} nv_tile_source;

/* Squares of own strips by one strip of the other operand, and where they go: C (+)= square + bias, or act(square +
   bias). */
typedef struct nv_tile_done {
    const char *squares;
    int32_t own_is_b;
    int32_t rows, cols; /* of all: they lie below each other, or side by side where own strips are B's */
    void *c;
    nabla_dtype dtype;
    int64_t row;       /* numbers of C from a row to the next */
    const float *bias; /* of its columns; NULL: none */
    int32_t add;
    const nv_activation *act; /* NULL: none */
    int32_t streamed;         /* past the caches */
} nv_tile_done;

/* `own` strips of one operand, which lie in the second-level cache, by one strip of the other, over `steps` of k. */
typedef struct nv_tile_block {
    const char *own, *other; /* packed */
    const char *next;        /* what the block after this one has for `other`, to be fetched */
    int64_t own_bytes;       /* from a strip to the next */
    int64_t steps;
    int32_t strips, own_is_b;
    char *squares;            /* of each own strip one */
    int32_t fresh;            /* squares begin with 0, whatever is there */
    const char *coming;       /* its squares, where they wait for more; NULL: none do */
    const nv_tile_done *done; /* what is stored meanwhile; NULL: nothing */
} nv_tile_block;

/* Strips and squares lie on boundaries of 64 bytes. */
typedef struct nv_tile_kernels {
    void (*begin)(void); /* of a thread's work with tiles */
    void (*end)(void);
    void (*pack_a)(const nv_tile_source *from, char *strip);
    void (*pack_b)(const nv_tile_source *from, char *strip);
    void (*multiply)(const nv_tile_block *x);
    void (*store)(const nv_tile_done *done);
    int64_t strips_bytes; /* of packed strips that are at hand at a time: a task's own, a shared one and the next; two
                             thirds of a second-level cache */
    int64_t streamed;     /* a C of more bytes is stored past the caches */
} nv_tile_kernels;
#ifdef NV_X86
extern const nv_tile_kernels nv_tile_kernels_amx; /* for processors with AMX_BF16 whose tiles the process may use */
#endif

/* p's inputs are bf16. act: of the sums, bias included; NULL: none. memory: of as many bytes as the first one says,
   64-byte aligned; the product is of the same bits for any number of threads. */
size_t nv_tile_product_bytes(const nv_tile_kernels *kernels, const nv_product *p, int32_t threads);
void nv_tile_product(const nv_tile_kernels *kernels, const nv_product *p, const nv_activation *act, int32_t threads,
                     void *memory);

#endif

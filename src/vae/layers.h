/* SPDX-License-Identifier: Apache-2.0 */
/* The VAE from inside: two stacks of layers, and a run of one over frames of one size. */
#ifndef NV_VAE_LAYERS_H
#define NV_VAE_LAYERS_H

#include "tensor/arena.h"
#include "vae/vae.h"

enum { NV_VAE_TAPS = 3 }; /* frames that a convolution in time sees */

/* A causal convolution: weights a tap in time (the last sees the current frame), and for `parts` runs of output
   channels that become frames of their own. */
typedef struct nv_vae_conv {
    nv_conv_shape shape; /* of one part */
    int32_t taps, parts;
    nv_conv_weights *weights[2][NV_VAE_TAPS];
    float *bias; /* [parts * shape.out] */
} nv_vae_conv;

/* y = x w^T + bias over the pixels, fp32. */
typedef struct nv_vae_linear {
    int32_t in, out;
    float *weight, *bias;
} nv_vae_linear;

typedef enum nv_vae_kind {
    NV_VAE_CONV,      /* conv[0] */
    NV_VAE_RESIDUAL,  /* norm, SiLU, conv[0], norm, SiLU, conv[1], added to x or, where channels change, linear[0](x) */
    NV_VAE_ATTENTION, /* norm, linear[0] to q, k, v, one head within the frame, linear[1], added to x */
    NV_VAE_UP,        /* conv[1] in time where `time`: two frames of one; each pixel four times; conv[0] */
    NV_VAE_DOWN,      /* conv[0] of stride 2; conv[1] in time where `time`: one frame of two */
    NV_VAE_HEAD       /* norm, SiLU, conv[0] */
} nv_vae_kind;

typedef struct nv_vae_layer {
    nv_vae_kind kind;
    int32_t in, out, time;
    char name[2][48]; /* in the two layouts; see load.c */
    float *gamma[2];
    nv_vae_conv conv[2];
    nv_vae_linear linear[2];
} nv_vae_layer;

enum { NV_VAE_MOST_LAYERS = NV_VAE_MOST_LEVELS * (NV_VAE_MOST_BLOCKS + 2) + 5 };

typedef struct nv_vae_stack {
    nv_vae_layer layers[NV_VAE_MOST_LAYERS];
    int32_t count;
} nv_vae_stack;

struct nv_vae {
    nv_device *device;
    nv_vae_config config;
    nabla_dtype compute;
    nv_vae_stack decoder, encoder;
    nv_vae_linear quant, post_quant;
};

/* The layers of a part, without weights. */
void nv_vae_build_decoder(const nv_vae_config *c, nv_vae_stack *out);
void nv_vae_build_encoder(const nv_vae_config *c, nv_vae_stack *out);
/* load.c: everything that `parts` names; released with the rest. */
nabla_status nv_vae_load(nv_vae *vae, int parts, const nv_weights *file, nv_error *err);

/* ------------------------------------------------------------------ running */

/* What a layer remembers, in the device's memory. */
typedef struct nv_vae_state {
    int32_t height, width; /* of its input */
    void *slots[2][2];     /* of conv[i]: the two inputs before, the older first, in the compute dtype */
    int32_t spare[2]; /* of conv[i]: where its newest input goes; then that is the second slot, and the first spare */
    int64_t seen[2];  /* frames that conv[i] has seen */
    float *y;         /* output, where x cannot be it */
    float *halves[2]; /* the two frames that UP makes of one */
} nv_vae_state;

typedef nabla_status (*nv_vae_deliver)(void *user, float *y, nv_error *err);

/* Memory for one frame, of all layers whose frames are of its size. */
typedef struct nv_vae_spare {
    int64_t count; /* numbers */
    void *frame;
} nv_vae_spare;

enum { NV_VAE_MOST_SPARES = 2 * NV_VAE_MOST_LEVELS + 2 };

typedef struct nv_vae_run {
    nv_vae *vae;
    const nv_vae_stack *stack;
    nv_vae_state states[NV_VAE_MOST_LAYERS];
    nv_vae_spare spares[NV_VAE_MOST_SPARES];
    int32_t spare_count;
    float *x; /* input frame [height * width, channels of the first layer] */
    void *scratch;
    size_t scratch_bytes, bytes; /* of scratch, of everything */
    void *memory;
    int32_t height, width, out_height, out_width;
    nv_vae_stop stop;
    nv_vae_deliver deliver; /* gets every frame that leaves the last layer */
    void *user;             /* of deliver */
    void *stop_user;
} nv_vae_run;

/* Sizes, then with `take` the memory too. The caller sets the callbacks and closes. */
nabla_status nv_vae_run_open(nv_vae *vae, const nv_vae_stack *stack, int32_t height, int32_t width, int take,
                             nv_vae_run *run, nv_error *err);
void nv_vae_run_close(nv_vae_run *run);
void nv_vae_run_restart(nv_vae_run *run); /* forgets all frames */
/* The frame in run->x through all layers. */
nabla_status nv_vae_run_frame(nv_vae_run *run, nv_error *err);
nabla_status nv_vae_linear_apply(nv_vae *vae, const nv_vae_linear *l, const float *x, int64_t rows, float *y,
                                 nv_error *err);

/* ------------------------------------------------------------------ tiles */

/* Puts tiles together, each frame blended with the tiles above and to the left as diffusers' tiled_decode does. */
typedef struct nv_vae_tiles {
    int32_t frames, height, width; /* of the whole, in pixels */
    int32_t side, step;            /* of tiles; multiples of the space factor */
    int32_t down, across;
    float *whole;          /* [frames, 3, height, width] */
    float *above, *before; /* lower edges of the tiles of the row above; right edge of the one to the left */
} nv_vae_tiles;

size_t nv_vae_tiles_bytes(const nv_vae_tiles *t);
nabla_status nv_vae_tiles_open(nv_vae_tiles *t, nv_error *err);
void nv_vae_tiles_close(nv_vae_tiles *t);
/* Sides of tile (i, j), cut at the whole's. */
int32_t nv_vae_tile_side(int32_t first, int32_t side, int32_t all);
/* One frame [3, h, w] of tile (i, j), which is changed. */
void nv_vae_tiles_put(nv_vae_tiles *t, int32_t i, int32_t j, int32_t frame, float *tile);

#endif

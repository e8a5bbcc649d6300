/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of options, the same for the command line's flags and for the engine that they go to. */
#ifndef NV_LIMITS_H
#define NV_LIMITS_H

#include "train/draw.h"

enum {
    NV_MOST_SIDE = 65536, /* pixels */
    NV_MOST_FRAMES = 65536,
    NV_MOST_TRAINING_FRAMES = 1024,
    NV_MOST_SAMPLE_STEPS = 1000,
    NV_MOST_FPS = 240,
    NV_MOST_CRF = 51,
    NV_MOST_SAMPLES = (1 << NV_DRAW_SAMPLE_BITS) - 1, /* clips of a batch or a folder, prompts: each has its numbers */
    NV_MOST_PATCH = 64,
    NV_LEAST_DIM = 16,
    NV_MOST_DIM = 16384,
    NV_MOST_HEADS = 256,
    NV_MOST_LAYERS = 256,
    NV_LEAST_FFN_DIM = 8,
    NV_MOST_FFN_DIM = 65536,
    NV_MOST_POSITION_GRID = 512
};

#define NV_MOST_STEPS ((int64_t)1 << (NV_DRAW_STEP_BITS - 1))
#define NV_MOST_GUIDANCE 100.0
#define NV_LEAST_SHIFT 1e-3
#define NV_MOST_SHIFT 1e3
#define NV_LEAST_LR 1e-12
#define NV_MOST_LR 1e3
#define NV_MOST_WEIGHT_DECAY 1e3
#define NV_MOST_BETA 0.99999
#define NV_MOST_CLIP 1e9
#define NV_MOST_EMA 0.999999

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "case.h"

#define GRID(f, h, w) \
    .grid = {.frames = f, .height = h, .width = w, .tile_frames = 1, .tile_height = 8, .tile_width = 8}
#define TILES(f, h, w, tf, th, tw) \
    .grid = {.frames = f, .height = h, .width = w, .tile_frames = tf, .tile_height = th, .tile_width = tw}
/* In every dtype; fp16 is for GPUs. */
#define EACH(...)                                                             \
    {__VA_ARGS__, .dtype = NABLA_FP32}, {__VA_ARGS__, .dtype = NABLA_BF16}, { \
        __VA_ARGS__, .dtype = NABLA_FP16                                      \
    }

const attention_case attention_cases[] = {
    /* sizes */
    EACH(.name = "one block", .batch = 1, .heads = 1, .q_tokens = 64, .k_tokens = 64, .head_dim = 64,
         .policy = "dense"),
    EACH(.name = "one token", .batch = 1, .heads = 1, .q_tokens = 1, .k_tokens = 1, .head_dim = 16, .policy = "dense"),
    EACH(.name = "dense", .batch = 2, .heads = 2, .q_tokens = 256, .k_tokens = 256, .head_dim = 64, .policy = "dense"),
    EACH(.name = "cross", .batch = 2, .heads = 3, .q_tokens = 200, .k_tokens = 77, .head_dim = 64, .policy = "dense"),
    EACH(.name = "more keys than queries", .batch = 1, .heads = 2, .q_tokens = 17, .k_tokens = 333, .head_dim = 32,
         .density = 0.5, .seed = 3),
    /* head sizes: every residue that a vector kernel may treat apart */
    EACH(.name = "D=16", .batch = 1, .heads = 2, .q_tokens = 192, .k_tokens = 192, .head_dim = 16, .density = 0.5),
    EACH(.name = "D=24", .batch = 1, .heads = 2, .q_tokens = 150, .k_tokens = 192, .head_dim = 24, .density = 0.5),
    EACH(.name = "D=40", .batch = 1, .heads = 1, .q_tokens = 130, .k_tokens = 200, .head_dim = 40, .density = 0.5),
    EACH(.name = "D=72", .batch = 1, .heads = 1, .q_tokens = 128, .k_tokens = 130, .head_dim = 72, .density = 0.6),
    EACH(.name = "D=80", .batch = 1, .heads = 1, .q_tokens = 128, .k_tokens = 192, .head_dim = 80, .density = 0.6),
    EACH(.name = "D=96", .batch = 1, .heads = 1, .q_tokens = 192, .k_tokens = 128, .head_dim = 96, .density = 0.6),
    /* and more key blocks than level amx walks at a time, by query blocks that walk together */
    EACH(.name = "D=128", .batch = 1, .heads = 1, .q_tokens = 1090, .k_tokens = 1100, .head_dim = 128, .density = 0.6),
    EACH(.name = "D=136", .batch = 1, .heads = 1, .q_tokens = 128, .k_tokens = 190, .head_dim = 136, .density = 0.7),
    EACH(.name = "D=200", .batch = 1, .heads = 1, .q_tokens = 100, .k_tokens = 128, .head_dim = 200, .density = 0.7),
    EACH(.name = "D=248", .batch = 1, .heads = 1, .q_tokens = 70, .k_tokens = 70, .head_dim = 248, .policy = "dense"),
    EACH(.name = "D=256", .batch = 1, .heads = 1, .q_tokens = 128, .k_tokens = 192, .head_dim = 256, .density = 0.7),
    /* policies and ragged grids */
    EACH(.name = "nabla", .batch = 1, .heads = 3, GRID(3, 16, 16), .head_dim = 64, .policy = "nabla-0.5"),
    EACH(.name = "union, ragged", .batch = 2, .heads = 2, GRID(2, 12, 20), .head_dim = 48,
         .policy = "nabla-0.3_sta-1-3-3"),
    EACH(.name = "sta, ragged", .batch = 1, .heads = 2, GRID(3, 9, 17), .head_dim = 64, .policy = "sta-3-1-3"),
    EACH(.name = "blocks of 1 to 7 tokens", .batch = 1, .heads = 2, TILES(3, 5, 9, 1, 2, 4), .head_dim = 32,
         .density = 0.4),
    EACH(.name = "blocks of one token", .batch = 1, .heads = 1, TILES(1, 8, 9, 1, 1, 1), .head_dim = 32,
         .density = 0.5),
    EACH(.name = "blocks longer than 64", .batch = 1, .heads = 2, TILES(4, 12, 13, 2, 8, 8), .head_dim = 64,
         .density = 0.6),
    EACH(.name = "more blocks than a word has bits", .batch = 1, .heads = 2, TILES(5, 12, 12, 1, 2, 2), .head_dim = 32,
         .policy = "nabla-0.4_sta-3-1-1"),
    EACH(.name = "frames of one tile", .batch = 1, .heads = 2, GRID(7, 8, 8), .head_dim = 64, .policy = "sta-3-1-1"),
    /* empty rows and columns */
    EACH(.name = "nothing kept", .batch = 1, .heads = 2, .q_tokens = 130, .k_tokens = 130, .head_dim = 64,
         .density = 0.0),
    EACH(.name = "mostly empty", .batch = 2, .heads = 2, .q_tokens = 400, .k_tokens = 300, .head_dim = 64,
         .density = 0.1),
    /* values */
    EACH(.name = "large logits", .batch = 1, .heads = 2, .q_tokens = 256, .k_tokens = 256, .head_dim = 64,
         .density = 0.6, .input = INPUT_LARGE),
    EACH(.name = "logits of 1e8", .batch = 1, .heads = 2, .q_tokens = 150, .k_tokens = 256, .head_dim = 64,
         .density = 0.6, .scale = 1e7f, .lse_only = true),
    /* what the softmax is measured by moves now and then, and probabilities are far above it between */
    EACH(.name = "rising logits", .batch = 1, .heads = 2, .q_tokens = 150, .k_tokens = 700, .head_dim = 64,
         .density = 0.7, .input = INPUT_RISING),
    EACH(.name = "ties", .batch = 1, .heads = 2, GRID(2, 16, 16), .head_dim = 64, .policy = "nabla-0.6",
         .input = INPUT_TIES),
    EACH(.name = "NaN in a block that one row keeps", .batch = 1, .heads = 2, .q_tokens = 300, .k_tokens = 333,
         .head_dim = 64, .density = 0.6, .input = INPUT_NAN),
    EACH(.name = "NaN, short blocks", .batch = 1, .heads = 1, TILES(2, 9, 11, 1, 4, 8), .head_dim = 40, .density = 0.6,
         .input = INPUT_NAN),
    EACH(.name = "a key that scores -inf", .batch = 1, .heads = 2, .q_tokens = 150, .k_tokens = 200, .head_dim = 64,
         .density = 0.6, .input = INPUT_INFINITE),
    /* layouts, factors, dtypes of results */
    EACH(.name = "heads outermost", .batch = 2, .heads = 2, GRID(2, 9, 10), .head_dim = 64, .density = 0.5,
         .layout = LAYOUT_BHSD),
    EACH(.name = "gaps", .batch = 2, .heads = 2, GRID(2, 9, 10), .head_dim = 56, .density = 0.5,
         .layout = LAYOUT_PADDED),
    EACH(.name = "alpha, beta, scale", .batch = 1, .heads = 2, .q_tokens = 190, .k_tokens = 190, .head_dim = 64,
         .density = 0.5, .alpha = 0.5f, .beta = -1.5f, .scale = 0.3f),
    EACH(.name = "narrow gradients", .batch = 1, .heads = 2, .q_tokens = 190, .k_tokens = 190, .head_dim = 64,
         .density = 0.5, .grad_narrow = true),
    EACH(.name = "o in fp32", .batch = 1, .heads = 2, .q_tokens = 190, .k_tokens = 190, .head_dim = 64, .density = 0.5,
         .o_fp32 = true),
    /* more heads than threads, so that one thread owns a head, with uneven work */
    EACH(.name = "many heads", .batch = 3, .heads = 4, .q_tokens = 150, .k_tokens = 150, .head_dim = 32,
         .density = 0.5),
    /* 3,600 pairs of blocks in one head, more than the CPU keeps dS of at a time with 2 or 3 threads */
    EACH(.name = "many pairs of tiny blocks", .batch = 1, .heads = 1, TILES(1, 6, 10, 1, 1, 1), .head_dim = 16,
         .policy = "dense"),
};

const int attention_case_count = sizeof attention_cases / sizeof attention_cases[0];

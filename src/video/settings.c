/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a training run: defaults, ranges, and the text by which a resumed run knows that it is the same one. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "video/limits.h"
#include "video/trainer.h"

nabla_train_options nabla_train_options_default(void) {
    return (nabla_train_options){
        .size = sizeof(nabla_train_options),
        .data = "clips",
        .policy = "dense",
        .width = 192,
        .height = 192,
        .frames = 8,
        .patch = 8,
        .dim = 192,
        .heads = 3,
        .layers = 6,
        .ffn_dim = 768,
        .position_grid = 24,
        .steps = 1000,
        .batch = 16,
        .lr = 1e-3f,
        .weight_decay = 0.01f,
        .beta1 = 0.9f,
        .beta2 = 0.95f,
        .clip = 1.0f,
        .warmup = 100,
        .final_lr = 0.1f,
        .ema = 0.999f,
        .caption_dropout = 0.1f,
        .shift = 1.0f,
        .noise = "uniform",
        .weighting = "plain",
        .save_every = 500,
        .log_every = 10,
        .fps = 8,
        .sample_steps = 20,
        .guidance = 3.0f,
        .accumulate = 1,
    };
}

typedef struct range {
    const char *name;
    double value, low, high;
} range;

static nabla_status check_ranges(const range *ranges, size_t count, nv_error *err) {
    for (size_t i = 0; i < count; i++) {
        const range *r = &ranges[i];
        /* Limits rounded as the options are; NaN fails. */
        if (r->value >= (double)(float)r->low && r->value <= (double)(float)r->high) continue;
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s is %g: choose %g to %g", r->name, r->value, r->low, r->high);
    }
    return NABLA_OK;
}

static nabla_status check_model(const nabla_train_options *o, nv_error *err) {
    const range ranges[] = {
        {"patch", o->patch, 1, NV_MOST_PATCH},
        {"dim", o->dim, NV_LEAST_DIM, NV_MOST_DIM},
        {"heads", o->heads, 1, NV_MOST_HEADS},
        {"layers", o->layers, 1, NV_MOST_LAYERS},
        {"ffn_dim", o->ffn_dim, NV_LEAST_FFN_DIM, NV_MOST_FFN_DIM},
        {"position_grid", o->position_grid, 0, NV_MOST_POSITION_GRID},
    };
    NV_TRY(check_ranges(ranges, sizeof ranges / sizeof *ranges, err));
    int32_t head_dim = o->dim / o->heads;
    if (o->dim % o->heads != 0 || head_dim % 8 != 0 || head_dim < 16 || head_dim > 256)
        return nv_fail(
            err, NABLA_INVALID_ARGUMENT,
            "dim %d over %d heads: a head must have 16 to 256 numbers in steps of 8, as 64 of dim 192 with 3 "
            "heads",
            o->dim, o->heads);
    return NABLA_OK;
}

nabla_status nv_settings_check(const nabla_train_options *o, nv_error *err) {
    const double many = (double)NV_MOST_STEPS;
    const range ranges[] = {
        {"width", o->width, 1, NV_MOST_SIDE},
        {"height", o->height, 1, NV_MOST_SIDE},
        {"frames", o->frames, 1, NV_MOST_TRAINING_FRAMES},
        {"steps", (double)o->steps, 1, many},
        {"batch", o->batch, 1, NV_MOST_SAMPLES},
        {"accumulate", o->accumulate, 1, NV_MOST_SAMPLES},
        {"lr", o->lr, NV_LEAST_LR, NV_MOST_LR},
        {"weight_decay", o->weight_decay, 0, NV_MOST_WEIGHT_DECAY},
        {"beta1", o->beta1, 0, NV_MOST_BETA},
        {"beta2", o->beta2, 0, NV_MOST_BETA},
        {"clip", o->clip, 0, NV_MOST_CLIP},
        {"warmup", (double)o->warmup, 0, many},
        {"final_lr", o->final_lr, 0, 1},
        {"ema", o->ema, 0, NV_MOST_EMA},
        {"caption_dropout", o->caption_dropout, 0, 1},
        {"shift", o->shift, NV_LEAST_SHIFT, NV_MOST_SHIFT},
        {"save_every", (double)o->save_every, 1, many},
        {"log_every", (double)o->log_every, 1, many},
        {"fps", o->fps, 1, NV_MOST_FPS},
        {"sample_steps", o->sample_steps, 1, NV_MOST_SAMPLE_STEPS},
        {"guidance", o->guidance, 0, NV_MOST_GUIDANCE},
    };
    if (!o->output || !*o->output)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "no output folder: say where the model should go");
    NV_TRY(check_ranges(ranges, sizeof ranges / sizeof *ranges, err));
    if ((int64_t)o->batch * o->accumulate > NV_MOST_SAMPLES)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "batch %d times accumulate %d: a step takes at most %d clips",
                       o->batch, o->accumulate, NV_MOST_SAMPLES);
    return o->model ? NABLA_OK : check_model(o, err);
}

nabla_status nv_settings_format(const nabla_train_options *o, nabla_dtype compute, char text[NV_SETTINGS_SIZE],
                                nv_error *err) {
    int n = snprintf(
        text, NV_SETTINGS_SIZE,
        "model=%s\ndata=%s\npolicy=%s\nwidth=%d\nheight=%d\nframes=%d\npatch=%d\ndim=%d\nheads=%d\n"
        "layers=%d\nffn_dim=%d\nposition_grid=%d\nbatch=%d\nlr=%.9g\nweight_decay=%.9g\nbeta1=%.9g\n"
        "beta2=%.9g\nclip=%.9g\nwarmup=%" PRId64 "\nfinal_lr=%.9g\nema=%.9g\ncaption_dropout=%.9g\n"
        "shift=%.9g\nnoise=%s\nweighting=%s\nprediction=%s\nseed=%" PRIu64 "\nlog_every=%" PRId64 "\ndtype=%s\n",
        o->model ? o->model : "", o->data, o->policy, o->width, o->height, o->frames, o->patch, o->dim, o->heads,
        o->layers, o->ffn_dim, o->position_grid, o->batch, (double)o->lr, (double)o->weight_decay, (double)o->beta1,
        (double)o->beta2, (double)o->clip, o->warmup, (double)o->final_lr, (double)o->ema, (double)o->caption_dropout,
        (double)o->shift, o->noise, o->weighting, o->prediction ? o->prediction : "", o->seed, o->log_every,
        compute == NABLA_BF16 ? "bf16" : "fp32");
    /* only where they say something, so that runs without can go on from states older than them */
    if (o->accumulate > 1 && n >= 0 && n < NV_SETTINGS_SIZE)
        n += snprintf(text + n, (size_t)(NV_SETTINGS_SIZE - n), "accumulate=%d\n", o->accumulate);
    if (o->teacher && n >= 0 && n < NV_SETTINGS_SIZE)
        n += snprintf(text + n, (size_t)(NV_SETTINGS_SIZE - n), "teacher=%s\n", o->teacher);
    if (n < 0 || n >= NV_SETTINGS_SIZE)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "the paths of model, teacher and data are longer than %d bytes together", NV_SETTINGS_SIZE);
    return NABLA_OK;
}

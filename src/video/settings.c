/* SPDX-License-Identifier: Apache-2.0 */
/* Options of a training run: defaults, ranges, and the text by which a resumed run knows that it is the same one. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/draw.h"
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
    };
}

typedef struct range {
    const char *name;
    double value, low, high;
} range;

static nabla_status check_ranges(const range *ranges, size_t count, nv_error *err) {
    for (size_t i = 0; i < count; i++) {
        const range *r = &ranges[i];
        if (r->value >= r->low && r->value <= r->high) continue; /* NaN fails */
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s is %g: choose %g to %g", r->name, r->value, r->low, r->high);
    }
    return NABLA_OK;
}

static nabla_status check_model(const nabla_train_options *o, nv_error *err) {
    const range ranges[] = {
        {"patch", o->patch, 1, 64},    {"dim", o->dim, 16, 16384},        {"heads", o->heads, 1, 256},
        {"layers", o->layers, 1, 256}, {"ffn_dim", o->ffn_dim, 8, 65536}, {"position_grid", o->position_grid, 0, 512},
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
    const double many = (double)((int64_t)1 << 39);
    const range ranges[] = {
        {"width", o->width, 1, 65536},
        {"height", o->height, 1, 65536},
        {"frames", o->frames, 1, 1024},
        {"steps", (double)o->steps, 1, many},
        {"batch", o->batch, 1, (1 << NV_DRAW_SAMPLE_BITS) - 1},
        {"lr", o->lr, 1e-12, 1e3},
        {"weight_decay", o->weight_decay, 0, 1e3},
        {"beta1", o->beta1, 0, 0.99999},
        {"beta2", o->beta2, 0, 0.99999},
        {"clip", o->clip, 0, 1e9},
        {"warmup", (double)o->warmup, 0, many},
        {"final_lr", o->final_lr, 0, 1},
        {"ema", o->ema, 0, 0.999999},
        {"caption_dropout", o->caption_dropout, 0, 1},
        {"shift", o->shift, 1e-3, 1e3},
        {"save_every", (double)o->save_every, 1, many},
        {"log_every", (double)o->log_every, 1, many},
        {"fps", o->fps, 1, 240},
        {"sample_steps", o->sample_steps, 1, 1000},
        {"guidance", o->guidance, 0, 100},
    };
    if (!o->output || !*o->output)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "no output folder: say where the model should go");
    NV_TRY(check_ranges(ranges, sizeof ranges / sizeof *ranges, err));
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
    if (n < 0 || n >= NV_SETTINGS_SIZE)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "the paths of model and data are longer than %d bytes together",
                       NV_SETTINGS_SIZE);
    return NABLA_OK;
}

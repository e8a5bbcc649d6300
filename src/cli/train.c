/* SPDX-License-Identifier: Apache-2.0 */
/* nabla train: trains or fine-tunes a model. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/engine.h"
#include "cli/profile.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/signals.h"
#include "cli/verbs.h"
#include "nabla/video.h"
#include "video/limits.h"

typedef struct settings {
    cli_common common;
    nabla_train_options to;
    int32_t size[2];
    cli_seed seed;
} settings;

/* Progress, with the warning ahead of it: it comes before hours of training, not after. */
typedef struct watch {
    cli_progress progress;
    const nabla_train_result *result;
    int32_t warned;
} watch;

static void warn_once(watch *w) {
    if (!w->warned && w->result->warning[0]) cli_note("warning: %s", w->result->warning);
    w->warned = 1;
}

static int watch_progress(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    watch *w = user;
    warn_once(w);
    return cli_progress_report(&w->progress, phase, done, total, note);
}

static int report(const settings *s, const nabla_train_result *r, const nabla_video_profile *profile, double seconds) {
    char time[24];
    if (s->common.json)
        return cli_profile_print_json("train", &s->common, profile,
                                      json_pack("{s:s, s:I, s:o, s:f, s:o, s:f, s:f, s:f, s:f}", "output", s->to.output,
                                                "steps", (json_int_t)r->steps, "loss", cli_json_real(r->loss),
                                                "samples_per_second", r->samples_per_second, "sparsity",
                                                cli_json_real(r->sparsity), "gflops", r->gflops, "model_share",
                                                r->model_share, "data_share", r->data_share, "total_s", seconds));
    if (isnan(r->loss)) {
        printf("%s: all %lld steps were done already; --steps with a larger number adds some\n", s->to.output,
               (long long)r->steps);
        return CLI_DONE;
    }
    printf("%s: %lld steps, loss %.4g, %.1f clips/s, %.1f GFLOP/s (%.0f %% in the model, %.0f %% waiting for clips), "
           "sparsity %.1f %%, %s\n",
           s->to.output, (long long)r->steps, r->loss, r->samples_per_second, r->gflops, 100 * r->model_share,
           100 * r->data_share, 100 * r->sparsity, cli_format_time(seconds, time, sizeof time));
    return cli_profile_print("train", &s->common, profile);
}

static int check(settings *s) {
    nabla_train_options *to = &s->to;
    if (!to->output) return cli_misuse("train", "no output given: name the model's folder with -o");
    to->policy = s->common.policy;
    to->width = s->size[0];
    to->height = s->size[1];
    if (s->seed.given) to->seed = s->seed.value;
    return cli_check_output("train", to->output);
}

static int train(settings *s) {
    nabla_video_error err = {0};
    nabla_train_result result = {.size = sizeof result};
    watch w = {.progress = cli_progress_make(s->common.quiet), .result = &result};
    nabla_video_profile profile = {.size = sizeof profile};
    nabla_video_machine machine;
    int code = check(s);
    if (!code) code = cli_engine_machine("train", &s->common, &w.progress, &machine);
    if (code) return code;
    machine.progress = watch_progress;
    machine.user = &w;
    if (s->common.profile) machine.profile = &profile;
    const nabla_train_options *to = &s->to;
    if (!s->common.quiet)
        cli_note("training %s: %lld steps of %lld clips, %d frames of %dx%d, policy %s, lr %g, seed %llu", to->output,
                 (long long)to->steps, (long long)to->batch * to->accumulate, to->frames, to->width, to->height,
                 to->policy, (double)to->lr, (unsigned long long)to->seed);
    const double began = cli_seconds();
    const nabla_status status = nabla_train(to, &machine, &result, &err);
    cli_progress_clear(&w.progress);
    warn_once(&w);
    if (status == NABLA_CANCELLED) {
        cli_note("saved: nabla train -o %s --resume and the same flags go on from here", to->output);
        return cli_interrupted("train");
    }
    if (status != NABLA_OK) return cli_fail_status("train", status, err.text);
    return report(s, &result, &profile, cli_seconds() - began);
}

static const cli_option options[] = {
    CLI_FLAG("o,output", TEXT, "DIR", to.output, "the model, what --resume needs, a log (needed)"),
    CLI_FLAG("model", TEXT, "DIR", to.model, "start from its weights [from scratch]"),
    CLI_FLAG("teacher", TEXT, "DIR", to.teacher, "learn what this dense model says [the clips]"),
    CLI_FLAG("data", TEXT, "clips|scenes|DIR", to.data, "made up; or NAME.mp4 with NAME.txt []"),
    CLI_RANGE("steps", INT64, to.steps, 1, (double)NV_MOST_STEPS, "steps in all []"),
    CLI_FLAG("resume", SWITCH, NULL, to.resume, "go on from the last checkpoint in -o"),
    CLI_RANGE("save-every", INT64, to.save_every, 1, (double)NV_MOST_STEPS, "steps between checkpoints []"),
    CLI_RANGE("batch", INT32, to.batch, 1, NV_MOST_SAMPLES, "clips a step, or a part of it (--accumulate) []"),
    CLI_RANGE("size", SIZE, size, 1, NV_MOST_SIDE, "pixels of a clip []"),
    CLI_RANGE("frames", INT32, to.frames, 1, NV_MOST_TRAINING_FRAMES, "of a clip []"),
    CLI_POLICY("attention, forward and backward []"),
    CLI_RANGE("lr", REAL, to.lr, NV_LEAST_LR, NV_MOST_LR, "learning rate []"),
    CLI_FLAG("seed", SEED, NULL, seed, "of weights, data and noise [0]"),
    CLI_THREADS,
    CLI_DTYPE("to compute in [bf16]"),
    CLI_JSON,
    CLI_QUIET,
    CLI_MORE,
    CLI_RANGE("accumulate", INT32, to.accumulate, 1, NV_MOST_SAMPLES, "batches a step, in the memory of one []"),
    CLI_FLAG("activation-checkpointing", SWITCH, NULL, to.activation_checkpointing,
             "keep a block's input alone, compute the rest again"),
    CLI_RANGE("dim", INT32, to.dim, NV_LEAST_DIM, NV_MOST_DIM, "width, from scratch []"),
    CLI_RANGE("heads", INT32, to.heads, 1, NV_MOST_HEADS, "from scratch []"),
    CLI_RANGE("layers", INT32, to.layers, 1, NV_MOST_LAYERS, "from scratch []"),
    CLI_RANGE("ffn-dim", INT32, to.ffn_dim, NV_LEAST_FFN_DIM, NV_MOST_FFN_DIM,
              "width of the feed-forward, from scratch []"),
    CLI_RANGE("patch", INT32, to.patch, 1, NV_MOST_PATCH, "pixels a side of a token, from scratch []"),
    CLI_RANGE("position-grid", INT32, to.position_grid, 0, NV_MOST_POSITION_GRID,
              "tokens a side that positions are scaled to; 0: not []"),
    CLI_RANGE("weight-decay", REAL, to.weight_decay, 0, NV_MOST_WEIGHT_DECAY, "of matrices []"),
    CLI_RANGE("beta1", REAL, to.beta1, 0, NV_MOST_BETA, "of AdamW []"),
    CLI_RANGE("beta2", REAL, to.beta2, 0, NV_MOST_BETA, "of AdamW []"),
    CLI_RANGE("clip", REAL, to.clip, 0, NV_MOST_CLIP, "largest norm of the gradient []"),
    CLI_RANGE("warmup", INT64, to.warmup, 0, (double)NV_MOST_STEPS, "steps of a rising learning rate []"),
    CLI_RANGE("final-lr", REAL, to.final_lr, 0, 1, "share of the learning rate left at the end []"),
    CLI_RANGE("ema", REAL, to.ema, 0, NV_MOST_EMA, "averaging of the weights []"),
    CLI_RANGE("caption-dropout", REAL, to.caption_dropout, 0, 1, "share of clips without a caption []"),
    CLI_RANGE("shift", REAL, to.shift, NV_LEAST_SHIFT, NV_MOST_SHIFT, "of the noise levels, and of sampling later []"),
    CLI_FLAG("noise", CHOICE, "uniform|logit-normal", to.noise, "how training draws its noise levels []"),
    CLI_FLAG("weighting", CHOICE, "plain|velocity", to.weighting, "of the loss by noise level []"),
    CLI_FLAG("prediction", CHOICE, "sample|velocity", to.prediction, "of what [--model's own, else sample]"),
    CLI_RANGE("fps", INT32, to.fps, 1, NV_MOST_FPS, "frames a second that generate will write []"),
    CLI_RANGE("sample-steps", INT32, to.sample_steps, 1, NV_MOST_SAMPLE_STEPS, "steps that generate will take []"),
    CLI_RANGE("guidance", REAL, to.guidance, 0, NV_MOST_GUIDANCE, "guidance that generate will use []"),
    CLI_RANGE("log-every", INT64, to.log_every, 1, (double)NV_MOST_STEPS, "steps between lines of log.csv []"),
    CLI_PROFILE,
    CLI_LEVEL,
    CLI_DEVICE,
};

static int run(const cli_verb *verb, int argc, char **argv) {
    settings s = {.to = nabla_train_options_default()};
    s.common.policy = s.to.policy;
    s.size[0] = s.to.width;
    s.size[1] = s.to.height;
    const int code = cli_parse(verb, argc, argv, &s);
    return code >= 0 ? code : train(&s);
}

const cli_verb cli_verb_train = {
    .name = "train",
    .arguments = "-o DIR",
    .summary = "trains or fine-tunes a model",
    .about = "Trains a model, or fine-tunes one. Ctrl-C saves; --resume goes on as if there\n"
             "had been no break.",
    .example = "example: nabla train -o mine --steps 2000 --size 48x48 --policy nabla-0.7",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 0,
    .run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device.h"
#include "files.h"

static char root[] = "/tmp/nabla-training-XXXXXX";

const char *at(const char *name) {
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

int tiny_make(void) {
    return mkdtemp(root) ? 0 : -1;
}

void tiny_remove(void) {
    remove_tree(root);
}

nabla_video_machine machine_of(nabla_video_progress progress, void *user) {
    nabla_video_machine machine = nabla_video_machine_default();
    machine.threads = 2;
    if (test_on_gpu()) machine.device = NABLA_CUDA;
    machine.progress = progress;
    machine.user = user;
    return machine;
}

nabla_train_options tiny(const char *output) {
    nabla_train_options o = nabla_train_options_default();
    o.output = output;
    o.width = WIDTH;
    o.height = HEIGHT;
    o.frames = FRAMES;
    o.patch = PATCH;
    o.dim = 32;
    o.heads = 2;
    o.layers = 2;
    o.ffn_dim = 64;
    o.position_grid = 6;
    o.steps = STEPS;
    o.batch = 3;
    o.warmup = 3;
    o.lr = 3e-3f;
    o.policy = "nabla-0.8";
    o.seed = 5;
    o.save_every = 4;
    o.log_every = 3;
    o.sample_steps = 3;
    return o;
}

nabla_status train(const nabla_train_options *o, nabla_video_progress progress, nabla_video_error *err) {
    nabla_train_result result = {.size = sizeof result};
    nabla_video_machine machine = machine_of(progress, NULL);
    return nabla_train(o, &machine, &result, err);
}

void expect_refusal(nabla_status status, const nabla_video_error *err, nabla_status expected, const char *word) {
    if (status != expected) fail_msg("status %d, expected %d: %s", (int)status, (int)expected, err->text);
    if (!strstr(err->text, word)) fail_msg("\"%s\" does not name \"%s\"", err->text, word);
}

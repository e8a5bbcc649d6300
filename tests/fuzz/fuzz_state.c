/* SPDX-License-Identifier: Apache-2.0 */
/* Files that a generation leaves and takes up again: the input, a safetensors header up to the first NUL and data
   behind it, is read as a latent and as a checkpoint. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "video/latent_file.h"
#include "video/sample_state.h"

static char path[] = "/tmp/nabla-fuzz-state-XXXXXX";

static void remove_file(void) {
    unlink(path);
}

/* The header with its right length in front. */
static void write_file(const uint8_t *data, size_t size) {
    static int made;
    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    const uint64_t header = end ? (uint64_t)(end - data) : size;
    if (!made++) {
        const int fd = mkstemp(path);
        if (fd < 0) abort();
        close(fd);
        atexit(remove_file);
    }
    FILE *file = fopen(path, "wb");
    if (!file) abort();
    fwrite(&header, sizeof header, 1, file);
    fwrite(data, 1, header, file);
    if (end) fwrite(end + 1, 1, size - header - 1, file);
    fclose(file);
}

/* A failure says why, a success does not. */
static void check(nabla_status status, const nv_error *err) {
    if (status != err->status || (status != NABLA_OK) != (err->text[0] != '\0')) abort();
}

static void try_latent(void) {
    nv_latent latent;
    nv_error err = {0};
    const nabla_status status = nv_latent_read(path, &latent, &err);
    check(status, &err);
    if (status == NABLA_OK && !isfinite(latent.values[0])) abort();
    free(latent.values);
}

static nv_device *device;

static void close_device(void) {
    nv_device_destroy(device);
}

static void open_device(void) {
    const nv_device_options options = {.threads = 1};
    if (device) return;
    if (nv_device_create(&options, &device, NULL) != NABLA_OK) abort();
    atexit(close_device);
}

static void try_state(void) {
    float x[12], history[12];
    nv_st_file *file;
    nv_error err = {0};
    nv_model_index index = {0};
    nv_denoise_rule rule = {.clip = {1, 2, 2}, .shape = {.frames = 1, .height = 2, .width = 2}, .solver = "dpm++"};
    rule.steps = 4;
    rule.guidance = rule.shift = 3.0f;
    const nv_sample_tensors tensors = {3, 1, x, history};
    const nv_sample_settings settings = {
        .rule = &rule, .prompt = "a", .negative = "", .policy = "dense", .noise = "", .dtype = "fp32", .seed = 1};
    nv_denoise_totals totals = {0};
    char note[NV_ORIGIN_NOTE];
    const nabla_status status = nv_sample_state_open(path, &file, &err);
    check(status, &err);
    if (status != NABLA_OK) return;
    check(nv_sample_state_go_on(file, path, device, note, &err), &err);
    if (!memchr(note, '\0', sizeof note)) abort();
    err = (nv_error){0};
    nv_sample_state_defaults(file, &index, &rule.dense_steps);
    if (index.frames < 0 || index.steps < 0 || !memchr(index.policy, '\0', sizeof index.policy)) abort();
    rule.dense_steps = 0;
    check(nv_sample_state_check(file, path, &settings, &err), &err);
    err = (nv_error){0};
    if (nv_sample_state_read(file, path, &settings, &tensors, &totals, &err) == NABLA_OK &&
        (totals.steps < 0 || totals.steps > rule.steps || !isfinite(x[11]) || !isfinite(history[11])))
        abort();
    nv_st_close(file);
    nv_sample_state_check_place(path, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    write_file(data, size);
    open_device();
    try_latent();
    try_state();
    return 0;
}

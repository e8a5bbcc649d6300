/* SPDX-License-Identifier: Apache-2.0 */
/* From a prompt to its context in a file. */
#include <stdlib.h>

#include "nabla/video.h"
#include "video/files.h"
#include "video/machine.h"
#include "video/profile.h"
#include "video/report.h"
#include "video/text_encoder.h"
#include "weights/safetensors.h"

typedef struct job {
    const nabla_encode_options *options;
    const nabla_video_machine *machine;
    nabla_encode_result *result;
    nv_text_encoder encoder;
    nv_tokens tokens;
    char *cleaned;
    float *context; /* [tokens, dim] */
} job;

nabla_encode_options nabla_encode_options_default(void) {
    return (nabla_encode_options){.size = sizeof(nabla_encode_options)};
}

/* The folder's parts; a file given alone takes its encoder's place. */
static nabla_status find_parts(const nabla_encode_options *o, nv_wan_parts *parts, nv_error *err) {
    *parts = (nv_wan_parts){0};
    if (o->model && !nv_file_exists(o->model))
        return nv_fail(err, NABLA_IO, "the model folder %.300s does not exist: check --model", o->model);
    if (o->model) nv_wan_find_parts(o->model, parts);
    if (!o->text_encoder) return NABLA_OK;
    parts->text_config[0] = '\0';
    return nv_path_set(parts->text_encoder, o->text_encoder, err);
}

static nabla_status read_prompt(job *j, nv_error *err) {
    const nabla_encode_options *o = j->options;
    nv_wan_parts parts;
    NV_TRY(find_parts(o, &parts, err));
    NV_TRY(nv_text_encoder_open(&parts, o->model, &j->encoder, err));
    NV_TRY(nv_tokenize(j->encoder.tokenizer, o->prompt, &j->tokens, &j->cleaned, err));
    const nv_umt5_config *config = nv_umt5_get_config(j->encoder.umt5);
    j->result->tokens = j->tokens.count;
    j->result->cut = j->tokens.cut;
    j->result->dim = config->dim;
    j->result->layers = config->layers;
    nv_text_encoder_warn(&j->tokens, j->result->warning, sizeof j->result->warning);
    return NABLA_OK;
}

static int report_layer(void *user, int32_t layer, int32_t layers) {
    const nabla_video_machine *machine = user;
    return machine->progress ? machine->progress(machine->user, "text", layer, layers, "") : 0;
}

static nabla_status run_encoder(job *j, nv_error *err) {
    const size_t bytes = (size_t)j->tokens.count * (size_t)j->result->dim * sizeof(float);
    nv_device *device;
    size_t memory = 0;
    j->context = malloc(bytes);
    if (!j->context) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a context of %zu bytes", bytes);
    const nv_umt5_text text = {j->tokens.ids, j->tokens.count, j->context};
    const nv_umt5_job work = {.texts = &text,
                              .count = 1,
                              .compute = j->machine->compute,
                              .progress = report_layer,
                              .user = (void *)(uintptr_t)j->machine};
    NV_TRY(nv_machine_open(j->machine, &device, err));
    nabla_status status = nv_umt5_memory(j->encoder.umt5, device, &work, &memory, err);
    j->result->memory = (double)memory;
    if (status == NABLA_OK)
        status = nv_memory_check(device, memory, "the text encoder", "free some, or compute in bf16", err);
    nv_profile_enter(j->machine, NABLA_PART_TEXT);
    nv_profile_begin(j->machine, device);
    if (status == NABLA_OK) status = nv_umt5_encode(j->encoder.umt5, device, &work, err);
    nv_profile_end(j->machine, device, j->machine->compute);
    nv_profile_enter(j->machine, NABLA_PART_OTHER);
    nv_device_destroy(device);
    return status;
}

static nabla_status write(const job *j, nv_error *err) {
    const char *const metadata[] = {"prompt", j->cleaned};
    const nv_st_entry entry = {.name = "context",
                               .dtype = NV_ST_F32,
                               .rank = 2,
                               .shape = {j->tokens.count, j->result->dim},
                               .bytes = (size_t)j->tokens.count * (size_t)j->result->dim * sizeof(float),
                               .data = j->context};
    return nv_st_write(j->options->output, &entry, 1, metadata, 1, err);
}

static nabla_status run(job *j, nv_error *err) {
    const nabla_encode_options *o = j->options;
    const double start = nv_now();
    if (!o->model && !o->text_encoder)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "no model folder: say which model's text encoder to use");
    if (!o->prompt) return nv_fail(err, NABLA_INVALID_ARGUMENT, "no prompt: say what to encode");
    if (!o->output) return nv_fail(err, NABLA_INVALID_ARGUMENT, "no output: say where the context goes");
    NV_TRY(read_prompt(j, err));
    const double read = nv_now();
    j->result->load_s = read - start;
    NV_TRY(run_encoder(j, err));
    j->result->encode_s = nv_now() - read;
    nv_profile_enter(j->machine, NABLA_PART_MEDIA);
    return write(j, err);
}

nabla_status nabla_encode(const nabla_encode_options *options, const nabla_video_machine *machine,
                          nabla_encode_result *result, nabla_video_error *err) {
    nv_error inner = {0};
    nabla_video_machine defaults = nabla_video_machine_default();
    nabla_encode_result ignored = {.size = sizeof ignored};
    job j = {.options = options, .machine = machine ? machine : &defaults, .result = result ? result : &ignored};
    if (j.result->size != sizeof ignored) return nv_report_result_version(err, "nabla_encode_result");
    *j.result = ignored;
    if (options->size != sizeof *options) return nv_report_version(err, "nabla_encode_options");
    if (machine && machine->size != sizeof *machine) return nv_report_version(err, "nabla_video_machine");
    nabla_status status = nv_profile_start(j.machine, err);
    if (status != NABLA_OK) return status;
    status = run(&j, &inner);
    nv_text_encoder_close(&j.encoder);
    free(j.cleaned);
    free(j.context);
    nv_profile_stop(j.machine);
    return nv_report(err, status, &inner);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* nabla info: what this machine can do, what a model folder or a tensor file holds. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/engine.h"
#include "cli/info.h"
#include "cli/machine.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "device/device.h"
#include "dit/names.h"
#include "media/media.h"
#include "tensor/memory.h"
#include "text/tokenizer.h"
#include "video/limits.h"
#include "video/machine.h"
#include "weights/set.h"

typedef struct settings {
    cli_common common;
    int32_t size[2], frames;
} settings;

/* ------------------------------------------------------------------ the machine */

static json_t *levels_json(void) {
    json_t *levels = json_array();
    for (int32_t i = 0; nabla_level_name(i); i++)
        json_array_append_new(levels, json_string(nabla_level_name(i)));
    return levels;
}

/* What makes the matrix products of each dtype. */
static json_t *products_json(const nv_device *device) {
    return json_pack("{s:s, s:s}", "fp32", nv_device_products(device, NABLA_FP32), "bf16",
                     nv_device_products(device, NABLA_BF16));
}

/* GPU i; 0 where CUDA does not tell. */
static int describe_gpu(int32_t i, nabla_device_info *gpu) {
    *gpu = (nabla_device_info){.size = sizeof *gpu};
    return nabla_device_describe(NABLA_CUDA, i, gpu, NULL, 0) == NABLA_OK;
}

static json_t *gpus_json(void) {
    json_t *gpus = json_array();
    nabla_device_info gpu;
    for (int32_t i = 0; i < nabla_device_count(NABLA_CUDA); i++)
        if (describe_gpu(i, &gpu))
            json_array_append_new(gpus, json_pack("{s:s, s:s, s:i, s:I, s:I, s:s, s:[i, i]}", "device", "cuda", "name",
                                                  gpu.name, "ordinal", i, "memory", (json_int_t)gpu.memory_total,
                                                  "memory_available", (json_int_t)gpu.memory_free, "level", gpu.level,
                                                  "capability", gpu.capability_major, gpu.capability_minor));
    return gpus;
}

static int print_machine_json(const char *processor, const nv_device *device) {
    const int32_t count = nabla_device_count(NABLA_CUDA);
    json_t *devices = json_pack("[s]", "cpu");
    if (count) json_array_append_new(devices, json_string("cuda"));
    return cli_print_json("info", json_pack("{s:s, s:s, s:i, s:o, s:I, s:I, s:o, s:b, s:o, s:o, s:b, s:b}", "version",
                                            nabla_version(), "processor", processor, "threads", cli_processors(),
                                            "levels", levels_json(), "memory", (json_int_t)nv_memory_total(),
                                            "memory_available", (json_int_t)nv_memory_available(), "devices", devices,
                                            "cuda", count > 0, "gpus", gpus_json(), "products", products_json(device),
                                            "ffmpeg", nv_media_available(), "sentencepiece", nv_tokenizer_available()));
}

static void print_gpus(void) {
    const int32_t count = nabla_device_count(NABLA_CUDA);
    nabla_device_info gpu = {.size = sizeof gpu};
    char reason[256] = "", total[32], available[32];
    if (!count) {
        nabla_device_describe(NABLA_CUDA, 0, &gpu, reason, sizeof reason);
        printf("devices    cpu (%s)\n", reason);
        return;
    }
    printf("devices    cpu");
    for (int32_t i = 0; i < count; i++)
        printf(", cuda:%d", (int)i);
    printf("\n");
    for (int32_t i = 0; i < count; i++)
        if (describe_gpu(i, &gpu))
            printf("cuda:%-5d %s, %s, %s, %s available\n", (int)i, gpu.name, *gpu.level ? gpu.level : "too old",
                   cli_format_bytes((double)gpu.memory_total, total, sizeof total),
                   cli_format_bytes((double)gpu.memory_free, available, sizeof available));
}

static void print_machine(const char *processor, const nv_device *device) {
    char total[32], available[32];
    printf("nabla %s\n", nabla_version());
    printf("processor  %s, %d threads\n", processor[0] ? processor : "unknown", cli_processors());
    printf("levels    ");
    for (int32_t i = 0; nabla_level_name(i); i++)
        printf(" %s", nabla_level_name(i));
    printf("\nmemory     %s, %s available\n", cli_format_bytes(nv_memory_total(), total, sizeof total),
           cli_format_bytes(nv_memory_available(), available, sizeof available));
    print_gpus();
    printf("products   fp32 %s; bf16 %s\n", nv_device_products(device, NABLA_FP32),
           nv_device_products(device, NABLA_BF16));
    printf("video      %s\n",
           nv_media_available() ? "FFmpeg: .mp4, .gif, folders of .png" : "folders of .png (this build has no FFmpeg)");
    printf("text       %s\n", nv_tokenizer_available() ? "SentencePiece: prompts of Wan's models"
                                                       : "the demo's words (this build has no SentencePiece)");
}

static int show_machine(const nabla_video_machine *machine, int json) {
    char processor[128];
    nv_device *device = NULL;
    nv_error err = {0};
    const nabla_status status = nv_machine_open(machine, &device, &err);
    if (status != NABLA_OK) return cli_fail_status("info", status, err.text);
    cli_processor_name(processor, sizeof processor);
    int code = CLI_DONE;
    if (json)
        code = print_machine_json(processor, device);
    else
        print_machine(processor, device);
    nv_device_destroy(device);
    return code;
}

/* ------------------------------------------------------------------ a file of tensors */

static json_t *shape_json(const nv_st_entry *e) {
    json_t *shape = json_array();
    for (int i = 0; i < e->rank; i++)
        json_array_append_new(shape, json_integer(e->shape[i]));
    return shape;
}

static json_t *metadata_json(const nv_st_file *file) {
    json_t *metadata = json_object();
    for (const char *key = NULL; (key = nv_st_metadata_key(file, key));)
        json_object_set_new(metadata, key, json_string(nv_st_metadata(file, key)));
    return metadata;
}

static void print_metadata(const nv_st_file *file) {
    char name[512], value[2048];
    for (const char *key = NULL; (key = nv_st_metadata_key(file, key));)
        printf("%s: %s\n", cli_escape(key, name, sizeof name),
               cli_escape(nv_st_metadata(file, key), value, sizeof value));
}

/* Tensor i in the file's own order, which a set's is not. */
static const nv_st_entry *tensor_at(const nv_weights *w, size_t i) {
    const nv_st_file *file = nv_weights_safetensors(w);
    return file ? nv_st_at(file, i) : nv_weights_at(w, i);
}

static int print_file_json(const nv_weights *w) {
    const nv_st_file *file = nv_weights_safetensors(w);
    json_t *tensors = json_array();
    double bytes = 0;
    for (size_t i = 0; i < nv_weights_count(w); i++) {
        const nv_st_entry *e = tensor_at(w, i);
        bytes += (double)e->bytes;
        json_array_append_new(tensors,
                              json_pack("{s:s, s:s, s:o, s:I}", "name", e->name, "dtype", nv_st_dtype_name(e->dtype),
                                        "shape", shape_json(e), "bytes", (json_int_t)e->bytes));
    }
    return cli_print_json("info", json_pack("{s:I, s:o, s:o}", "bytes", (json_int_t)bytes, "metadata",
                                            file ? metadata_json(file) : json_object(), "tensors", tensors));
}

static void print_file(const nv_weights *w) {
    char name[512], size[32], shape[160];
    double bytes = 0;
    for (size_t i = 0; i < nv_weights_count(w); i++) {
        const nv_st_entry *e = tensor_at(w, i);
        size_t at = 0;
        shape[0] = '\0';
        for (int j = 0; j < e->rank && at < sizeof shape; j++)
            at += (size_t)snprintf(shape + at, sizeof shape - at, "%s%lld", j ? ", " : "", (long long)e->shape[j]);
        bytes += (double)e->bytes;
        printf("%-5s %9s  %s [%s]\n", nv_st_dtype_name(e->dtype), cli_format_bytes((double)e->bytes, size, sizeof size),
               cli_escape(e->name, name, sizeof name), shape);
    }
    if (nv_weights_safetensors(w)) print_metadata(nv_weights_safetensors(w));
    printf("%zu tensors, %s\n", nv_weights_count(w), cli_format_bytes(bytes, size, sizeof size));
}

/* Any file of tensors is listed; of a transformer, what it is follows, or why it is not run, which is no failure here.
 */
static int show_file(const char *path, const cli_info_run *run, int json) {
    nv_weights *w = NULL;
    nv_dit_names names;
    nv_error err = {0};
    int code = CLI_DONE;
    if (nv_weights_open(path, &w, &err) != NABLA_OK) return cli_fail("info", "%s", err.text);
    if (json)
        code = print_file_json(w);
    else
        print_file(w);
    const nabla_status status = nv_dit_recognise(w, &names, &err);
    nv_weights_close(w);
    if (json || code || status == NABLA_INVALID_ARGUMENT) return code;
    code = status == NABLA_OK ? cli_info_wan(path, run, 0) : cli_fail("info", "%s", err.text);
    return code == CLI_FAILED ? CLI_DONE : code;
}

/* ------------------------------------------------------------------ the verb */

static const cli_option options[] = {
    CLI_RANGE("size", SIZE, size, 1, NV_MOST_SIDE, "of a Wan2.1 model: tell a run's memory []"),
    CLI_RANGE("frames", INT32, frames, 1, NV_MOST_SIDE, "the same, 4n+1 of them []"),
    CLI_DTYPE("the same [bf16]"),
    CLI_FLAG("device", TEXT, "NAME", common.device, "where it would run: cpu, cuda or cuda:N [cpu]"),
    CLI_JSON,
};

static int run(const cli_verb *verb, int argc, char **argv) {
    settings s = {.size = {832, 480}, .frames = 81};
    struct stat what;
    cli_info_run told = {0};
    int code = cli_parse(verb, argc, argv, &s);
    if (code >= 0) return code;
    code = cli_engine_machine("info", &s.common, NULL, &told.machine);
    if (code) return code;
    if (s.common.argument_count == 0) return show_machine(&told.machine, s.common.json);
    const char *path = s.common.arguments[0];
    if (stat(path, &what) != 0)
        return cli_fail("info", "cannot open '%s': %s; name a model's folder or a .safetensors file", path,
                        strerror(errno));
    memcpy(told.size, s.size, sizeof told.size);
    told.frames = s.frames;
    told.asked = cli_given(verb, &s.common, "size") || cli_given(verb, &s.common, "frames");
    told.device = s.common.device ? s.common.device : "cpu";
    return S_ISDIR(what.st_mode) ? cli_info_model(path, &told, s.common.json) : show_file(path, &told, s.common.json);
}

const cli_verb cli_verb_info = {
    .name = "info",
    .arguments = "[MODEL | FILE.safetensors | FILE.pth]",
    .summary = "what this machine can do; what a model or a file of tensors holds",
    .example = "example: nabla info models/demo",
    .options = options,
    .option_count = CLI_COUNT(options),
    .max_arguments = 1,
    .run = run,
};

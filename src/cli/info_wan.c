/* SPDX-License-Identifier: Apache-2.0 */
/* The part of `nabla info` that reads Wan2.1 models. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/info.h"
#include "cli/options.h"
#include "cli/report.h"
#include "nabla/video.h"
#include "video/wan_folder.h"

/* The sizes that were released. */
static const char *size_name(const nv_dit_config *c) {
    const int32_t dim = c->heads * c->head_dim;
    if (dim == 1536 && c->layers == 30) return " 1.3B";
    return dim == 5120 && c->layers == 40 ? " 14B" : "";
}

static void print_part(const char *what, const char *path, const char *remedy) {
    char text[4096];
    if (path[0])
        printf("%-12s %s\n", what, cli_escape(path, text, sizeof text));
    else
        printf("%-12s missing: %s\n", what, remedy);
}

/* ------------------------------------------------------------------ the memory of a run */

/* A nabla_generate_options.begin that goes no further. */
static int go_no_further(void *user, const nabla_generate_result *settled) {
    (void)user;
    (void)settled;
    return 1;
}

/* What generation would take. */
typedef struct forecast {
    int32_t told; /* 0: the folder is not complete, or the size does not fit */
    nabla_generate_result run;
    nabla_video_error lack; /* a sentence where the device has no room for it */
} forecast;

/* The prompt hardly matters. */
static void settle(const char *path, const cli_info_run *run, forecast *out) {
    nabla_generate_options o = nabla_generate_options_default();
    nabla_video_error err = {0};
    o.model = path;
    o.prompt = "";
    o.width = run->size[0];
    o.height = run->size[1];
    o.frames = run->frames;
    o.begin = go_no_further;
    *out = (forecast){.run = {.size = sizeof out->run}};
    const nabla_status status = nabla_generate(&o, &run->machine, &out->run, &err);
    out->told = out->run.decode_memory > 0; /* the last of the estimates */
    if (status == NABLA_OUT_OF_MEMORY) out->lack = err;
}

static const char *dtype_name(const cli_info_run *run) {
    return run->machine.compute == NABLA_FP32 ? "fp32" : "bf16";
}

static void print_run(const forecast *f, const cli_info_run *run) {
    char text[4][32];
    const nabla_generate_result *r = &f->run;
    const double most = fmax(r->text_memory, fmax(r->sample_memory, r->decode_memory));
    printf("memory       %s for a run of %dx%d, %d frames, in %s on %s: text encoder %s, sampling %s, decoding %s\n",
           cli_format_bytes(most, text[0], sizeof text[0]), run->size[0], run->size[1], run->frames, dtype_name(run),
           run->device, cli_format_bytes(r->text_memory, text[1], sizeof text[1]),
           cli_format_bytes(r->sample_memory, text[2], sizeof text[2]),
           cli_format_bytes(r->decode_memory, text[3], sizeof text[3]));
    if (f->lack.text[0]) printf("too large    %s\n", f->lack.text);
}

/* Of the transformer alone, where a run is not to be had. */
static void print_memory(const nv_wan_facts *facts, const cli_info_run *run, const forecast *settled) {
    char model[32], pass[32];
    if (settled->told) print_run(settled, run);
    if (settled->told || !facts->sized) return;
    printf("memory       %s for the transformer, %s for a pass over %dx%d, %d frames, in %s on %s\n",
           cli_format_bytes((double)facts->model_memory, model, sizeof model),
           cli_format_bytes((double)facts->run_memory, pass, sizeof pass), run->size[0], run->size[1], run->frames,
           dtype_name(run), run->device);
}

/* ------------------------------------------------------------------ the model */

static void print_text(const nv_wan_folder *f, const nv_wan_facts *facts, const cli_info_run *run,
                       const forecast *settled) {
    const nv_dit_config *c = &facts->config;
    char text[128], size[32], host[32];
    printf("model        Wan2.1%s text-to-video, %s names%s%s\n", size_name(c), nv_dit_layout_name(facts->names.layout),
           facts->names.prefix[0] ? " under " : "", facts->names.prefix);
    printf("transformer  %d layers, %d heads of %d, feed-forward %d, text %d\n", c->layers, c->heads, c->head_dim,
           c->ffn_dim, c->text_dim);
    printf("latent       %d channels, patches of %dx%dx%d\n", c->in_channels, c->patch[0], c->patch[1], c->patch[2]);
    printf("weights      %.2f million in %lld file%s, %s, %s\n", 1e-6 * (double)facts->parameters,
           (long long)facts->files, facts->files == 1 ? "" : "s", cli_format_bytes(facts->bytes, size, sizeof size),
           facts->dtypes);
    if (!f->config[0]) printf("sizes        from the tensors' shapes, as there is no config.json\n");
    if (f->policy[0])
        printf("policy       %s, from %s\n", cli_escape(f->policy, text, sizeof text), f->policy_from);
    else
        printf("policy       dense: neither its name nor its configuration tells another\n");
    print_part("text encoder", f->parts.text_encoder,
               "text_encoder/ (diffusers) or models_t5_umt5-xxl-enc-bf16.pth (original)");
    print_part("tokenizer", f->parts.tokenizer, "tokenizer/spiece.model (diffusers) or google/umt5-xxl/ (original)");
    print_part("vae", f->parts.vae, "vae/ (diffusers) or Wan2.1_VAE.pth (original)");
    print_memory(facts, run, settled);
    if (!facts->sized) return;
    printf("offloaded    (generate --offload) %s of the transformer on a GPU instead of %s, %s in the host's memory\n",
           cli_format_bytes((double)facts->offloaded_memory, size, sizeof size),
           cli_format_bytes((double)facts->model_memory, text, sizeof text),
           cli_format_bytes((double)facts->host_memory, host, sizeof host));
}

static json_t *part_json(const char *path) {
    return path[0] ? json_string(path) : json_null();
}

static int print_json(const nv_wan_folder *f, const nv_wan_facts *facts, const cli_info_run *run,
                      const forecast *settled) {
    const nv_dit_config *c = &facts->config;
    json_t *figures =
        json_pack("{s:s, s:s, s:s, s:[i,i,i], s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:s}", "kind",
                  "Wan2.1-T2V", "layout", nv_dit_layout_name(facts->names.layout), "prefix", facts->names.prefix,
                  "patch", c->patch[0], c->patch[1], c->patch[2], "in_channels", c->in_channels, "out_channels",
                  c->out_channels, "layers", c->layers, "heads", c->heads, "head_dim", c->head_dim, "ffn_dim",
                  c->ffn_dim, "text_dim", c->text_dim, "parameters", (json_int_t)facts->parameters, "files",
                  (json_int_t)facts->files, "bytes", (json_int_t)facts->bytes, "dtypes", facts->dtypes);
    json_object_set_new(figures, "policy", part_json(f->policy));
    json_object_set_new(figures, "text_encoder", part_json(f->parts.text_encoder));
    json_object_set_new(figures, "tokenizer", part_json(f->parts.tokenizer));
    json_object_set_new(figures, "vae", part_json(f->parts.vae));
    if (facts->sized)
        json_object_set_new(
            figures, "memory",
            json_pack("{s:[i,i], s:i, s:s, s:s, s:I, s:I, s:I, s:I}", "size", run->size[0], run->size[1], "frames",
                      run->frames, "dtype", dtype_name(run), "device", run->device, "transformer",
                      (json_int_t)facts->model_memory, "pass", (json_int_t)facts->run_memory, "offloaded_transformer",
                      (json_int_t)facts->offloaded_memory, "offloaded_host", (json_int_t)facts->host_memory));
    if (settled->told)
        json_object_set_new(figures, "run",
                            json_pack("{s:I, s:I, s:I, s:b}", "text_memory", (json_int_t)settled->run.text_memory,
                                      "sample_memory", (json_int_t)settled->run.sample_memory, "decode_memory",
                                      (json_int_t)settled->run.decode_memory, "fits", !settled->lack.text[0]));
    return cli_print_json("info", figures);
}

int cli_info_wan(const char *path, const cli_info_run *run, int json) {
    nv_wan_folder folder;
    nv_wan_facts facts;
    forecast settled;
    nv_error err = {0};
    if (nv_wan_find(path, &folder, &err) != NABLA_OK) return cli_fail("info", "%s", err.text);
    const nv_clip_size clip = {run->frames, run->size[1], run->size[0]};
    if (nv_wan_describe(&folder, &clip, &run->machine, &facts, &err) != NABLA_OK)
        return cli_fail("info", "%s", err.text);
    if (run->asked && !facts.sized)
        return cli_misuse("info",
                          "a video of %dx%d and %d frames does not fit: sides are multiples of %d and %d, "
                          "frames 4n+1",
                          run->size[0], run->size[1], run->frames, 8 * facts.config.patch[2],
                          8 * facts.config.patch[1]);
    settle(path, run, &settled);
    if (json) return print_json(&folder, &facts, run, &settled);
    print_text(&folder, &facts, run, &settled);
    return CLI_DONE;
}

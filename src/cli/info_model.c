/* SPDX-License-Identifier: Apache-2.0 */
/* The part of `nabla info` that reads model folders. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cli/info.h"
#include "cli/report.h"
#include "weights/config.h"
#include "weights/safetensors.h"

typedef struct weights {
    int64_t parameters, files;
    double bytes;
} weights;

/* Adds up every .safetensors of a folder (large checkpoints come in parts). Returns 0 or the exit code. */
static int count_weights(const char *folder, weights *w) {
    DIR *open = opendir(folder);
    if (!open) return cli_fail("info", "cannot open '%s': %s", folder, strerror(errno));
    int code = 0;
    const struct dirent *found;
    while (!code && (found = readdir(open)) != NULL) {
        static const char suffix[] = ".safetensors";
        char path[4096];
        nv_st_file *file;
        nv_error err = {0};
        const size_t length = strlen(found->d_name), end = sizeof suffix - 1;
        if (length <= end || strcmp(found->d_name + length - end, suffix) != 0) continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, found->d_name) >= (int)sizeof path) continue;
        if (nv_st_open(path, &file, &err) != NABLA_OK) {
            code = cli_fail("info", "%s", err.text);
            break;
        }
        w->files++;
        for (size_t i = 0; i < nv_st_count(file); i++) {
            const nv_st_entry *e = nv_st_at(file, i);
            w->parameters += (int64_t)(e->bytes / nv_st_dtype_size(e->dtype));
            w->bytes += (double)e->bytes;
        }
        nv_st_close(file);
    }
    closedir(open);
    return code;
}

/* Models of another kind are Wan's, or refused there by name. */
static int is_clip_model(const nv_model_index *index) {
    return strcmp(index->kind, NV_KIND_CLIP) == 0;
}

static int print_json(const nv_model_index *index, const nv_dit_config *dit, const weights *w) {
    json_t *figures = json_pack("{s:s}", "kind", index->kind);
    json_object_update_new(figures, json_pack("{s:i, s:i, s:i, s:i, s:s, s:s, s:f, s:f, s:i, s:s}", "width",
                                              index->width, "height", index->height, "frames", index->frames, "fps",
                                              index->fps, "policy", index->policy, "prediction", index->prediction,
                                              "shift", (double)index->shift, "guidance", (double)index->guidance,
                                              "steps", index->steps, "solver", index->solver));
    json_object_update_new(figures, json_pack("{s:[i,i,i], s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I}", "patch",
                                              dit->patch[0], dit->patch[1], dit->patch[2], "in_channels",
                                              dit->in_channels, "layers", dit->layers, "heads", dit->heads, "head_dim",
                                              dit->head_dim, "ffn_dim", dit->ffn_dim, "text_dim", dit->text_dim,
                                              "parameters", (json_int_t)w->parameters, "bytes", (json_int_t)w->bytes));
    return cli_print_json("info", figures);
}

static void print_index(const nv_model_index *index) {
    char text[128];
    printf("video        %dx%d, %d frames at %d a second\n", index->width, index->height, index->frames, index->fps);
    printf("policy       %s\n", index->policy[0] ? cli_escape(index->policy, text, sizeof text) : "dense");
    printf("sampling     %d steps, guidance %g, shift %g, ", index->steps, (double)index->guidance,
           (double)index->shift);
    printf("%s\n", cli_escape(index->solver, text, sizeof text));
    printf("predicts     %s\n", cli_escape(index->prediction, text, sizeof text));
}

static void print_text(const nv_model_index *index, const nv_dit_config *dit, const weights *w) {
    char text[128], size[32];
    printf("model        %s\n", cli_escape(index->kind, text, sizeof text));
    print_index(index);
    printf("transformer  %d layers, %d heads of %d, feed-forward %d, text %d\n", dit->layers, dit->heads, dit->head_dim,
           dit->ffn_dim, dit->text_dim);
    printf("latent       %d channels, patches of %dx%dx%d\n", dit->in_channels, dit->patch[0], dit->patch[1],
           dit->patch[2]);
    printf("weights      %.2f million in %lld file%s, %s\n", 1e-6 * (double)w->parameters, (long long)w->files,
           w->files == 1 ? "" : "s", cli_format_bytes(w->bytes, size, sizeof size));
}

int cli_info_model(const char *folder, const cli_info_run *run, int json) {
    char path[4096];
    nv_model_index index = {0};
    nv_dit_config dit = {0};
    nv_error err = {0};
    weights w = {0};
    if (strlen(folder) > sizeof path - 64) return cli_fail("info", "the path '%.80s...' is too long", folder);
    snprintf(path, sizeof path, "%s/model_index.json", folder);
    if (access(path, F_OK) != 0) return cli_info_wan(folder, run, json);
    if (nv_config_read_index(path, &index, &err) != NABLA_OK) return cli_fail("info", "%s", err.text);
    if (!is_clip_model(&index)) return cli_info_wan(folder, run, json);
    snprintf(path, sizeof path, "%s/transformer/config.json", folder);
    if (nv_config_read_dit(path, &dit, &err) != NABLA_OK) return cli_fail("info", "%s", err.text);
    snprintf(path, sizeof path, "%s/transformer", folder);
    const int code = count_weights(path, &w);
    if (code) return code;
    if (json) return print_json(&index, &dit, &w);
    print_text(&index, &dit, &w);
    return CLI_DONE;
}

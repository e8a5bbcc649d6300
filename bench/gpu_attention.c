/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GPU benchmark: masks, forward and backward at the paper's timing shape (21 x 48 x 80 = 80,640 tokens, 40 heads,
 * bf16), by CUDA events on the context's stream. CSV on stdout, a table on stderr; see README.md here. Every group of
 * measurements is a process of its own, so that memory is its own and a failure stays in it.
 */
#include "gpu_bench.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
    const char *name;
    gpu_group *run;
} groups[] = {{"first", gpu_first_call},
              {"mask", gpu_masks},
              {"forward", gpu_forward},
              {"backward", gpu_backward},
              {"together", gpu_together}};

enum { GROUPS = sizeof groups / sizeof *groups };

static const char usage[] =
    "usage: gpu_attention [--only first,mask,forward,backward,together] [--heads N] [--dense-heads N]\n"
    "                     [--grid FxHxW] [--head-dim D[,D...]] [--dtype bf16|fp16|fp32] [--level sm80|sm90]\n"
    "                     [--repeat N] [--density X] [--thr X] [--dump FOLDER] [--limit SECONDS]\n";

/* ---- options */

static int fail_usage(const char *name, const char *value) {
    fprintf(stderr, "gpu_attention: %s '%s' is not understood\n%s", name, value ? value : "", usage);
    return 2;
}

static int whole(const char *text, int64_t least, int64_t most, int64_t *out) {
    char *end;
    errno = 0;
    const long long x = strtoll(text, &end, 10);
    *out = x;
    return errno || end == text || *end || x < least || x > most;
}

static int share(const char *text, double *out) {
    char *end;
    *out = strtod(text, &end);
    return end == text || *end || !(*out > 0.0 && *out <= 1.0);
}

static int parse_grid(const char *text, nabla_grid *out) {
    int f, h, w, used = 0;
    if (sscanf(text, "%dx%dx%d%n", &f, &h, &w, &used) != 3 || text[used] || f < 1 || h < 1 || w < 1) return 1;
    *out = nabla_grid_default(f, h, w);
    return 0;
}

static int parse_dims(const char *text, gpu_options *o) {
    char copy[64], *rest = copy;
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy) return 1;
    o->dim_count = 0;
    for (char *word; (word = strsep(&rest, ",")) != NULL; o->dim_count++)
        if (o->dim_count == GPU_MAX_DIMS || whole(word, 16, 256, o->dims + o->dim_count)) return 1;
    return 0;
}

static int parse_dtype(const char *text, nabla_dtype *out) {
    static const char *const names[] = {"fp32", "bf16", "fp16"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, names[i])) return *out = (nabla_dtype)i, 0;
    return 1;
}

static int is_group(const char *word) {
    for (int i = 0; i < GROUPS; i++)
        if (!strcmp(word, groups[i].name)) return 1;
    return 0;
}

static int parse_only(const char *text, gpu_options *o) {
    char copy[128], *rest = copy;
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy) return 1;
    for (char *word; (word = strsep(&rest, ",")) != NULL;)
        if (!is_group(word)) return 1;
    o->only = text;
    return 0;
}

static int parse_option(const char *name, const char *value, gpu_options *o) {
    int64_t n = 0;
    double x = 0.0;
    int bad = 0;
    if (!strcmp(name, "--only"))
        bad = parse_only(value, o);
    else if (!strcmp(name, "--heads"))
        bad = whole(value, 1, 1024, &o->heads);
    else if (!strcmp(name, "--dense-heads"))
        bad = whole(value, 1, 1024, &o->dense_heads);
    else if (!strcmp(name, "--grid"))
        bad = parse_grid(value, &o->grid);
    else if (!strcmp(name, "--head-dim"))
        bad = parse_dims(value, o);
    else if (!strcmp(name, "--dtype"))
        bad = parse_dtype(value, &o->dtype);
    else if (!strcmp(name, "--level"))
        o->level = value;
    else if (!strcmp(name, "--repeat"))
        bad = whole(value, 1, GPU_MAX_REPEATS, &n), o->repeats = (int32_t)n;
    else if (!strcmp(name, "--density"))
        bad = share(value, &o->density);
    else if (!strcmp(name, "--thr"))
        bad = share(value, &x), o->thr = (float)x;
    else if (!strcmp(name, "--dump"))
        o->dump = value;
    else if (!strcmp(name, "--limit"))
        bad = whole(value, 1, 3600, &n), o->limit = (unsigned)n;
    else
        bad = 1;
    return bad ? fail_usage(name, value) : 0;
}

static int parse(int argc, char **argv, gpu_options *o) {
    *o = (gpu_options){.grid = nabla_grid_default(21, 48, 80),
                       .heads = 40,
                       .dense_heads = 10,
                       .dims = {128, 64},
                       .dim_count = 2,
                       .repeats = 5,
                       .dtype = NABLA_BF16,
                       .density = 0.0746,
                       .thr = 0.7f,
                       .limit = 60};
    for (int i = 1; i < argc; i += 2) {
        const int code = i + 1 < argc ? parse_option(argv[i], argv[i + 1], o) : fail_usage(argv[i], NULL);
        if (code) return code;
    }
    if (o->dense_heads > o->heads) o->dense_heads = o->heads;
    return 0;
}

/* ---- processes */

/* Runs a group in a child that ends after a while, whatever it does; returns its failures. */
static int run_group(const gpu_options *o, const char *name, gpu_group *run, int64_t head_dim) {
    int state = 0;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        alarm(o->limit);
        const int failures = run(o, head_dim);
        fflush(NULL);
        _exit(failures);
    }
    if (child < 0 || waitpid(child, &state, 0) < 0) {
        perror("gpu_attention");
        return 1;
    }
    if (WIFEXITED(state)) return WEXITSTATUS(state);
    gpu_bench none = {.options = o, .head_dim = head_dim};
    if (WTERMSIG(state) == SIGALRM)
        snprintf(none.error, sizeof none.error, "took longer than %u s", o->limit);
    else
        snprintf(none.error, sizeof none.error, "ended by signal %d", WTERMSIG(state));
    gpu_print_failure(&none, name, "");
    return 1;
}

/* In a child, since a process that has started CUDA cannot fork. */
static int describe_gpu(const gpu_options *o, int64_t head_dim) {
    nabla_device_info info = {.size = sizeof info};
    char message[256];
    (void)o;
    (void)head_dim;
    if (nabla_device_count(NABLA_CUDA) < 1) {
        fprintf(stderr, "gpu_attention: this machine has no NVIDIA GPU, or no driver for it; there is nothing to "
                        "measure\n");
        return 1;
    }
    if (nabla_device_describe(NABLA_CUDA, 0, &info, message, sizeof message)) {
        fprintf(stderr, "gpu_attention: %s\n", message);
        return 1;
    }
    fprintf(stderr, "%s, %d multiprocessors, level %s; nabla %s\n", info.name, (int)info.multiprocessors, info.level,
            nabla_version());
    return 0;
}

static int wanted(const char *only, const char *name) {
    const size_t length = strlen(name);
    for (const char *at = only; at; at = strchr(at, ','), at = at ? at + 1 : NULL)
        if (!strncmp(at, name, length) && (!at[length] || at[length] == ',')) return 1;
    return !only;
}

int main(int argc, char **argv) {
    gpu_options o;
    int failures = 0;
    const int code = parse(argc, argv, &o);
    if (code) return code;
    if (run_group(&o, "gpu", describe_gpu, 0)) return 1;
    gpu_print_header();
    for (int i = 0; i < GROUPS; i++)
        for (int32_t d = 0; d < (i == 0 ? 1 : o.dim_count); d++)
            if (wanted(o.only, groups[i].name)) failures += run_group(&o, groups[i].name, groups[i].run, o.dims[d]);
    if (failures) fprintf(stderr, "gpu_attention: %d measurements failed; see the notes\n", failures);
    return failures != 0;
}

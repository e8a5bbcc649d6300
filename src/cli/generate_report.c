/* SPDX-License-Identifier: Apache-2.0 */
/* What nabla generate says: before, when it was interrupted, and after. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/generate.h"
#include "cli/profile.h"
#include "cli/report.h"
#include "video/files.h"

static double largest(const nabla_generate_result *r) {
    return fmax(r->text_memory, fmax(r->sample_memory, r->decode_memory));
}

/* Whether memory is worth a line. */
static int is_large(const nabla_generate_result *r) {
    return largest(r) > 1e9;
}

int cli_generate_announce(void *user, const nabla_generate_result *r) {
    const cli_generate *s = user;
    char text[4][32], dense[48] = "";
    if (s->common.quiet) return 0;
    if (s->common.json) {
        if (r->warning[0]) cli_note("warning: %s", r->warning);
        return 0;
    }
    cli_note("%dx%d, %d frames at %d a second; %d steps of %s, guidance %g, shift %g", r->width, r->height, r->frames,
             r->fps, r->steps, r->solver, (double)r->guidance, (double)r->shift);
    if (r->dense_steps && strcmp(r->policy, "dense") != 0)
        snprintf(dense, sizeof dense, "; the first %d steps dense", r->dense_steps);
    cli_note("policy %s (%s)%s", r->policy, r->policy_from, dense);
    if (is_large(r))
        cli_note("memory %s: text encoder %s, sampling %s, decoding %s, one after the other",
                 cli_format_bytes(largest(r), text[0], sizeof text[0]),
                 cli_format_bytes(r->text_memory, text[1], sizeof text[1]),
                 cli_format_bytes(r->sample_memory, text[2], sizeof text[2]),
                 cli_format_bytes(r->decode_memory, text[3], sizeof text[3]));
    if (r->offloaded_memory > 0)
        cli_note("offloading: %s of weights stay in the host's memory, two blocks at a time come to the GPU",
                 cli_format_bytes(r->offloaded_memory, text[0], sizeof text[0]));
    if (r->warning[0]) cli_note("warning: %s", r->warning);
    return 0;
}

/* A checkpoint is of one prompt, and of its seed. */
static void tell_resume(const cli_generate *s, const char *state) {
    if (s->to.prompts)
        cli_note(
            "saved: the same command with --resume %s and its own -o in place of --prompts%s goes on with this clip",
            state, s->seed.given ? " and --seed" : "");
    else
        cli_note("saved: the same command with --resume %s goes on from here", state);
}

void cli_generate_left(const cli_generate *s, const nabla_generate_result *r) {
    const nabla_generate_options *to = &s->to;
    if (r->kept_state[0]) tell_resume(s, r->kept_state);
    if (r->kept_latent[0])
        cli_note("saved: nabla decode %s --model %s -o %s goes on from here%s", r->kept_latent,
                 to->vae     ? to->vae
                 : to->model ? to->model
                             : to->transformer,
                 s->to.prompts ? "OUT" : s->to.output,
                 s->to.prompts ? "; the latents of other clips lie beside it" : "");
}

/* ------------------------------------------------------------------ figures */

/* A number where JSON's readers can hold it, else its digits. */
static json_t *seed_json(uint64_t seed) {
    char digits[24];
    if (seed < 1ull << 53) return json_integer((json_int_t)seed);
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)seed);
    return json_string(digits);
}

static int32_t clips(const cli_generate *s) {
    return s->to.prompts ? s->to.prompt_count : 1;
}

static const char *output_of(const cli_generate *s, int32_t i, char path[NV_PATH_SIZE]) {
    nv_path_number(path, s->to.output, s->to.prompts ? i + 1 : 0, NULL);
    return path;
}

static json_t *outputs_json(const cli_generate *s) {
    json_t *list = json_array();
    char path[NV_PATH_SIZE];
    for (int32_t i = 0; i < clips(s); i++)
        json_array_append_new(list, json_string(output_of(s, i, path)));
    return list;
}

/* Kept shares; null for steps of an earlier run. */
static json_t *densities_json(const cli_generate *s, const nabla_generate_result *r) {
    json_t *list = json_array();
    for (int32_t i = 0; i < r->steps; i++)
        json_array_append_new(list, s->densities[i] < 0 ? json_null() : json_real((double)s->densities[i]));
    return list;
}

static int print_json(const cli_generate *s, const nabla_generate_result *r, const nabla_video_profile *profile,
                      double seconds) {
    char path[NV_PATH_SIZE];
    json_t *figures = json_pack(
        "{s:s, s:s, s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:f, s:f, s:s, s:s, s:i, s:f}", "output",
        output_of(s, 0, path), "model", s->to.model ? s->to.model : s->to.transformer, "seed", seed_json(s->to.seed),
        "width", r->width, "height", r->height, "frames", r->frames, "fps", r->fps, "steps", r->steps, "resumed_steps",
        r->resumed_steps, "solver", r->solver, "guidance", (double)r->guidance, "shift", (double)r->shift, "policy",
        r->policy, "policy_from", r->policy_from, "dense_steps", r->dense_steps, "sparsity", r->sparsity);
    json_object_update_new(figures, json_pack("{s:o, s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "outputs",
                                              outputs_json(s), "densities", densities_json(s, r), "load_s", r->load_s,
                                              "text_s", r->text_s, "sample_s", r->sample_s, "decode_s", r->decode_s,
                                              "write_s", r->write_s, "plan_s", r->plan_s, "attention_s", r->attention_s,
                                              "products_s", r->products_s, "other_s", r->other_s, "total_s", seconds));
    json_object_update_new(figures,
                           json_pack("{s:I, s:I, s:I, s:I, s:I, s:f}", "text_memory", (json_int_t)r->text_memory,
                                     "sample_memory", (json_int_t)r->sample_memory, "decode_memory",
                                     (json_int_t)r->decode_memory, "peak_memory", (json_int_t)r->peak_memory,
                                     "offloaded_memory", (json_int_t)r->offloaded_memory, "weights_s", r->weights_s));
    return cli_profile_print_json("generate", &s->common, profile, figures);
}

/* "; kept 100 % in 12 steps, 31.0 to 35.2 % in 38", of the steps of this run. */
static void format_densities(const cli_generate *s, const nabla_generate_result *r, char *text, size_t size) {
    int dense = 0, sparse = 0;
    float least = 1, most = 0;
    size_t n = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < r->steps; i++) {
        const float d = s->densities[i];
        if (d < 0) continue;
        if (d > 0.9999f) {
            dense++;
            continue;
        }
        sparse++;
        least = fminf(least, d);
        most = fmaxf(most, d);
    }
    if (!sparse) return;
    if (dense) n = (size_t)snprintf(text, size, "; kept 100 %% in %d steps", dense);
    snprintf(text + n, size - n, "%s%.1f to %.1f %% in %d", n ? ", " : "; kept ", 100 * (double)least,
             100 * (double)most, sparse);
}

static void print_notes(const cli_generate *s, const nabla_generate_result *r, double seconds) {
    char kept[96], peak[32], estimate[32];
    format_densities(s, r, kept, sizeof kept);
    if (r->resumed_steps) cli_note("steps 1 to %d were done before", r->resumed_steps);
    cli_note("policy %s, sparsity %.1f %%%s", r->policy, fmax(0, 100 * r->sparsity), kept);
    cli_note("%.2f s: load %.2f, text %.2f, sample %.2f (plans %.2f, attention %.2f, products %.2f, other %.2f), "
             "decode %.2f, write %.2f",
             seconds, r->load_s, r->text_s, r->sample_s, r->plan_s, r->attention_s, r->products_s, r->other_s,
             r->decode_s, r->write_s);
    if (r->offloaded_memory > 0) cli_note("of sampling, %.2f s were spent waiting for offloaded weights", r->weights_s);
    cli_format_bytes(r->peak_memory, peak, sizeof peak);
    cli_format_bytes(largest(r), estimate, sizeof estimate);
    if (is_large(r))
        cli_note("peak memory %s, %s of it estimated", peak, estimate);
    else
        cli_note("peak memory %s", peak);
}

int cli_generate_report(const cli_generate *s, const nabla_generate_result *r, const nabla_video_profile *profile,
                        double seconds) {
    char path[NV_PATH_SIZE];
    if (s->common.json) return print_json(s, r, profile, seconds);
    if (!s->common.quiet) print_notes(s, r, seconds);
    const int code = cli_profile_print("generate", &s->common, profile);
    if (code) return code;
    for (int32_t i = 0; i < clips(s); i++)
        printf("%s (seed %llu)\n", output_of(s, i, path), (unsigned long long)s->to.seed + (unsigned long long)i);
    return CLI_DONE;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/sample_state.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "video/files.h"

static const char format[] = "nabla-sample-1";

enum { TEXTS = 6, NUMBERS = 9, SETTINGS = TEXTS + NUMBERS, OTHERS = 5, NUMBER_SIZE = 32 };

/* Settings as the file holds them: pairs of key and value. */
typedef struct pairs {
    const char *text[2 * SETTINGS];
    char numbers[NUMBERS][NUMBER_SIZE];
} pairs;

static void fill(pairs *p, const nv_sample_settings *s) {
    const nv_denoise_rule *r = s->rule;
    const char *const texts[TEXTS][2] = {{"prompt", s->prompt}, {"negative", s->negative}, {"policy", s->policy},
                                         {"solver", r->solver}, {"noise", s->noise},       {"dtype", s->dtype}};
    const char *const names[NUMBERS] = {"width",    "height", "frames", "steps",  "dense_steps",
                                        "guidance", "shift",  "seed",   "weights"};
    const int32_t whole[] = {r->clip.width, r->clip.height, r->clip.frames, r->steps, r->dense_steps};
    for (int i = 0; i < 5; i++)
        snprintf(p->numbers[i], NUMBER_SIZE, "%" PRId32, whole[i]);
    snprintf(p->numbers[5], NUMBER_SIZE, "%.9g", (double)r->guidance);
    snprintf(p->numbers[6], NUMBER_SIZE, "%.9g", (double)r->shift);
    snprintf(p->numbers[7], NUMBER_SIZE, "%" PRIu64, s->seed);
    snprintf(p->numbers[8], NUMBER_SIZE, "%016" PRIx64, s->weights);
    memcpy(p->text, texts, sizeof texts);
    for (int i = 0; i < NUMBERS; i++) {
        p->text[2 * (TEXTS + i)] = names[i];
        p->text[2 * (TEXTS + i) + 1] = p->numbers[i];
    }
}

/* The tensors of a state: the latent, and the history where there is one. Returns their number. */
static size_t list_tensors(const nv_sample_tensors *t, const nv_dit_shape *s, nv_st_entry entries[2]) {
    const int64_t shape[] = {t->latents, t->channels, s->frames, s->height, s->width};
    const size_t bytes = (size_t)t->channels * (size_t)s->frames * (size_t)s->height * (size_t)s->width * sizeof(float);
    entries[0] = (nv_st_entry){.name = "latent", .dtype = NV_ST_F32, .rank = 4, .bytes = bytes, .data = t->x};
    memcpy(entries[0].shape, shape + 1, 4 * sizeof *shape);
    entries[1] = (nv_st_entry){.name = "history", .dtype = NV_ST_F32, .rank = 5, .data = t->history};
    entries[1].bytes = (size_t)t->latents * bytes;
    memcpy(entries[1].shape, shape, sizeof shape);
    return t->latents > 0 ? 2 : 1;
}

nabla_status nv_sample_state_write(const char *path, const nv_sample_settings *settings, const nv_sample_tensors *t,
                                   const nv_denoise_totals *totals, nv_device *device, nv_error *err) {
    char steps[NUMBER_SIZE], density[NUMBER_SIZE];
    nv_origin origin;
    nv_st_entry entries[2];
    pairs p;
    NV_TRY(nv_origin_open(device, &origin, err));
    const char *metadata[2 * (SETTINGS + OTHERS)] = {"format",       format,       "machine", origin.machine, "choices",
                                                     origin.choices, "steps_done", steps,     "density",      density};
    fill(&p, settings);
    memcpy(metadata + 2 * OTHERS, p.text, sizeof p.text);
    snprintf(steps, sizeof steps, "%" PRId32, totals->steps);
    snprintf(density, sizeof density, "%a", totals->density);
    size_t count = list_tensors(t, &settings->rule->shape, entries);
    const nabla_status status = nv_st_write(path, entries, count, metadata, SETTINGS + OTHERS, err);
    nv_origin_close(&origin);
    return status;
}

/* ------------------------------------------------------------------ reading */

nabla_status nv_sample_state_open(const char *path, nv_st_file **out, nv_error *err) {
    NV_TRY(nv_st_open(path, out, err));
    const char *kind = nv_st_metadata(*out, "format");
    if (kind && strcmp(kind, format) == 0 && nv_st_metadata(*out, "prompt") && nv_st_metadata(*out, "negative") &&
        nv_st_metadata(*out, "noise"))
        return NABLA_OK;
    nv_st_close(*out);
    *out = NULL;
    return nv_fail(err, NABLA_CORRUPT, "%s is no checkpoint of a generation: resume needs one", path);
}

nabla_status nv_sample_state_go_on(const nv_st_file *file, const char *path, nv_device *device,
                                   char note[NV_ORIGIN_NOTE], nv_error *err) {
    const nabla_status status =
        nv_origin_go_on(device, nv_st_metadata(file, "machine"), nv_st_metadata(file, "choices"), note, err);
    return status == NABLA_OK ? status : nv_fail_in(err, "%s", path);
}

nabla_status nv_sample_state_check_place(const char *path, nv_error *err) {
    nv_st_file *file;
    /* Any other file is replaced, as outputs are. */
    if (!nv_file_exists(path) || nv_sample_state_open(path, &file, NULL) != NABLA_OK) return NABLA_OK;
    const char *done = nv_st_metadata(file, "steps_done"), *steps = nv_st_metadata(file, "steps");
    nabla_status status = NABLA_OK;
    if (done && steps && strcmp(done, "0") != 0 && strcmp(done, steps) != 0)
        status =
            nv_fail(err, NABLA_INVALID_ARGUMENT,
                    "%s keeps a run that stopped after step %.20s of %.20s: resume it, or remove the file to begin "
                    "anew",
                    path, done, steps);
    nv_st_close(file);
    return status;
}

static void take_i32(const nv_st_file *file, const char *key, int32_t *out) {
    const char *text = nv_st_metadata(file, key);
    long value = text ? strtol(text, NULL, 10) : 0;
    if (text && value >= 0 && value <= INT32_MAX) *out = (int32_t)value;
}

static void take_f32(const nv_st_file *file, const char *key, float *out) {
    const char *text = nv_st_metadata(file, key);
    if (text) *out = strtof(text, NULL);
}

static void take_text(const nv_st_file *file, const char *key, char *out, size_t size) {
    const char *text = nv_st_metadata(file, key);
    if (text) snprintf(out, size, "%s", text);
}

/* What is malformed here, compare() finds to differ from itself, or nv_denoise_check to be out of range. */
void nv_sample_state_defaults(const nv_st_file *file, nv_model_index *index, int32_t *dense_steps) {
    take_i32(file, "width", &index->width);
    take_i32(file, "height", &index->height);
    take_i32(file, "frames", &index->frames);
    take_i32(file, "steps", &index->steps);
    take_i32(file, "dense_steps", dense_steps);
    take_f32(file, "guidance", &index->guidance);
    take_f32(file, "shift", &index->shift);
    take_text(file, "policy", index->policy, sizeof index->policy);
    take_text(file, "solver", index->solver, sizeof index->solver);
}

static nabla_status compare(const nv_st_file *file, const char *path, const nv_sample_settings *settings, int count,
                            nv_error *err) {
    pairs p;
    fill(&p, settings);
    for (int i = 0; i < count; i++) {
        const char *key = p.text[2 * i], *wanted = p.text[2 * i + 1], *saved = nv_st_metadata(file, key);
        if (!saved) return nv_fail(err, NABLA_CORRUPT, "the checkpoint %s does not say its %s", path, key);
        if (strcmp(saved, wanted) == 0) continue;
        if (strcmp(key, "weights") == 0)
            return nv_fail(err, NABLA_INVALID_ARGUMENT,
                           "%s was made with another model, or before this one was trained further: resume with the "
                           "same, or begin anew",
                           path);
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "%s was made with %s \"%.80s\", this run asks for \"%.80s\": resume with the same settings, or "
                       "begin anew",
                       path, key, saved, wanted);
    }
    return NABLA_OK;
}

nabla_status nv_sample_state_check(const nv_st_file *file, const char *path, const nv_sample_settings *settings,
                                   nv_error *err) {
    return compare(file, path, settings, SETTINGS - 1, err); /* the weights come last */
}

static nabla_status read_totals(const nv_st_file *file, const char *path, int32_t most, nv_denoise_totals *totals,
                                nv_error *err) {
    const char *steps = nv_st_metadata(file, "steps_done"), *density = nv_st_metadata(file, "density");
    char *end = NULL, *density_end = NULL;
    long done = steps ? strtol(steps, &end, 10) : -1;
    double sum = density ? strtod(density, &density_end) : -1.0;
    if (done < 0 || done > most || *end || !(sum >= 0.0 && sum <= 1.001) || *density_end)
        return nv_fail(err, NABLA_CORRUPT, "the checkpoint %s has done \"%.40s\" steps at density \"%.40s\": of %d",
                       path, steps ? steps : "", density ? density : "", most);
    *totals = (nv_denoise_totals){.steps = (int32_t)done, .density = sum};
    return NABLA_OK;
}

static nabla_status read_tensor(const nv_st_file *file, const char *path, const nv_st_entry *wanted, float *out,
                                nv_error *err) {
    const nv_st_entry *e = nv_st_find(file, wanted->name);
    size_t count = wanted->bytes / sizeof *out;
    if (!e || e->dtype != NV_ST_F32 || e->rank != wanted->rank ||
        memcmp(e->shape, wanted->shape, (size_t)e->rank * sizeof *e->shape) != 0)
        return nv_fail(err, NABLA_CORRUPT, "the checkpoint %s has no tensor \"%s\" of fp32 and the clip's shape", path,
                       wanted->name);
    NV_TRY(nv_st_read_f32(e, out, count, err));
    for (size_t i = 0; i < count; i++)
        if (!isfinite(out[i]))
            return nv_fail(err, NABLA_CORRUPT, "tensor \"%s\" of the checkpoint %s holds values that are no numbers",
                           wanted->name, path);
    return NABLA_OK;
}

nabla_status nv_sample_state_read(const nv_st_file *file, const char *path, const nv_sample_settings *settings,
                                  const nv_sample_tensors *t, nv_denoise_totals *totals, nv_error *err) {
    nv_st_entry entries[2];
    NV_TRY(compare(file, path, settings, SETTINGS, err));
    NV_TRY(read_totals(file, path, settings->rule->steps, totals, err));
    size_t count = list_tensors(t, &settings->rule->shape, entries);
    NV_TRY(read_tensor(file, path, &entries[0], t->x, err));
    if (count == 1) return NABLA_OK;
    return read_tensor(file, path, &entries[1], t->history, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "train/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/safetensors.h"

enum { PARTS = 4, NAME_SIZE = 160 };

static const char *const part_names[PARTS] = {"master", "moment1", "moment2", "ema"};

static float *part_of(const nv_optimizer_slot *slot, int part) {
    float *const parts[PARTS] = {slot->tensor.value, slot->moment1, slot->moment2, slot->ema};
    return parts[part];
}

static void name_of(const nv_optimizer_slot *slot, int part, char name[NAME_SIZE]) {
    snprintf(name, NAME_SIZE, "%s.%s", part_names[part], slot->tensor.name);
}

/* Lists every part of every slot, its values downloaded to `values`. */
static nabla_status fill_entries(nv_optimizer *optimizer, nv_st_entry *entries, char (*names)[NAME_SIZE], float *values,
                                 nv_error *err) {
    nv_device *device = nv_optimizer_device(optimizer);
    for (size_t i = 0; i < nv_optimizer_count(optimizer) * PARTS; i++) {
        const nv_optimizer_slot *slot = nv_optimizer_at(optimizer, i / PARTS);
        const nv_trainable *t = &slot->tensor;
        int part = (int)(i % PARTS);
        name_of(slot, part, names[i]);
        NV_TRY(device->ops->download(device, values, part_of(slot, part), t->count * sizeof *values, err));
        entries[i] = (nv_st_entry){.name = names[i], .dtype = NV_ST_F32, .rank = t->rank, .data = values};
        memcpy(entries[i].shape, t->shape, sizeof t->shape);
        entries[i].bytes = t->count * sizeof *values;
        values += t->count;
    }
    return NABLA_OK;
}

static nabla_status write_state(const char *path, const nv_st_entry *entries, size_t count, const nv_checkpoint *state,
                                const char *options, const nv_origin *origin, nv_error *err) {
    char step[32], interval[96];
    snprintf(step, sizeof step, "%" PRId64, state->step);
    snprintf(interval, sizeof interval, "%a %a %" PRId64, state->interval_loss, state->interval_density,
             state->interval_steps);
    const char *metadata[] = {"format",   "nabla-train-1", "step",    step,
                              "interval", interval,        "options", options,
                              "machine",  origin->machine, "choices", origin->choices};
    return nv_st_write(path, entries, count, metadata, sizeof metadata / sizeof *metadata / 2, err);
}

static size_t total_values(nv_optimizer *optimizer) {
    size_t total = 0;
    for (size_t i = 0; i < nv_optimizer_count(optimizer); i++)
        total += nv_optimizer_at(optimizer, i)->tensor.count * PARTS;
    return total;
}

size_t nv_checkpoint_memory(size_t values) {
    return PARTS * values * sizeof(float);
}

nabla_status nv_checkpoint_write(const char *path, nv_optimizer *optimizer, const nv_checkpoint *state,
                                 const char *options, nv_error *err) {
    size_t count = nv_optimizer_count(optimizer) * PARTS;
    nv_st_entry *entries = calloc(count, sizeof *entries);
    char(*names)[NAME_SIZE] = calloc(count, sizeof *names);
    float *values = malloc(total_values(optimizer) * sizeof *values);
    nv_origin origin = {.choices = NULL};
    nabla_status status;
    if (entries && names && values) {
        status = fill_entries(optimizer, entries, names, values, err);
        if (status == NABLA_OK) status = nv_origin_open(nv_optimizer_device(optimizer), &origin, err);
        if (status == NABLA_OK) status = write_state(path, entries, count, state, options, &origin, err);
    } else {
        status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a checkpoint of %zu tensors", count);
    }
    nv_origin_close(&origin);
    free(entries);
    free(names);
    free(values);
    return status;
}

/* Reports the first line of "key=value" in which two lists of settings differ. */
static nabla_status compare_options(const char *path, const char *saved, const char *wanted, nv_error *err) {
    while (*saved || *wanted) {
        size_t n = strcspn(saved, "\n"), m = strcspn(wanted, "\n");
        if (n != m || strncmp(saved, wanted, n) != 0)
            return nv_fail(err, NABLA_INVALID_ARGUMENT,
                           "%s was made with %.*s, this run asks for %.*s: resume with the same settings, or start a "
                           "new run in another folder",
                           path, (int)n, saved, (int)m, wanted);
        saved += n + (saved[n] == '\n');
        wanted += m + (wanted[m] == '\n');
    }
    return NABLA_OK;
}

static nabla_status read_state(const nv_st_file *file, const char *path, const char *options, nv_checkpoint *state,
                               nv_error *err) {
    const char *format = nv_st_metadata(file, "format"), *step = nv_st_metadata(file, "step");
    const char *interval = nv_st_metadata(file, "interval"), *saved = nv_st_metadata(file, "options");
    if (!format || strcmp(format, "nabla-train-1") != 0 || !step || !interval || !saved)
        return nv_fail(err, NABLA_CORRUPT, "%s is not a training state of this program: resume needs one", path);
    if (sscanf(step, "%" SCNd64, &state->step) != 1 || state->step < 0 ||
        sscanf(interval, "%la %la %" SCNd64, &state->interval_loss, &state->interval_density, &state->interval_steps) !=
            3)
        return nv_fail(err, NABLA_CORRUPT, "%s: step \"%.40s\" or interval \"%.80s\" is malformed", path, step,
                       interval);
    return compare_options(path, saved, options, err);
}

/* values: room for the tensor on the host. */
static nabla_status read_part(nv_device *device, const nv_st_file *file, const nv_optimizer_slot *slot, int part,
                              float *values, nv_error *err) {
    char name[NAME_SIZE];
    name_of(slot, part, name);
    const nv_st_entry *entry = nv_st_find(file, name);
    if (!entry) return nv_fail(err, NABLA_CORRUPT, "tensor %s is missing", name);
    int same = entry->rank == slot->tensor.rank && entry->dtype == NV_ST_F32;
    for (int i = 0; same && i < entry->rank; i++)
        same = entry->shape[i] == slot->tensor.shape[i];
    if (!same) return nv_fail(err, NABLA_CORRUPT, "tensor %s is not fp32 of the model's shape", name);
    NV_TRY(nv_st_read_f32(entry, values, slot->tensor.count, err));
    device->ops->upload(device, part_of(slot, part), values, slot->tensor.count * sizeof *values);
    return NABLA_OK;
}

static size_t largest_tensor(nv_optimizer *optimizer) {
    size_t largest = 1;
    for (size_t i = 0; i < nv_optimizer_count(optimizer); i++) {
        size_t count = nv_optimizer_at(optimizer, i)->tensor.count;
        if (count > largest) largest = count;
    }
    return largest;
}

static nabla_status read_parts(const nv_st_file *file, const char *path, nv_optimizer *optimizer, nv_error *err) {
    float *values = malloc(largest_tensor(optimizer) * sizeof *values);
    if (!values) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to read %s", path);
    nabla_status status = NABLA_OK;
    for (size_t i = 0; status == NABLA_OK && i < nv_optimizer_count(optimizer) * PARTS; i++) {
        const nv_optimizer_slot *slot = nv_optimizer_at(optimizer, i / PARTS);
        status = read_part(nv_optimizer_device(optimizer), file, slot, (int)(i % PARTS), values, err);
        if (status != NABLA_OK) nv_fail_in(err, "%s", path);
    }
    free(values);
    return status;
}

static nabla_status read_origin(const nv_st_file *file, const char *path, nv_device *device, char note[NV_ORIGIN_NOTE],
                                nv_error *err) {
    const nabla_status status =
        nv_origin_go_on(device, nv_st_metadata(file, "machine"), nv_st_metadata(file, "choices"), note, err);
    return status == NABLA_OK ? status : nv_fail_in(err, "%s", path);
}

nabla_status nv_checkpoint_read(const char *path, nv_optimizer *optimizer, nv_checkpoint *state, const char *options,
                                char note[NV_ORIGIN_NOTE], nv_error *err) {
    nv_st_file *file;
    NV_TRY(nv_st_open(path, &file, err));
    nabla_status status = read_state(file, path, options, state, err);
    if (status == NABLA_OK) status = read_parts(file, path, optimizer, err);
    if (status == NABLA_OK) status = read_origin(file, path, nv_optimizer_device(optimizer), note, err);
    nv_st_close(file);
    return status;
}

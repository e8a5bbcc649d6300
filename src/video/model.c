/* SPDX-License-Identifier: Apache-2.0 */
#include "video/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/bf16.h"
#include "train/draw.h"
#include "video/files.h"
#include "video/machine.h"
#include "weights/set.h"

static const char transformer_config[] = "transformer/config.json";
static const char transformer_weights[] = "transformer/diffusion_pytorch_model.safetensors";
static const char words_list[] = "text/words.json";
static const char words_table[] = "text/words.safetensors";

int32_t nv_clip_model_text_dim(const nv_clip_model *m) {
    return nv_dit_get_config(m->dit)->text_dim;
}

static size_t table_count(const nv_clip_model *m) {
    return (size_t)nv_words_rows(m->words) * (size_t)nv_clip_model_text_dim(m);
}

static nabla_status make_table(nv_clip_model *m, int train, nv_error *err) {
    size_t bytes = table_count(m) * sizeof(float);
    NV_TRY(m->device->ops->allocate(m->device, bytes, (void **)&m->table, err));
    if (!train) return NABLA_OK;
    return m->device->ops->allocate(m->device, bytes, (void **)&m->table_grad, err);
}

/* ------------------------------------------------------------------ opening a folder */

static nabla_status check_index(const char *folder, const nv_model_index *index, nv_error *err) {
    if (strcmp(index->kind, NV_KIND_CLIP) != 0)
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "%s holds a %s; this version runs %s folders: choose one that `nabla train` wrote", folder,
                       index->kind, NV_KIND_CLIP);
    if (index->width < 1 || index->height < 1 || index->frames < 1 || index->fps < 1 || index->steps < 1)
        return nv_fail(err, NABLA_CORRUPT, "%s/model_index.json: width, height, frames, fps and steps must be positive",
                       folder);
    return NABLA_OK;
}

static nabla_status check_config(const char *folder, const nv_dit_config *config, nv_error *err) {
    if (config->in_channels != 3 || config->out_channels != 3)
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "%s has %d channels in and %d out; a clip model works on the 3 of pixels", folder,
                       config->in_channels, config->out_channels);
    return NABLA_OK;
}

static nabla_status read_weights(const char *folder, nv_clip_model *m, nv_error *err) {
    char path[NV_PATH_SIZE];
    nv_weights *weights;
    NV_TRY(nv_path_join(path, folder, transformer_weights, err));
    NV_TRY(nv_weights_open(path, &weights, err));
    nabla_status status = nv_dit_load(m->dit, weights, NULL, NULL, NULL, err);
    nv_weights_close(weights);
    return status;
}

static nabla_status upload_table(nv_clip_model *m, const nv_st_entry *entry, nv_error *err) {
    size_t count = table_count(m);
    float *values = malloc(count * sizeof *values);
    if (!values) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a table of %zu numbers", count);
    nabla_status status = nv_st_read_f32(entry, values, count, err);
    if (status == NABLA_OK) m->device->ops->upload(m->device, m->table, values, count * sizeof *values);
    free(values);
    return status;
}

static nabla_status read_table(const char *folder, nv_clip_model *m, nv_error *err) {
    char path[NV_PATH_SIZE];
    nv_st_file *file;
    NV_TRY(nv_path_join(path, folder, words_table, err));
    NV_TRY(nv_st_open(path, &file, err));
    const nv_st_entry *entry = nv_st_find(file, "table");
    int64_t rows = nv_words_rows(m->words), columns = nv_clip_model_text_dim(m);
    nabla_status status;
    if (!entry || entry->rank != 2 || entry->shape[0] != rows || entry->shape[1] != columns)
        status =
            nv_fail(err, NABLA_CORRUPT, "%s: tensor \"table\" must be [%lld, %lld], as the list of words and text_dim",
                    path, (long long)rows, (long long)columns);
    else
        status = upload_table(m, entry, err);
    nv_st_close(file);
    return status;
}

static nabla_status open_parts(const char *folder, const nabla_video_machine *machine, int train, nv_clip_model *m,
                               nv_error *err) {
    char path[NV_PATH_SIZE];
    nv_dit_config config;
    if (!nv_file_exists(folder))
        return nv_fail(err, NABLA_IO, "the model folder %.300s does not exist: check --model", folder);
    NV_TRY(nv_path_join(path, folder, "model_index.json", err));
    NV_TRY(nv_config_read_index(path, &m->index, err));
    NV_TRY(check_index(folder, &m->index, err));
    NV_TRY(nv_prediction_parse(m->index.prediction, &m->prediction, err));
    NV_TRY(nv_path_join(path, folder, transformer_config, err));
    NV_TRY(nv_config_read_dit(path, &config, err));
    NV_TRY(check_config(folder, &config, err));
    NV_TRY(nv_path_join(path, folder, words_list, err));
    NV_TRY(nv_words_read(path, &m->words, err));
    if (!m->device) NV_TRY(nv_machine_open(machine, &m->device, err));
    NV_TRY(nv_dit_create(m->device, &config, machine->compute, train ? NV_DIT_TRAIN : NV_DIT_INFER, &m->dit, err));
    NV_TRY(make_table(m, train, err));
    NV_TRY(read_weights(folder, m, err));
    return read_table(folder, m, err);
}

nabla_status nv_clip_model_open(const char *folder, const nabla_video_machine *machine, int train, nv_clip_model *m,
                                nv_error *err) {
    *m = (nv_clip_model){0};
    nabla_status status = open_parts(folder, machine, train, m, err);
    if (status != NABLA_OK) nv_clip_model_close(m);
    return status;
}

nabla_status nv_clip_model_open_beside(const char *folder, const nabla_video_machine *machine, nv_clip_model *other,
                                       nv_clip_model *m, nv_error *err) {
    *m = (nv_clip_model){.device = other->device, .borrowed = 1};
    nabla_status status = open_parts(folder, machine, 0, m, err);
    if (status != NABLA_OK) nv_clip_model_close(m);
    return status;
}

/* ------------------------------------------------------------------ a new model */

static nabla_status init_table(nv_clip_model *m, uint64_t seed, nv_error *err) {
    size_t count = table_count(m);
    float *values = malloc(count * sizeof *values);
    if (!values) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a table of %zu numbers", count);
    nv_philox g = nv_draw(seed, NV_DRAW_WORDS, 0, 0);
    nv_philox_normal(&g, values, count);
    m->device->ops->upload(m->device, m->table, values, count * sizeof *values);
    free(values);
    return NABLA_OK;
}

static nabla_status new_parts(const nv_dit_config *config, const nv_source *source, uint64_t seed,
                              const nabla_video_machine *machine, nv_clip_model *m, nv_error *err) {
    NV_TRY(nv_prediction_parse(m->index.prediction, &m->prediction, err));
    NV_TRY(nv_words_create(source->words, source->word_count, source->caption_words, &m->words, err));
    NV_TRY(nv_words_join(m->words, source->joins, source->join_count, err));
    NV_TRY(nv_machine_open(machine, &m->device, err));
    NV_TRY(nv_dit_create(m->device, config, machine->compute, NV_DIT_TRAIN, &m->dit, err));
    NV_TRY(make_table(m, 1, err));
    nv_dit_init(m->dit, seed);
    NV_TRY(init_table(m, seed, err));
    return nv_dit_update(m->dit, err);
}

nabla_status nv_clip_model_new(const nv_model_index *index, const nv_dit_config *config, const nv_source *source,
                               uint64_t seed, const nabla_video_machine *machine, nv_clip_model *m, nv_error *err) {
    *m = (nv_clip_model){.index = *index};
    nabla_status status = new_parts(config, source, seed, machine, m, err);
    if (status != NABLA_OK) nv_clip_model_close(m);
    return status;
}

void nv_clip_model_close(nv_clip_model *m) {
    nv_dit_destroy(m->dit);
    nv_words_destroy(m->words);
    if (m->device) {
        m->device->ops->release(m->device, m->table);
        m->device->ops->release(m->device, m->table_grad);
        if (!m->borrowed) nv_device_destroy(m->device);
    }
    *m = (nv_clip_model){0};
}

/* ------------------------------------------------------------------ saving */

static nabla_status write_json(nv_clip_model *m, const char *folder, nv_error *err) {
    char path[NV_PATH_SIZE];
    NV_TRY(nv_path_join(path, folder, "transformer", err));
    NV_TRY(nv_folder_make(path, err));
    NV_TRY(nv_path_join(path, folder, transformer_config, err));
    NV_TRY(nv_config_write_dit(path, nv_dit_get_config(m->dit), err));
    NV_TRY(nv_path_join(path, folder, "text", err));
    NV_TRY(nv_folder_make(path, err));
    NV_TRY(nv_path_join(path, folder, words_list, err));
    NV_TRY(nv_words_write(m->words, path, err));
    NV_TRY(nv_path_join(path, folder, "model_index.json", err));
    return nv_config_write_index(path, &m->index, err);
}

/* Rounds a parameter in the device's memory, by way of `values` on the host. */
static nabla_status round_values(nv_device *device, const float *from, float *values, nv_bf16 *to, size_t count,
                                 nv_error *err) {
    NV_TRY(device->ops->download(device, values, from, count * sizeof *values, err));
    for (size_t i = 0; i < count; i++)
        to[i] = nv_bf16_from_float(values[i]);
    return NABLA_OK;
}

/* Host memory for writing: all values rounded, any one parameter's before rounding. */
typedef struct scratch {
    nv_bf16 *rounded;
    float *values;
    nv_st_entry *entries;
} scratch;

static nabla_status write_transformer(nv_clip_model *m, const char *path, nv_clip_model_values value, void *user,
                                      const scratch *s, nv_error *err) {
    size_t count = nv_dit_parameter_count(m->dit);
    nv_bf16 *next = s->rounded;
    for (size_t i = 0; i < count; i++) {
        const nv_parameter *p = nv_dit_parameter(m->dit, i);
        nv_st_entry *entry = &s->entries[i];
        NV_TRY(round_values(m->device, value(user, i), s->values, next, p->count, err));
        *entry = (nv_st_entry){.name = p->name, .dtype = NV_ST_BF16, .rank = p->rank, .data = next};
        memcpy(entry->shape, p->shape, sizeof p->shape);
        entry->bytes = p->count * sizeof *next;
        next += p->count;
    }
    const char *metadata[] = {"format", "pt"};
    return nv_st_write(path, s->entries, count, metadata, 1, err);
}

static nabla_status write_table(nv_clip_model *m, const char *path, const float *value, const scratch *s,
                                nv_error *err) {
    NV_TRY(round_values(m->device, value, s->values, s->rounded, table_count(m), err));
    nv_st_entry entry = {.name = "table", .dtype = NV_ST_BF16, .rank = 2, .data = s->rounded};
    entry.shape[0] = nv_words_rows(m->words);
    entry.shape[1] = nv_clip_model_text_dim(m);
    entry.bytes = table_count(m) * sizeof *s->rounded;
    return nv_st_write(path, &entry, 1, NULL, 0, err);
}

nabla_status nv_clip_model_save(nv_clip_model *m, const char *folder, nv_clip_model_values value, void *user,
                                nv_error *err) {
    char path[NV_PATH_SIZE];
    size_t count = nv_dit_parameter_count(m->dit), values = nv_dit_values(m->dit) + table_count(m);
    NV_TRY(write_json(m, folder, err));
    scratch s = {.rounded = malloc(values * sizeof *s.rounded), .values = malloc(values * sizeof *s.values)};
    s.entries = calloc(count, sizeof *s.entries);
    nabla_status status = NABLA_OK;
    if (!s.rounded || !s.values || !s.entries)
        status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to round %zu weights", values);
    if (status == NABLA_OK) status = nv_path_join(path, folder, transformer_weights, err);
    if (status == NABLA_OK) status = write_transformer(m, path, value, user, &s, err);
    if (status == NABLA_OK) status = nv_path_join(path, folder, words_table, err);
    if (status == NABLA_OK) status = write_table(m, path, value(user, count), &s, err);
    free(s.rounded);
    free(s.values);
    free(s.entries);
    return status;
}

/* ------------------------------------------------------------------ contexts */

nabla_status nv_clip_model_contexts(nv_clip_model *m, const int32_t *ids, int32_t count, float *contexts,
                                    nv_error *err) {
    const nv_device_ops *ops = m->device->ops;
    const int64_t words = (int64_t)count * nv_words_length(m->words), dim = nv_clip_model_text_dim(m);
    const size_t bytes = (size_t)(words * dim) * sizeof *contexts;
    void *there = NULL, *out = NULL;
    nabla_status status = ops->allocate(m->device, (size_t)words * sizeof *ids, &there, err);
    if (status == NABLA_OK) status = ops->allocate(m->device, bytes, &out, err);
    if (status == NABLA_OK) {
        ops->upload(m->device, there, ids, (size_t)words * sizeof *ids);
        status = ops->embed(m->device, m->table, there, words, dim, out, err);
    }
    if (status == NABLA_OK) status = ops->download(m->device, contexts, out, bytes, err);
    if (there) ops->release(m->device, there);
    if (out) ops->release(m->device, out);
    return status;
}

/* ------------------------------------------------------------------ shapes */

nabla_status nv_clip_model_shape(const nv_clip_model *m, int32_t batch, const nv_clip_size *clip, int train,
                                 nv_dit_shape *shape, nv_error *err) {
    const nv_dit_config *config = nv_dit_get_config(m->dit);
    const int32_t *patch = config->patch;
    if (clip->frames < 1 || clip->frames % patch[0] != 0)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d frames: choose a positive multiple of %d", clip->frames,
                       patch[0]);
    if (clip->width < 1 || clip->height < 1 || clip->width % patch[2] != 0 || clip->height % patch[1] != 0)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "size %dx%d: width must be a positive multiple of %d and height of %d, as the model's patches",
                       clip->width, clip->height, patch[2], patch[1]);
    *shape = (nv_dit_shape){.batch = batch, .frames = clip->frames, .height = clip->height, .width = clip->width};
    shape->text_length = nv_words_length(m->words);
    shape->tile[0] = 1;
    shape->tile[1] = shape->tile[2] = 8;
    shape->train = train;
    float span = (float)m->index.position_grid;
    shape->rope_scale[0] = 1.0f;
    shape->rope_scale[1] = span > 0.0f ? span / (float)(clip->height / patch[1]) : 1.0f;
    shape->rope_scale[2] = span > 0.0f ? span / (float)(clip->width / patch[2]) : 1.0f;
    return NABLA_OK;
}

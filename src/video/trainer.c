/* SPDX-License-Identifier: Apache-2.0 */
#include "video/trainer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "video/files.h"
#include "video/folder.h"
#include "video/profile.h"
#include "video/trainables.h"
#include "video/warning.h"

static const char state_file[] = "train/state.safetensors";
static const char log_file[] = "train/log.csv";

/* ------------------------------------------------------------------ the model it starts from */

static nabla_status copy_text(char *to, size_t size, const char *from, const char *what, nv_error *err) {
    if ((size_t)snprintf(to, size, "%s", from) >= size)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s \"%.60s\" is longer than %zu bytes", what, from, size - 1);
    return NABLA_OK;
}

/* What the folder says about how to use the model, of the options. */
static nabla_status fill_index(const nabla_train_options *o, nv_model_index *index, nv_error *err) {
    index->width = o->width;
    index->height = o->height;
    index->frames = o->frames;
    index->fps = o->fps;
    index->shift = o->shift;
    index->guidance = o->guidance;
    index->steps = o->sample_steps;
    NV_TRY(copy_text(index->kind, sizeof index->kind, NV_KIND_CLIP, "kind", err));
    NV_TRY(copy_text(index->solver, sizeof index->solver, "euler", "solver", err));
    return copy_text(index->policy, sizeof index->policy, o->policy, "policy", err);
}

static nabla_status start_anew(nv_trainer *t, const nabla_video_machine *machine, nv_error *err) {
    const nabla_train_options *o = t->options;
    nv_model_index index = {.position_grid = o->position_grid};
    NV_TRY(fill_index(o, &index, err));
    NV_TRY(copy_text(index.prediction, sizeof index.prediction, o->prediction ? o->prediction : "sample", "prediction",
                     err));
    nv_dit_config config = {
        .patch = {1, o->patch, o->patch},
        .in_channels = 3,
        .out_channels = 3,
        .heads = o->heads,
        .head_dim = o->dim / o->heads,
        .layers = o->layers,
        .ffn_dim = o->ffn_dim,
        .freq_dim = 256,
        .text_dim = o->dim,
        .cross_attn_norm = 1,
        .rope_max = 1024,
        .eps = 1e-6f,
    };
    return nv_clip_model_new(&index, &config, &t->source, o->seed, machine, &t->model, err);
}

/* What makes up a model comes with it. An option that is its default was not asked for. */
static nabla_status check_same_shape(const nv_trainer *t, const char *folder, nv_error *err) {
    const nabla_train_options *o = t->options, d = nabla_train_options_default();
    const nv_dit_config *c = nv_dit_get_config(t->model.dit);
    const struct {
        const char *name;
        int32_t asked, standard, own;
    } parts[] = {
        {"dim", o->dim, d.dim, c->heads * c->head_dim},
        {"heads", o->heads, d.heads, c->heads},
        {"layers", o->layers, d.layers, c->layers},
        {"ffn_dim", o->ffn_dim, d.ffn_dim, c->ffn_dim},
        {"patch", o->patch, d.patch, c->patch[1]},
        {"position_grid", o->position_grid, d.position_grid, t->model.index.position_grid},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].asked != parts[i].standard && parts[i].asked != parts[i].own)
            return nv_fail(err, NABLA_INVALID_ARGUMENT,
                           "%s of the model %.300s is %d and cannot become %d: leave it out, or train from scratch",
                           parts[i].name, folder, parts[i].own, parts[i].asked);
    return NABLA_OK;
}

/* A finished model, or the folder of the run to resume (whose weights the state then replaces). */
static nabla_status start_from(nv_trainer *t, const char *folder, const nabla_video_machine *machine, nv_error *err) {
    const nabla_train_options *o = t->options;
    NV_TRY(nv_clip_model_open(folder, machine, 1, &t->model, err));
    if (o->prediction && strcmp(o->prediction, t->model.index.prediction) != 0)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "%s predicts \"%s\" and cannot go on with \"%.40s\": leave prediction out", folder,
                       t->model.index.prediction, o->prediction);
    if (!o->resume) NV_TRY(check_same_shape(t, folder, err));
    return fill_index(o, &t->model.index, err);
}

/* ------------------------------------------------------------------ memory */

/* What is yet to be taken. */
typedef struct needs {
    size_t there; /* on the device: batches, clips with noise and what the model makes of them, the optimizer's moments
                     and averages, what the transformer keeps */
    size_t here;  /* on the host: batches, a copy of the state while it is written (the model's files need less, and at
                     another time) */
} needs;

static nabla_status estimate(const nv_trainer *t, const nv_dit_shape *shape, needs *n, nv_error *err) {
    size_t run_bytes = 0, batch_bytes = 0;
    size_t table = (size_t)nv_words_rows(t->model.words) * (size_t)nv_clip_model_text_dim(&t->model);
    size_t values = nv_dit_values(t->model.dit) + table;
    *n = (needs){0};
    NV_TRY(nv_batch_bytes(t, &batch_bytes, err));
    NV_TRY(nv_memory_add(&n->here, 1, (int64_t)batch_bytes, nv_batch_slots(t), 1, 1, err));
    NV_TRY(nv_memory_add(&n->here, 1, (int64_t)nv_checkpoint_memory(values), 1, 1, 1, err));
    NV_TRY(nv_memory_add(&n->there, 1, (int64_t)batch_bytes, nv_batch_slots(t), 1, 1, err));
    NV_TRY(nv_memory_add(&n->there, sizeof(float), 2, t->options->batch, (int64_t)t->values, 1, err));
    NV_TRY(nv_memory_add(&n->there, sizeof(float), 3, (int64_t)values, 1, 1, err));
    NV_TRY(nv_dit_run_memory(t->model.dit, shape, &run_bytes, err));
    if (t->options->teacher) NV_TRY(nv_teacher_memory(&t->teacher, &n->there, err));
    return nv_memory_add(&n->there, 1, (int64_t)run_bytes, 1, 1, 1, err);
}

static nabla_status check_memory(const nv_trainer *t, const nv_dit_shape *shape, nv_error *err) {
    const int cpu = strcmp(t->model.device->kind, "cpu") == 0;
    nv_dit_shape other = *shape;
    needs n, with;
    char remedy[192] = "choose a smaller batch (--accumulate then makes up for it), size or model";
    other.recompute = 1;
    NV_TRY(estimate(t, shape, &n, err));
    NV_TRY(estimate(t, &other, &with, err));
    if (with.there < n.there)
        snprintf(remedy, sizeof remedy,
                 "--activation-checkpointing brings it down to %.1f GB; or choose a smaller batch (--accumulate then "
                 "makes up for it), size or model",
                 (double)(with.there + (cpu ? with.here : 0)) / 1e9);
    if (cpu) return nv_memory_check(NULL, n.there + n.here, "this training run", remedy, err);
    NV_TRY(nv_memory_check(t->model.device, n.there, "this training run", remedy, err));
    return nv_memory_check(NULL, n.here, "the batches and checkpoints of this training run",
                           "choose a smaller batch (--accumulate then makes up for it), size or model", err);
}

static nabla_status make_buffers(nv_trainer *t, const nv_dit_shape *shape, nv_error *err) {
    nv_device *device = t->model.device;
    size_t batch = (size_t)t->options->batch, clips = batch * t->values * sizeof(float);
    size_t context =
        batch * (size_t)nv_words_length(t->model.words) * (size_t)nv_clip_model_text_dim(&t->model) * sizeof(float);
    NV_TRY(nv_dit_run_create(t->model.dit, shape, &t->run, err));
    NV_TRY(device->ops->allocate(device, clips, (void **)&t->latent, err));
    NV_TRY(device->ops->allocate(device, clips, (void **)&t->output, err));
    NV_TRY(device->ops->allocate(device, context, (void **)&t->context, err));
    NV_TRY(device->ops->allocate(device, context, (void **)&t->d_context, err));
    NV_TRY(device->ops->allocate(device, NV_FIGURES * sizeof(double), (void **)&t->figures, err));
    NV_TRY(device->ops->allocate(device, sizeof *t->stream, (void **)&t->stream, err));
    for (int slot = 0; slot < NV_BATCH_SLOTS; slot++)
        for (int last = 0; last < 2; last++)
            t->repeats[slot][last] = nv_repeat_of(device, NV_REPLAY_SHORT);
    if (t->options->teacher) NV_TRY(nv_teacher_start(&t->teacher, err));
    return nv_batches_open(t, err);
}

static nabla_status make_optimizer(nv_trainer *t, nv_error *err) {
    const nabla_train_options *o = t->options;
    size_t count = nv_dit_parameter_count(t->model.dit);
    nv_trainable *tensors = calloc(count + 1, sizeof *tensors);
    if (!tensors) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to list %zu tensors", count);
    nv_list_trainables(t->model.dit, tensors);
    int64_t rows = nv_words_rows(t->model.words), columns = nv_clip_model_text_dim(&t->model);
    tensors[count] = (nv_trainable){.name = "text.table", .rank = 2, .shape = {rows, columns}};
    tensors[count].count = (size_t)(rows * columns);
    tensors[count].value = t->model.table;
    tensors[count].grad = t->model.table_grad;
    nv_adamw_rule rule = {.beta1 = o->beta1, .beta2 = o->beta2, .epsilon = 1e-8f};
    rule.weight_decay = o->weight_decay;
    rule.clip = o->clip;
    rule.rounds = o->accumulate;
    nabla_status status = nv_optimizer_create(t->model.device, tensors, count + 1, &rule, &t->optimizer, err);
    free(tensors);
    return status;
}

/* ------------------------------------------------------------------ opening, saving, closing */

static nabla_status read_rules(nv_trainer *t, nv_error *err) {
    const nabla_train_options *o = t->options;
    t->clip = (nv_clip_size){o->frames, o->height, o->width};
    t->levels.shift = o->shift;
    t->schedule = (nv_schedule){.lr = (double)o->lr, .warmup = o->warmup, .steps = o->steps};
    t->schedule.final = (double)o->final_lr;
    NV_TRY(nv_noise_parse(o->noise, &t->levels.kind, err));
    return nv_weighting_parse(o->weighting, &t->weighting, err);
}

static nabla_status parse_policy(nv_trainer *t, nv_error *err) {
    nabla_context *ctx = t->model.device->context;
    nabla_status status = nabla_policy_parse(ctx, t->options->policy, &t->policy);
    if (status != NABLA_OK) return nv_fail(err, status, "%s", nabla_context_message(ctx));
    if (t->policy.int8)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "policy %.80s: attention in int8 has no backward pass; train without _int8 and generate with it",
                       t->options->policy);
    return NABLA_OK;
}

/* A model without a run's state, perhaps somebody's only copy. A run that was killed before its first state was whole
   leaves the same files and nothing worth keeping, but no program can tell: the user says so by deleting them. */
static nabla_status check_no_model(const char *output, nv_error *err) {
    static const char *const parts[] = {"model_index.json", "transformer"};
    char path[NV_PATH_SIZE];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        NV_TRY(nv_path_join(path, output, parts[i], err));
        if (nv_file_exists(path))
            return nv_fail(err, NABLA_INVALID_ARGUMENT,
                           "%.200s already holds a model (%s), which training would overwrite: choose another output "
                           "folder (--model %.100s starts from it), or delete it if it is what a run left that was "
                           "killed before its first checkpoint",
                           output, parts[i], output);
    }
    return NABLA_OK;
}

/* Whether the output folder may be used as the options say. */
static nabla_status check_output(const nabla_train_options *o, const char *state, nv_error *err) {
    int exists = nv_file_exists(state);
    if (o->resume && !exists)
        return nv_fail(err, NABLA_IO, "%s does not exist: there is no run to resume; start one without resume", state);
    if (!o->resume && exists)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "%s already holds a training run: resume it, or choose another output folder", o->output);
    return o->resume ? NABLA_OK : check_no_model(o->output, err);
}

static nabla_status open_model(nv_trainer *t, const nabla_video_machine *machine, nv_error *err) {
    const nabla_train_options *o = t->options;
    if (!nv_source_named(o->data, &t->source)) {
        NV_TRY(nv_source_folder(o->data, &t->clip, &t->source, err));
    }
    if (o->resume) return start_from(t, o->output, machine, err);
    if (o->model) return start_from(t, o->model, machine, err);
    return start_anew(t, machine, err);
}

static nabla_status open_files(nv_trainer *t, const char *state, nv_error *err) {
    char path[NV_PATH_SIZE], note[NV_ORIGIN_NOTE];
    if (t->options->resume) {
        NV_TRY(nv_checkpoint_read(state, t->optimizer, &t->state, t->settings, note, err));
        nv_warn_also(note, t->warning, sizeof t->warning);
        NV_TRY(nv_dit_update(t->model.dit, err));
    }
    NV_TRY(nv_path_join(path, t->options->output, "train", err));
    NV_TRY(nv_folder_make(path, err));
    NV_TRY(nv_path_join(path, t->options->output, log_file, err));
    return nv_log_open(path, t->options->resume ? t->state.step : -1, &t->earlier_s, &t->log, err);
}

static nabla_status open_parts(nv_trainer *t, const nabla_video_machine *machine, nv_error *err) {
    const nabla_train_options *o = t->options;
    char state[NV_PATH_SIZE];
    nv_dit_shape shape;
    NV_TRY(nv_settings_check(o, err));
    NV_TRY(nv_settings_format(o, machine->compute, t->settings, err));
    NV_TRY(nv_path_join(state, o->output, state_file, err));
    NV_TRY(check_output(o, state, err));
    NV_TRY(read_rules(t, err));
    NV_TRY(open_model(t, machine, err));
    if (o->teacher) NV_TRY(nv_teacher_open(o->teacher, machine, &t->model, o->batch, &t->clip, &t->teacher, err));
    nv_warn_of_captions(t->model.words, &t->source, t->warning, sizeof t->warning);
    NV_TRY(parse_policy(t, err));
    NV_TRY(nv_memory_add(&t->values, 1, 3, t->clip.frames, t->clip.height, t->clip.width, err));
    NV_TRY(nv_clip_model_shape(&t->model, o->batch, &t->clip, 1, &shape, err));
    shape.recompute = o->activation_checkpointing != 0;
    NV_TRY(check_memory(t, &shape, err));
    NV_TRY(make_optimizer(t, err));
    NV_TRY(make_buffers(t, &shape, err));
    return open_files(t, state, err);
}

nabla_status nv_trainer_open(const nabla_train_options *options, const nabla_video_machine *machine, nv_trainer *t,
                             nv_error *err) {
    *t = (nv_trainer){.options = options, .machine = machine};
    nabla_status status = open_parts(t, machine, err);
    if (status != NABLA_OK) nv_trainer_close(t);
    return status;
}

static const float *averaged(void *user, size_t i) {
    nv_trainer *t = user;
    return nv_optimizer_at(t->optimizer, i)->ema;
}

static nabla_status save(nv_trainer *t, nv_error *err) {
    char path[NV_PATH_SIZE];
    /* The state last: a run that has one can be resumed, and resuming reads the model's configuration and words. */
    NV_TRY(nv_path_join(path, t->options->output, state_file, err));
    NV_TRY(nv_clip_model_save(&t->model, t->options->output, averaged, t, err));
    return nv_checkpoint_write(path, t->optimizer, &t->state, t->settings, err);
}

nabla_status nv_trainer_save(nv_trainer *t, nv_error *err) {
    const nabla_video_part part = nv_profile_enter(t->machine, NABLA_PART_FILES);
    const nabla_status status = save(t, err);
    nv_profile_enter(t->machine, part);
    return status;
}

void nv_trainer_close(nv_trainer *t) {
    nv_device *device = t->model.device;
    nv_batches_close(t);
    for (int slot = 0; slot < NV_BATCH_SLOTS; slot++)
        for (int last = 0; last < 2; last++)
            nv_repeat_forget(&t->repeats[slot][last]);
    nv_log_close(t->log);
    nv_optimizer_destroy(t->optimizer);
    nv_dit_run_destroy(t->run);
    if (device) {
        device->ops->release(device, t->latent);
        device->ops->release(device, t->output);
        device->ops->release(device, t->context);
        device->ops->release(device, t->d_context);
        device->ops->release(device, t->figures);
        device->ops->release(device, t->stream);
    }
    nv_teacher_close(&t->teacher);
    nv_clip_model_close(&t->model);
    nv_source_destroy(&t->source);
    *t = (nv_trainer){0};
}

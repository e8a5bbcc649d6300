/* SPDX-License-Identifier: Apache-2.0 */
/* How well a model follows prompts that training never saw, read back by the checkers of made-up clips. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/random.h"
#include "video/denoise.h"
#include "video/eval_clips.h"
#include "video/eval_files.h"
#include "video/eval_map.h"
#include "video/eval_prompts.h"
#include "video/files.h"
#include "video/limits.h"
#include "video/model.h"
#include "video/profile.h"
#include "video/report.h"

/* Tokens of a batch: what keeps a processor busy, and a GPU (32 clips of the demo model's size). */
enum { MAX_BATCH = 32, BATCH_TOKENS = 16384, GPU_BATCH_TOKENS = 32 * 4608 };

typedef struct job {
    const nabla_eval_options *options;
    const nabla_video_machine *machine;
    nabla_eval_result *result;
    nv_clip_model model;
    nv_denoise_rule rule;
    nv_denoiser *denoiser;
    nv_eval_data data;
    nv_cast_wish wishes[MAX_BATCH];
    int32_t *ids;    /* [batch + 1, words]: the batch's, then of no words */
    float *contexts; /* [batch + 1, words, dim] */
    float *x;        /* [batch, 3, F, H, W] */
    size_t context;  /* numbers of a caption's */
    int32_t done;
    uint8_t *right;          /* [prompts] */
    nabla_eval_clips *clips; /* NULL unless some are compared */
    nv_eval_map map;         /* of these */
} job;

nabla_eval_options nabla_eval_options_default(void) {
    return (nabla_eval_options){.size = sizeof(nabla_eval_options), .prompts = 200, .guidance = -1.0f, .shift = -1.0f};
}

static nabla_status settle(job *j, nv_error *err) {
    const nabla_eval_options *o = j->options;
    const nv_model_index *index = &j->model.index;
    nabla_context *ctx = j->model.device->context;
    nv_denoise_rule *r = &j->rule;
    const char *policy = o->policy ? o->policy : index->policy[0] ? index->policy : "dense";
    nabla_status status = nabla_policy_parse(ctx, policy, &r->policy);
    if (status != NABLA_OK) return nv_fail(err, status, "%s", nabla_context_message(ctx));
    r->clip.width = o->width ? o->width : index->width;
    r->clip.height = o->height ? o->height : index->height;
    r->clip.frames = o->frames ? o->frames : index->frames;
    r->steps = o->steps ? o->steps : index->steps;
    r->solver = o->solver ? o->solver : index->solver;
    r->guidance = o->guidance < 0.0f ? index->guidance : o->guidance;
    r->shift = o->shift < 0.0f ? index->shift : o->shift;
    if (o->prompts < 1 || o->prompts > NV_MOST_SAMPLES)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d prompts: choose 1 to %d, say 200", o->prompts, NV_MOST_SAMPLES);
    if (o->compare < 0 || o->compare > o->prompts)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d clips to compare: choose 0 to the %d prompts", o->compare,
                       o->prompts);
    if (o->clips < 0 || o->clips > o->compare || (o->clips > 0 && !o->output))
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "%d clips to write: they are of the %d to compare, and need a folder to go to", o->clips,
                       o->compare);
    NV_TRY(nv_eval_data_parse(o->data, j->model.words, &j->data, err));
    snprintf(j->result->data, sizeof j->result->data, "%s", nv_eval_data_name(j->data));
    j->result->steps = r->steps;
    snprintf(j->result->solver, sizeof j->result->solver, "%s", r->solver);
    return nv_denoise_check(r, err);
}

/* Enough clips at once to keep the processors busy; few enough to show progress and spare memory. */
static int32_t choose_batch(const job *j) {
    const nv_clip_size *clip = &j->rule.clip;
    const int32_t *patch = nv_dit_get_config(j->model.dit)->patch;
    int64_t tokens = (int64_t)(clip->frames / patch[0]) * (clip->height / patch[1]) * (clip->width / patch[2]);
    const int64_t most = strcmp(j->model.device->kind, "cuda") == 0 ? GPU_BATCH_TOKENS : BATCH_TOKENS;
    int64_t batch = most / (tokens > 0 ? tokens : 1);
    batch = batch < 1 ? 1 : batch > MAX_BATCH ? MAX_BATCH : batch;
    return batch < j->options->prompts ? (int32_t)batch : j->options->prompts;
}

static nabla_status make_buffers(job *j, nv_error *err) {
    size_t words = (size_t)nv_words_length(j->model.words);
    j->rule.prompts = choose_batch(j);
    const size_t texts = (size_t)j->rule.prompts + 1, dim = (size_t)nv_clip_model_text_dim(&j->model);
    NV_TRY(nv_clip_model_shape(&j->model, 1, &j->rule.clip, 0, &j->rule.shape, err));
    j->rule.prediction = j->model.prediction;
    j->context = words * dim;
    NV_TRY(nv_denoiser_create(j->model.device, j->model.dit, &j->rule, &j->denoiser, err));
    j->ids = calloc(texts * words, sizeof *j->ids);
    j->contexts = malloc(texts * words * dim * sizeof *j->contexts);
    j->x = malloc((size_t)j->rule.prompts * nv_denoiser_latent(j->denoiser) * sizeof *j->x);
    j->right = calloc((size_t)j->options->prompts, 1);
    if (!j->ids || !j->contexts || !j->x || !j->right)
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a batch of clips");
    nv_words_encode(j->model.words, "", j->ids + (texts - 1) * words, NULL, 0);
    return NABLA_OK;
}

static nv_eval_files files_of(const job *j) {
    const nabla_eval_options *o = j->options;
    return (nv_eval_files){.folder = o->output,
                           .policy = o->policy ? o->policy : "model",
                           .data = j->data,
                           .seed = o->seed,
                           .prompts = j->done,
                           .right = j->right,
                           .clips = j->clips,
                           .compared = o->reference != NULL,
                           .videos = o->clips,
                           .fps = j->model.index.fps,
                           .map = j->clips ? &j->map : NULL};
}

static nabla_status make_clips(job *j, nv_error *err) {
    if (j->options->compare == 0) return NABLA_OK;
    NV_TRY(nv_eval_clips_create(j->options->compare, &j->rule.clip, &j->clips, err));
    const nv_dit_config *config = nv_dit_get_config(j->model.dit);
    NV_TRY(nv_eval_map_create(j->rule.steps, config->layers, config->heads, nv_denoiser_entries(j->denoiser), &j->map,
                              err));
    if (j->options->reference) NV_TRY(nv_eval_clips_match(j->clips, j->options->reference, err));
    const nv_eval_files files = files_of(j);
    return nv_eval_files_check(&files, err);
}

/* Prompt i's caption, from the held-out combinations, and its noise. */
static void draw_prompt(job *j, int32_t i, int32_t slot) {
    char caption[NV_CAPTION_SIZE];
    size_t words = (size_t)nv_words_length(j->model.words), n = nv_denoiser_latent(j->denoiser);
    nv_eval_prompt(j->data, j->options->seed, i, caption, &j->wishes[slot]);
    nv_words_encode(j->model.words, caption, j->ids + (size_t)slot * words, NULL, 0);
    nv_torch_randn(j->options->seed + (uint64_t)i, j->x + (size_t)slot * n, n);
}

/* Between steps: figures, and whether to stop. */
static nabla_status watch(void *user, int32_t step, nv_error *err) {
    job *j = user;
    char note[128];
    nv_profile_pass(j->machine, nv_denoiser_stats(j->denoiser));
    if (j->clips && j->done < j->clips->count) {
        nabla_context *ctx = j->model.device->context;
        NV_TRY(nv_eval_map_add(&j->map, ctx, nv_denoiser_run(j->denoiser), step - 1, err));
    }
    if (!j->machine->progress) return NABLA_OK;
    double n = j->done > 0 ? (double)j->done : 1.0;
    const nabla_eval_result *r = j->result;
    snprintf(note, sizeof note, "step %d of %d; colour %.0f %%, shape %.0f %%, motion %.0f %%", step, j->rule.steps,
             100.0 * r->colour / n, 100.0 * r->shape / n, 100.0 * r->motion / n);
    if (!j->machine->progress(j->machine->user, "eval", j->done, j->options->prompts, note)) return NABLA_OK;
    return nv_fail(err, NABLA_CANCELLED, "stopped after %d of %d prompts", j->done, j->options->prompts);
}

static void count_clip(job *j, uint8_t right, double density) {
    nabla_eval_result *r = j->result;
    const int asked = (right & NV_ASKED_RELATION) != 0;
    const uint8_t all = NV_RIGHT_COLOUR | NV_RIGHT_SHAPE | NV_RIGHT_MOTION | NV_RIGHT_COUNT;
    j->right[j->done] = right;
    r->colour += (right & NV_RIGHT_COLOUR) != 0;
    r->shape += (right & NV_RIGHT_SHAPE) != 0;
    r->motion += (right & NV_RIGHT_MOTION) != 0;
    r->count += (right & NV_RIGHT_COUNT) != 0;
    r->relation += (right & NV_RIGHT_RELATION) != 0;
    r->relations += asked;
    r->all += (right & all) == all && (!asked || right & NV_RIGHT_RELATION);
    r->sparsity += nv_sparsity(density);
    j->done++;
}

/* Up to a batch of prompts from the first on. The last batch is filled up with prompts whose clips are not counted.
   Until the end the result's shares hold counts. */
static nabla_status run_batch(job *j, nv_error *err) {
    nv_denoise_totals totals = {0};
    const nv_denoise_watch watched = {.step = watch, .user = j};
    uint8_t right[MAX_BATCH];
    const int32_t batch = j->rule.prompts, first = j->done, left = j->options->prompts - first;
    const int32_t count = batch < left ? batch : left;
    const size_t n = nv_denoiser_latent(j->denoiser);
    nv_profile_enter(j->machine, NABLA_PART_DATA);
#pragma omp parallel for schedule(dynamic, 1) num_threads(j->model.device->threads)
    for (int32_t slot = 0; slot < batch; slot++)
        draw_prompt(j, first + slot, slot);
    nv_profile_enter(j->machine, NABLA_PART_TEXT);
    NV_TRY(nv_clip_model_contexts(&j->model, j->ids, batch + 1, j->contexts, err));
    const float *empty = j->contexts + (size_t)batch * j->context;
    nv_profile_enter(j->machine, NABLA_PART_SAMPLER);
    NV_TRY(nv_denoise(j->denoiser, j->contexts, empty, j->x, &watched, &totals, err));
    nv_profile_enter(j->machine, NABLA_PART_DATA);
#pragma omp parallel for schedule(dynamic, 1) num_threads(j->model.device->threads)
    for (int32_t slot = 0; slot < count; slot++)
        right[slot] = nv_eval_judge(j->data, &j->wishes[slot], j->x + (size_t)slot * n, &j->rule.clip);
    for (int32_t slot = 0; slot < count; slot++) {
        if (j->clips && j->done < j->clips->count)
            memcpy(j->clips->video + (size_t)j->done * n, j->x + (size_t)slot * n, n * sizeof *j->x);
        count_clip(j, right[slot], totals.density);
    }
    return NABLA_OK;
}

/* Counts become shares. */
static void finish(job *j, double seconds) {
    nabla_eval_result *r = j->result;
    const double n = j->done > 0 ? (double)j->done : 1.0;
    r->prompts = j->done;
    r->seconds = seconds / n;
    if (r->right) memcpy(r->right, j->right, (size_t)j->done);
    r->colour /= n;
    r->shape /= n;
    r->motion /= n;
    r->count /= n;
    r->all /= n;
    r->sparsity /= n;
    r->relation = r->relations > 0 ? r->relation / (double)r->relations : NAN;
}

static void measure_clips(job *j) {
    const int32_t *patch = nv_dit_get_config(j->model.dit)->patch, *tile = j->rule.shape.tile;
    nv_eval_clips_measure(j->clips, j->options->reference, patch + 1, tile + 1, j->model.device->threads, j->result);
    j->result->kept_mass = nv_eval_map_mass(&j->map);
}

static nabla_status write_files(const job *j, nv_error *err) {
    const nv_eval_files files = files_of(j);
    nv_profile_enter(j->machine, NABLA_PART_MEDIA);
    return nv_eval_files_write(&files, err);
}

static nabla_status run(job *j, nv_error *err) {
    if (!j->options->model) return nv_fail(err, NABLA_INVALID_ARGUMENT, "no model folder: say which model to evaluate");
    if (j->options->output) NV_TRY(nv_folder_make(j->options->output, err));
    NV_TRY(nv_clip_model_open(j->options->model, j->machine, 0, &j->model, err));
    NV_TRY(settle(j, err));
    NV_TRY(make_buffers(j, err));
    NV_TRY(make_clips(j, err));
    double start = nv_now();
    while (j->done < j->options->prompts)
        NV_TRY(run_batch(j, err));
    finish(j, nv_now() - start);
    if (j->clips) measure_clips(j);
    if (j->options->output) NV_TRY(write_files(j, err));
    j->result->clips = j->clips;
    j->clips = NULL;
    return NABLA_OK;
}

nabla_status nabla_evaluate(const nabla_eval_options *options, const nabla_video_machine *machine,
                            nabla_eval_result *result, nabla_video_error *err) {
    nv_error inner = {0};
    nabla_video_machine defaults = nabla_video_machine_default();
    nabla_eval_result ignored = {.size = sizeof ignored};
    job j = {.options = options, .machine = machine ? machine : &defaults, .result = result ? result : &ignored};
    if (j.result->size != sizeof ignored) return nv_report_result_version(err, "nabla_eval_result");
    *j.result = (nabla_eval_result){.size = sizeof ignored, .right = j.result->right};
    j.result->psnr = j.result->ssim = j.result->border = j.result->kept_mass = NAN;
    if (options->size != sizeof *options) return nv_report_version(err, "nabla_eval_options");
    if (machine && machine->size != sizeof *machine) return nv_report_version(err, "nabla_video_machine");
    nabla_status status = nv_profile_start(j.machine, err);
    if (status != NABLA_OK) return status;
    status = run(&j, &inner);
    nv_denoiser_destroy(j.denoiser);
    nv_clip_model_close(&j.model);
    nabla_eval_clips_destroy(j.clips);
    nv_eval_map_destroy(&j.map);
    if (j.result == &ignored) nabla_eval_clips_destroy(ignored.clips);
    free(j.ids);
    free(j.contexts);
    free(j.x);
    free(j.right);
    nv_profile_stop(j.machine);
    return nv_report(err, status, &inner);
}

nabla_eval_difference nabla_eval_compare(const uint8_t *a, const uint8_t *b, int32_t n, uint8_t mask) {
    double gained = 0.0, lost = 0.0;
    for (int32_t i = 0; i < n; i++) {
        int right_a = (a[i] & mask) == mask, right_b = (b[i] & mask) == mask;
        gained += right_b && !right_a;
        lost += right_a && !right_b;
    }
    double total = (double)n + 2.0, centre = (gained - lost) / total;
    double spread = 1.959964 * sqrt((gained + lost + 1.0) - (gained - lost) * centre) / total;
    return (nabla_eval_difference){n > 0 ? (gained - lost) / (double)n : 0.0, centre - spread, centre + spread};
}

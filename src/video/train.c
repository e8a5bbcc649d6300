/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "video/profile.h"
#include "video/report.h"
#include "video/trainer.h"

/* Times of this session. */
typedef struct session {
    double start, interval_start;
    double model_s, data_s, flop;
    double interval_data_s;            /* of data_s, at that time */
    int64_t first_step, interval_step; /* steps done at those times */
    double loss, sparsity;             /* of the last interval */
} session;

/* Clips a step. */
static double clips_of(const nv_trainer *t) {
    return (double)t->options->batch * (double)t->options->accumulate;
}

/* Clips a second since the session began, of a step under way too. */
static double speed_of(const nv_trainer *t, const session *s, double seconds) {
    const double rounds = (double)t->rounds * (double)t->options->batch;
    return ((double)(t->state.step - s->first_step) * clips_of(t) + rounds) / seconds;
}

static nabla_status close_interval(nv_trainer *t, session *s, const nv_step_result *step, nv_error *err) {
    nv_checkpoint *state = &t->state;
    double now = nv_now(), n = (double)state->interval_steps;
    s->loss = state->interval_loss / n;
    s->sparsity = nv_sparsity(state->interval_density / n);
    nv_log_row row = {.step = state->step, .loss = s->loss, .grad_norm = step->grad_norm, .sparsity = s->sparsity};
    row.lr = nv_schedule_lr(&t->schedule, state->step - 1);
    row.samples_per_second = (double)(state->step - s->interval_step) * clips_of(t) / (now - s->interval_start);
    row.seconds = t->earlier_s + now - s->start;
    row.data_share = (s->data_s - s->interval_data_s) / (now - s->interval_start);
    state->interval_loss = state->interval_density = 0.0;
    state->interval_steps = 0;
    s->interval_start = now;
    s->interval_data_s = s->data_s;
    s->interval_step = state->step;
    return nv_log_add(t->log, &row, err);
}

/* Tells the caller; true if it wants to stop. */
static int report(const nv_trainer *t, const session *s, const nabla_video_machine *machine) {
    char note[128];
    if (!machine->progress) return 0;
    const nv_checkpoint *state = &t->state;
    double loss = state->interval_steps > 0 ? state->interval_loss / (double)state->interval_steps : s->loss;
    double speed = speed_of(t, s, nv_now() - s->start);
    if (isnan(loss)) /* within the first step */
        snprintf(note, sizeof note, "%.1f clips/s", speed);
    else
        snprintf(note, sizeof note, "loss %.4g, %.1f clips/s", loss, speed);
    return machine->progress(machine->user, "train", state->step, t->options->steps, note);
}

/* Saves what there is, so that a resumed run goes on from here. */
static nabla_status stop_early(nv_trainer *t, nv_error *err) {
    NV_TRY(nv_trainer_save(t, err));
    return nv_fail(err, NABLA_CANCELLED,
                   "stopped after step %" PRId64 " of %" PRId64 "; %s is saved: resume continues it", t->state.step,
                   t->options->steps, t->options->output);
}

/* Takes a step; *stopped: no, the caller wants to stop in its midst, and what was done of it is left out. */
static nabla_status take_step(nv_trainer *t, session *s, const nabla_video_machine *machine, nv_step_result *step,
                              int *stopped, nv_error *err) {
    do {
        NV_TRY(nv_trainer_round(t, step, err));
        *stopped = t->rounds > 0 && report(t, s, machine);
    } while (t->rounds > 0 && !*stopped);
    s->model_s += step->model_s;
    s->data_s += step->data_s;
    s->flop += step->flop;
    return NABLA_OK;
}

static nabla_status run_steps(nv_trainer *t, session *s, const nabla_video_machine *machine, nv_error *err) {
    const nabla_train_options *o = t->options;
    /* A state from the first moment on: an unwritable folder shows before hours of work, and a run that is killed at
       any time can be resumed. */
    if (!o->resume) NV_TRY(nv_trainer_save(t, err));
    while (t->state.step < o->steps) {
        nv_step_result step;
        int stopped;
        NV_TRY(take_step(t, s, machine, &step, &stopped, err));
        if (stopped) return stop_early(t, err);
        int last = t->state.step == o->steps;
        int cancel = report(t, s, machine) && !last;
        if (t->state.step % o->log_every == 0 || last) NV_TRY(close_interval(t, s, &step, err));
        if (cancel) return stop_early(t, err);
        if (t->state.step % o->save_every == 0 && !last) NV_TRY(nv_trainer_save(t, err));
    }
    return nv_trainer_save(t, err);
}

static void fill_result(const nv_trainer *t, const session *s, nabla_train_result *result) {
    double seconds = nv_now() - s->start;
    result->steps = t->state.step;
    result->loss = s->loss;
    result->sparsity = s->sparsity;
    result->samples_per_second = speed_of(t, s, seconds);
    result->gflops = s->flop / seconds * 1e-9;
    result->model_share = s->model_s / seconds;
    result->data_share = s->data_s / seconds;
}

static nabla_status train(const nabla_train_options *options, const nabla_video_machine *machine,
                          nabla_train_result *result, nv_error *err) {
    nv_trainer t;
    NV_TRY(nv_trainer_open(options, machine, &t, err));
    session s = {.start = nv_now(), .first_step = t.state.step, .interval_step = t.state.step};
    s.loss = s.sparsity = NAN; /* of a run with nothing left to do */
    memcpy(result->warning, t.warning, sizeof result->warning);
    s.interval_start = s.start;
    nv_profile_enter(machine, NABLA_PART_OTHER);
    nabla_status status = run_steps(&t, &s, machine, err);
    fill_result(&t, &s, result);
    nv_trainer_close(&t);
    return status;
}

/* Texts left NULL mean the defaults, as in the header. */
static nabla_train_options with_defaults(const nabla_train_options *options) {
    const nabla_train_options defaults = nabla_train_options_default();
    nabla_train_options o = *options;
    if (!o.data) o.data = defaults.data;
    if (!o.policy) o.policy = defaults.policy;
    if (!o.noise) o.noise = defaults.noise;
    if (!o.weighting) o.weighting = defaults.weighting;
    return o;
}

nabla_status nabla_train(const nabla_train_options *options, const nabla_video_machine *machine,
                         nabla_train_result *result, nabla_video_error *err) {
    nv_error inner = {0};
    nabla_video_machine defaults = nabla_video_machine_default();
    nabla_train_result ignored = {.size = sizeof ignored};
    if (!result) result = &ignored;
    if (result->size != sizeof ignored) return nv_report_result_version(err, "nabla_train_result");
    *result = (nabla_train_result){.size = sizeof ignored};
    if (options->size != sizeof *options) return nv_report_version(err, "nabla_train_options");
    if (machine && machine->size != sizeof *machine) return nv_report_version(err, "nabla_video_machine");
    const nabla_train_options filled = with_defaults(options);
    if (!machine) machine = &defaults;
    nabla_status status = nv_profile_start(machine, err);
    if (status != NABLA_OK) return status;
    status = train(&filled, machine, result, &inner);
    nv_profile_stop(machine);
    return nv_report(err, status, &inner);
}

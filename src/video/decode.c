/* SPDX-License-Identifier: Apache-2.0 */
/* From a latent to a video file, frame by frame: each is written while later ones are decoded. */
#include <stdlib.h>

#include "video/decoder.h"
#include "video/files.h"
#include "video/frames_out.h"
#include "video/latent_file.h"
#include "video/limits.h"
#include "video/machine.h"
#include "video/profile.h"
#include "video/report.h"

enum { WAN_FPS = 16, CRF = 18 };

typedef struct job {
    const nabla_decode_options *options;
    const nabla_video_machine *machine;
    nabla_decode_result *result;
    nv_device *device;
    nv_wan_parts parts;
    nv_decoder decoder;
    nv_latent latent;
    nv_media_options media;
    nv_frames_out *out;
} job;

nabla_decode_options nabla_decode_options_default(void) {
    return (nabla_decode_options){.size = sizeof(nabla_decode_options), .compute = NABLA_FP32, .crf = -1};
}

/* ------------------------------------------------------------------ what comes in */

static nabla_status read_latent(job *j, nv_error *err) {
    const char *path = j->options->latent;
    NV_TRY(nv_latent_read(path, &j->latent, err));
    if (j->latent.shape[0] == j->decoder.config.z_dim) return NABLA_OK;
    return nv_fail(err, NABLA_CORRUPT,
                   "%s: the latent has %d channels, the VAE's latents have %d: of another "
                   "model?",
                   path, j->latent.shape[0], j->decoder.config.z_dim);
}

static nabla_status settle(job *j, nv_error *err) {
    const nabla_decode_options *o = j->options;
    const nv_vae_config *config = &j->decoder.config;
    const int32_t *shape = j->latent.shape;
    const int64_t factor = nv_vae_space_factor(config),
                  frames = 1 + ((int64_t)shape[1] - 1) * nv_vae_time_factor(config);
    nabla_decode_result *r = j->result;
    if (shape[2] * factor > NV_MOST_SIDE || shape[3] * factor > NV_MOST_SIDE || frames > NV_MOST_FRAMES)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: a latent of %d frames of %d x %d is too large", o->latent,
                       shape[1], shape[2], shape[3]);
    r->width = shape[3] * (int32_t)factor;
    r->height = shape[2] * (int32_t)factor;
    r->frames = (int32_t)frames;
    r->fps = o->fps ? o->fps : j->latent.fps ? j->latent.fps : WAN_FPS;
    j->media = (nv_media_options){.width = r->width, .height = r->height, .fps = r->fps, .frames = r->frames};
    j->media.crf = o->crf < 0 ? CRF : o->crf;
    j->media.title = j->latent.prompt[0] ? j->latent.prompt : NULL;
    j->media.comment = j->latent.comment[0] ? j->latent.comment : o->latent;
    return nv_frames_out_check(o->output, &j->media, err);
}

static nabla_status check_memory(job *j, nv_error *err) {
    const int32_t *shape = j->latent.shape;
    const size_t out = nv_frames_out_memory(j->options->output, &j->media, j->device);
    NV_TRY(nv_frames_out_room(j->options->output, &j->media, j->device, err));
    NV_TRY(nv_decoder_plan(&j->decoder, shape[1], shape[2], shape[3], j->options->tile, out, j->result->warning,
                           sizeof j->result->warning, err));
    j->result->tile = j->decoder.options.tile;
    j->result->memory = (double)j->decoder.decoding + (double)out;
    return nv_memory_check(j->device, j->decoder.weights + j->decoder.decoding + out, "decoding this latent",
                           "use tiles, or smaller ones (--tile 128)", err);
}

/* ------------------------------------------------------------------ the whole */

static nabla_status decode(job *j, nv_error *err) {
    const double start = nv_now();
    NV_TRY(nv_frames_out_open(j->options->output, &j->media, j->machine, &j->out, err));
    NV_TRY(nv_decoder_run(&j->decoder, j->latent.values, nv_frames_out_give, j->out, err));
    nv_frames_out *out = j->out;
    j->out = NULL; /* finish frees it whatever happens */
    const nabla_status status = nv_frames_out_finish(out, &j->result->write_s, err);
    j->result->decode_s = nv_now() - start - j->result->write_s;
    return status;
}

static nabla_status run(job *j, nv_error *err) {
    const nabla_decode_options *o = j->options;
    const double start = nv_now();
    if (!o->model) return nv_fail(err, NABLA_INVALID_ARGUMENT, "no model folder: say which model's VAE to use");
    if (!o->latent) return nv_fail(err, NABLA_INVALID_ARGUMENT, "no latent: say which file to decode");
    if (!o->output) return nv_fail(err, NABLA_INVALID_ARGUMENT, "no output: say which file to write");
    NV_TRY(nv_vae_find(o->model, "--model", &j->parts, err));
    NV_TRY(nv_machine_open(j->machine, &j->device, err));
    NV_TRY(nv_decoder_open(&j->parts, j->device, j->machine, o->compute, &j->decoder, err));
    NV_TRY(read_latent(j, err));
    NV_TRY(settle(j, err));
    NV_TRY(check_memory(j, err));
    NV_TRY(nv_decoder_load(&j->decoder, err));
    j->result->load_s = nv_now() - start;
    nv_profile_enter(j->machine, NABLA_PART_OTHER);
    return decode(j, err);
}

nabla_status nabla_decode(const nabla_decode_options *options, const nabla_video_machine *machine,
                          nabla_decode_result *result, nabla_video_error *err) {
    nv_error inner = {0};
    nabla_video_machine defaults = nabla_video_machine_default();
    nabla_decode_result ignored = {.size = sizeof ignored};
    job j = {.options = options, .machine = machine ? machine : &defaults, .result = result ? result : &ignored};
    if (j.result->size != sizeof ignored) return nv_report_result_version(err, "nabla_decode_result");
    *j.result = ignored;
    if (options->size != sizeof *options) return nv_report_version(err, "nabla_decode_options");
    if (machine && machine->size != sizeof *machine) return nv_report_version(err, "nabla_video_machine");
    nabla_status status = nv_profile_start(j.machine, err);
    if (status != NABLA_OK) return status;
    status = run(&j, &inner);
    nv_frames_out_abandon(j.out);
    nv_decoder_close(&j.decoder);
    nv_device_destroy(j.device);
    free(j.latent.values);
    nv_profile_stop(j.machine);
    return nv_report(err, status, &inner);
}

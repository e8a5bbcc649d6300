/* SPDX-License-Identifier: Apache-2.0 */
#include "video/teacher.h"

#include "video/files.h"

static nabla_status check_alike(const char *folder, const nv_teacher *t, const nv_clip_model *student, nv_error *err) {
    if (!nv_words_equal(t->model.words, student->words))
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "the teacher %.300s knows other words than the model that it is to teach: start from the "
                       "teacher, or train a teacher on the same data",
                       folder);
    if (t->model.prediction != student->prediction)
        return nv_fail(
            err, NABLA_INVALID_ARGUMENT,
            "the teacher %.300s predicts \"%s\" and the model that it is to teach \"%s\": both must be the same",
            folder, nv_prediction_name(t->model.prediction), nv_prediction_name(student->prediction));
    return NABLA_OK;
}

nabla_status nv_teacher_open(const char *folder, const nabla_video_machine *machine, nv_clip_model *student,
                             int32_t batch, const nv_clip_size *clip, nv_teacher *t, nv_error *err) {
    *t = (nv_teacher){.dense = {.size = sizeof t->dense, .dense = 1}};
    NV_TRY(nv_clip_model_open_beside(folder, machine, student, &t->model, err));
    nabla_status status = check_alike(folder, t, student, err);
    if (status == NABLA_OK) status = nv_clip_model_shape(&t->model, batch, clip, 0, &t->shape, err);
    if (status != NABLA_OK) nv_teacher_close(t);
    return status;
}

static int64_t context_numbers(const nv_teacher *t) {
    return (int64_t)t->shape.batch * t->shape.text_length * nv_clip_model_text_dim(&t->model);
}

static int64_t answer_numbers(const nv_teacher *t) {
    return (int64_t)t->shape.batch * 3 * t->shape.frames * t->shape.height * t->shape.width;
}

nabla_status nv_teacher_memory(const nv_teacher *t, size_t *bytes, nv_error *err) {
    size_t run = 0;
    NV_TRY(nv_dit_run_memory(t->model.dit, &t->shape, &run, err));
    NV_TRY(nv_memory_add(bytes, sizeof(float), context_numbers(t) + answer_numbers(t), 1, 1, 1, err));
    return nv_memory_add(bytes, 1, (int64_t)run, 1, 1, 1, err);
}

nabla_status nv_teacher_start(nv_teacher *t, nv_error *err) {
    nv_device *device = t->model.device;
    const size_t context = (size_t)context_numbers(t), answer = (size_t)answer_numbers(t);
    NV_TRY(nv_dit_run_create(t->model.dit, &t->shape, &t->run, err));
    NV_TRY(device->ops->allocate(device, context * sizeof *t->context, (void **)&t->context, err));
    return device->ops->allocate(device, answer * sizeof *t->answer, (void **)&t->answer, err);
}

nabla_status nv_teacher_answer(nv_teacher *t, const float *latent, const float *time, const int32_t *ids,
                               nv_error *err) {
    nv_device *device = t->model.device;
    const nv_dit_inputs in = {.latent = latent, .time = time, .context = t->context, .policy = &t->dense};
    NV_TRY(device->ops->embed(device, t->model.table, ids, (int64_t)t->shape.batch * t->shape.text_length,
                              nv_clip_model_text_dim(&t->model), t->context, err));
    return nv_dit_forward(t->model.dit, t->run, &in, t->answer, err);
}

void nv_teacher_close(nv_teacher *t) {
    nv_device *device = t->model.device;
    nv_dit_run_destroy(t->run);
    if (device) {
        device->ops->release(device, t->context);
        device->ops->release(device, t->answer);
    }
    nv_clip_model_close(&t->model);
    *t = (nv_teacher){0};
}

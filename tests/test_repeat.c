/* SPDX-License-Identifier: Apache-2.0 */
/* Work that repeats: when it is done plainly and when replayed, what a recording refuses, and when it is made anew. On
   a device that records nothing, such as the CPU, all of it is done plainly. */
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "device.h"
#include "device/repeat.h"

enum { N = 300, LONG = 1 << 23 };

typedef enum deed { ADD, ADD_AND_STOP, UPLOAD, DOWNLOAD, WAIT, TAKE, SCRATCH } deed;

/* sum += x, and something that a recording may refuse. */
typedef struct job {
    nv_device *dev;
    float *sum, *x, *more; /* more: [LONG] */
    deed deed;
    int calls;
} job;

/* What takes more of the device's scratch than anything here before it. */
static nabla_status long_sums(const job *j, nv_error *err) {
    const int64_t cols = 8192; /* their sums are in the first row */
    return j->dev->ops->column_sums(j->dev, nv_matrix_of(j->more + cols, NABLA_FP32, LONG / cols - 1, cols), j->more,
                                    err);
}

static nabla_status work(void *user, nv_error *err) {
    job *j = user;
    const nv_device_ops *ops = j->dev->ops;
    float one = 1;
    void *taken;
    j->calls++;
    NV_TRY(ops->add(j->dev, j->sum, j->x, N, err));
    switch (j->deed) {
    case ADD:
        return NABLA_OK;
    case ADD_AND_STOP:
        return nv_fail(err, NABLA_CANCELLED, "enough");
    case UPLOAD:
        ops->upload(j->dev, j->x, &one, sizeof one);
        return NABLA_OK;
    case DOWNLOAD:
        return ops->download(j->dev, &one, j->x, sizeof one, err);
    case WAIT:
        return ops->wait(j->dev, err);
    case TAKE:
        NV_TRY(ops->allocate(j->dev, 64, &taken, err));
        ops->release(j->dev, taken);
        return NABLA_OK;
    case SCRATCH:
        return long_sums(j, err);
    }
    return NABLA_OK;
}

static job open_job(void) {
    job j = {0};
    float x[N], zero[N] = {0};
    for (int i = 0; i < N; i++)
        x[i] = (float)i;
    GOOD(test_device_create(0, NULL, &j.dev, why));
    j.x = test_upload(j.dev, x, sizeof x);
    j.sum = test_upload(j.dev, zero, sizeof zero);
    GOOD(j.dev->ops->allocate(j.dev, LONG * sizeof(float), (void **)&j.more, why));
    return j;
}

static void close_job(job *j) {
    j->dev->ops->release(j->dev, j->sum);
    j->dev->ops->release(j->dev, j->x);
    j->dev->ops->release(j->dev, j->more);
    nv_device_destroy(j->dev);
}

static void expect_times(const job *j, int times) {
    float sum[N];
    GOOD(j->dev->ops->download(j->dev, sum, j->sum, sizeof sum, why));
    for (int i = 0; i < N; i++)
        assert_true(sum[i] == (float)(times * i));
}

static void once(nv_repeat *r, job *j) {
    GOOD(nv_repeat_queue(r, work, j, why));
    GOOD(j->dev->ops->wait(j->dev, why));
    nv_repeat_done(r);
}

static void third_time_is_recorded(void **state) {
    (void)state;
    job j = open_job();
    nv_repeat r = nv_repeat_of(j.dev, NV_REPLAY_ALWAYS);
    const int records = j.dev->ops->record != NULL;
    if (!records) printf("%s records nothing: everything is done plainly\n", j.dev->kind);
    assert_int_equal(records, test_on_gpu());
    for (int i = 1; i <= 6; i++) {
        assert_int_equal(nv_repeat_replays(&r), records && i > 2);
        once(&r, &j);
        expect_times(&j, i);
        assert_int_equal(j.calls, records && i > 3 ? 3 : i); /* the third call was recorded */
    }
    nv_repeat_forget(&r);
    j.calls = 0;
    once(&r, &j);
    assert_int_equal(j.calls, 1);
    expect_times(&j, 7);
    nv_repeat_forget(&r);
    close_job(&j);
}

static void never_is_never(void **state) {
    (void)state;
    job j = open_job();
    nv_repeat r = nv_repeat_of(j.dev, NV_REPLAY_NEVER);
    for (int i = 1; i <= 4; i++)
        once(&r, &j);
    assert_int_equal(j.calls, 4);
    expect_times(&j, 4);
    close_job(&j);
}

/* Replays of work whose scratch gave way to a larger one would write where it was. */
static void memory_that_moves_is_noticed(void **state) {
    (void)state;
    job j = open_job();
    if (!j.dev->ops->record) {
        close_job(&j);
        skip();
    }
    nv_repeat r = nv_repeat_of(j.dev, NV_REPLAY_ALWAYS);
    for (int moved = 0; moved < 2; moved++) { /* the device's own, and libnabla's */
        for (int i = 0; i < 3; i++)
            once(&r, &j);
        assert_true(nv_repeat_replays(&r));
        if (moved == 0) GOOD(long_sums(&j, why));
        if (moved == 1) assert_int_equal(nabla_context_reserve(j.dev->context, 1 << 20), NABLA_OK);
        assert_false(nv_repeat_replays(&r));
        nv_error err;
        assert_int_equal(j.dev->ops->replay(j.dev, r.recording, &err), NABLA_INTERNAL);
        assert_non_null(strstr(err.text, "record it again"));
    }
    for (int i = 0; i < 4; i++)
        once(&r, &j);
    expect_times(&j, 10);
    nv_repeat_forget(&r);
    close_job(&j);
}

/* A recording that fails tells why, runs nothing, and leaves the device as it was. */
static void recordings_refuse(void **state) {
    (void)state;
    static const struct {
        deed deed;
        nabla_status status;
        const char *word;
    } refused[] = {
        {ADD_AND_STOP, NABLA_CANCELLED, "enough"},         {UPLOAD, NABLA_INTERNAL, "running what was queued"},
        {DOWNLOAD, NABLA_INTERNAL, "copying to the host"}, {WAIT, NABLA_INTERNAL, "waiting"},
        {TAKE, NABLA_INTERNAL, "taking memory"},           {SCRATCH, NABLA_INTERNAL, "taking memory"},
    };
    job j = open_job();
    if (!j.dev->ops->record) {
        close_job(&j);
        skip();
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        nv_recording *recording = NULL;
        nv_error err = {0};
        j.deed = refused[i].deed;
        assert_int_equal(j.dev->ops->record(j.dev, work, &j, NULL, &recording, &err), refused[i].status);
        if (!strstr(err.text, refused[i].word)) fail_msg("%s: no \"%s\"", err.text, refused[i].word);
        assert_null(recording);
        GOOD(j.dev->ops->wait(j.dev, why));
        expect_times(&j, 0);
    }
    close_job(&j);
}

/* A replay's time goes to phases as that of the work did; its products count as often as it runs. */
static void replays_share_their_time(void **state) {
    (void)state;
    job j = open_job();
    nv_clock like = {.product_flop = 0}, clock;
    nv_recording *recording;
    if (!j.dev->ops->record) {
        close_job(&j);
        skip();
    }
    like.seconds[NV_PRODUCTS] = 3;
    like.seconds[NV_PLAN] = 1;
    once(&(nv_repeat){.device = j.dev, .when = NV_REPLAY_NEVER}, &j);
    GOOD(j.dev->ops->record(j.dev, work, &j, &like, &recording, why));
    j.dev->ops->clock_reset(j.dev);
    for (int i = 0; i < 3; i++)
        GOOD(j.dev->ops->replay(j.dev, recording, why));
    j.dev->ops->clock_read(j.dev, &clock);
    const double products = clock.seconds[NV_PRODUCTS], plan = clock.seconds[NV_PLAN];
    assert_true(plan > 0 && products > 2.99 * plan && products < 3.01 * plan);
    assert_true(clock.seconds[NV_ATTENTION] == 0);
    expect_times(&j, 4);
    j.dev->ops->recording_release(j.dev, recording);
    close_job(&j);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(third_time_is_recorded),       cmocka_unit_test(never_is_never),
        cmocka_unit_test(memory_that_moves_is_noticed), cmocka_unit_test(recordings_refuse),
        cmocka_unit_test(replays_share_their_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

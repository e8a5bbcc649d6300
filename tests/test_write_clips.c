/* SPDX-License-Identifier: Apache-2.0 */
/* From the public call to files, and from the files back to what their captions say. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "files.h"
#include "media/media.h"
#include "media/read.h"
#include "nabla/video.h"
#include "scratch.h"
#include "train/clips.h"

enum { COUNT = 6, FRAMES = 8, SIDE = 96 };

static void check_clip(const char *folder, const char *extension, int i) {
    char path[96];
    uint8_t *rgb;
    int32_t frames;
    size_t size;
    snprintf(path, sizeof path, "%s/clip-%04d.txt", folder, i);
    char *caption = read_all(path, &size);
    snprintf(path, sizeof path, "%s/clip-%04d.%s", folder, i, extension);
    assert_int_equal(nv_media_read(path, SIDE, SIDE, 100, &rgb, &frames, NULL), NABLA_OK);
    assert_int_equal(frames, FRAMES);
    size_t plane = (size_t)FRAMES * SIDE * SIDE;
    float *video = malloc(3 * plane * sizeof *video);
    for (size_t k = 0; k < plane; k++) {
        for (size_t c = 0; c < 3; c++) {
            video[c * plane + k] = (float)rgb[3 * k + c] / 127.5f - 1.0f;
        }
    }
    nv_wish wish;
    nv_sighting seen;
    nv_wish_parse(caption, &wish);
    nv_clip_check(video, FRAMES, SIDE, SIDE, &seen);
    if (seen.colour != wish.colour || seen.shape != wish.shape || seen.motion != wish.motion)
        fail_msg("%s: %s", path, caption);
    assert_false(nv_scene_held_out((nv_colour)wish.colour, (nv_shape)wish.shape, (nv_motion)wish.motion));
    free(video);
    free(rgb);
    free(caption);
}

static void clips_show_their_captions(void **state) {
    (void)state;
    if (!nv_media_available()) skip();
    static const char *const extensions[] = {"mp4", "gif"};
    char folder[64];
    strcpy(folder, scratch_path("a"));
    for (int e = 0; e < 2; e++) {
        nabla_video_error err;
        assert_int_equal(nabla_write_clips(folder, extensions[e], NULL, COUNT, FRAMES, SIDE, SIDE, 4, NULL, &err),
                         NABLA_OK);
        for (int i = 1; i <= COUNT; i++) {
            char path[96];
            check_clip(folder, extensions[e], i);
            snprintf(path, sizeof path, "%s/clip-%04d.%s", folder, i, extensions[e]);
            remove(path);
            snprintf(path, sizeof path, "%s/clip-%04d.txt", folder, i);
            remove(path);
        }
    }
}

static int stop_at_two(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    (void)note;
    assert_string_equal(phase, "clips");
    assert_int_equal(total, COUNT);
    *(int64_t *)user = done;
    return done == 2;
}

static void progress_stops_it(void **state) {
    (void)state;
    int64_t done = 0;
    char folder[64], path[96];
    strcpy(folder, scratch_path("b"));
    nabla_video_machine machine = nabla_video_machine_default();
    machine.progress = stop_at_two;
    machine.user = &done;
    assert_int_equal(nabla_write_clips(folder, ".png", NULL, COUNT, 1, 16, 16, 4, &machine, NULL), NABLA_CANCELLED);
    assert_int_equal(done, 2);
    for (int i = 1; i <= 2; i++) {
        snprintf(path, sizeof path, "%s/clip-%04d.txt", folder, i);
        assert_int_equal(remove(path), 0);
        snprintf(path, sizeof path, "%s/clip-%04d.png", folder, i);
        assert_int_equal(remove(path), 0);
    }
}

static void check_refused(const char *folder, const char *extension, int32_t count, int32_t frames, int32_t side,
                          const char *word) {
    nabla_video_error err;
    assert_int_not_equal(nabla_write_clips(folder, extension, NULL, count, frames, side, side, 1, NULL, &err),
                         NABLA_OK);
    if (!strstr(err.text, word)) fail_msg("'%s' does not name %s", err.text, word);
}

static void bad_requests_are_refused(void **state) {
    (void)state;
    char folder[64];
    strcpy(folder, scratch_path("c"));
    check_refused(folder, "avi", 1, 1, 16, "avi");
    check_refused(folder, "png", 0, 1, 16, "0 clips");
    check_refused(folder, "png", 1, 0, 16, "0 frames");
    check_refused(folder, "png", 1, 1, -5, "-5 x -5");
    check_refused("/dev/null/x", "png", 1, 1, 16, "/dev/null");
    check_refused(NULL, "png", 1, 1, 16, "folder");
    if (nv_media_available()) check_refused(folder, "mp4", 1, 1, 15, "15 x 15");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clips_show_their_captions),
        cmocka_unit_test(progress_stops_it),
        cmocka_unit_test(bad_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

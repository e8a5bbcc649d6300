/* SPDX-License-Identifier: Apache-2.0 */
/* The checker judges models, so it is judged first: on clips whose scene is known, clean and spoilt, and on pictures
   where it must not see anything. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "train/clips.h"

enum { FRAMES = 8 };
static const float noise_level = 0.1f;

typedef enum spoil { CLEAN, BLURRED_THEN_NOISY, NOISY_THEN_BLURRED } spoil;

/* A 3 x 3 mean over every plane. */
static void blur(float *video, int planes, int side) {
    size_t area = (size_t)(side * side);
    float *copy = malloc(area * sizeof *copy);
    for (int p = 0; p < planes; p++) {
        float *v = video + (size_t)p * area;
        memcpy(copy, v, area * sizeof *copy);
        for (int i = 0; i < side * side; i++) {
            int x = i % side, y = i / side, n = 0;
            float sum = 0.0f;
            for (int k = 0; k < 9; k++) {
                int u = x + k % 3 - 1, w = y + k / 3 - 1;
                if (u < 0 || w < 0 || u >= side || w >= side) continue;
                sum += copy[w * side + u];
                n++;
            }
            v[i] = sum / (float)n;
        }
    }
    free(copy);
}

static void add_noise(nv_philox *g, float *video, size_t n) {
    float *noise = malloc(n * sizeof *noise);
    nv_philox_normal(g, noise, n);
    for (size_t i = 0; i < n; i++) {
        video[i] += noise_level * noise[i];
    }
    free(noise);
}

/* Shares of `count` fresh scenes that are read right. */
static void check_agreement(int side, int count, spoil how, double least) {
    size_t n = (size_t)(3 * FRAMES * side * side);
    float *video = malloc(n * sizeof *video);
    nv_philox scenes = nv_philox_at(11, (uint64_t)side), noise = nv_philox_at(12, (uint64_t)side);
    int right[3] = {0};
    for (int i = 0; i < count; i++) {
        nv_scene s;
        nv_sighting seen;
        nv_scene_draw(&scenes, -1, &s);
        nv_scene_render(&s, FRAMES, side, side, video);
        if (how == BLURRED_THEN_NOISY) blur(video, 3 * FRAMES, side);
        if (how != CLEAN) add_noise(&noise, video, n);
        if (how == NOISY_THEN_BLURRED) blur(video, 3 * FRAMES, side);
        nv_clip_check(video, FRAMES, side, side, &seen);
        right[0] += seen.colour == (int)s.colour;
        right[1] += seen.shape == (int)s.shape;
        right[2] += seen.motion == (int)s.motion;
        if (s.motion < NV_AROUND) {
            float net = s.motion < NV_UP ? seen.path_x : seen.path_y;
            int back = s.motion == NV_LEFT || s.motion == NV_UP;
            assert_true(fabsf(net - (back ? -s.travel : s.travel)) < 0.03f);
        }
    }
    for (int i = 0; i < 3; i++) {
        if (right[i] < least * count) fail_msg("%d pixels, kind %d: %d of %d", side, i, right[i], count);
    }
    free(video);
}

static void clean_clips_are_read(void **state) {
    (void)state;
    check_agreement(48, 400, CLEAN, 0.995);
    check_agreement(96, 100, CLEAN, 0.995);
    check_agreement(192, 40, CLEAN, 0.995);
    check_agreement(250, 10, CLEAN, 0.995);
}

static void spoilt_clips_are_read(void **state) {
    (void)state;
    check_agreement(48, 200, BLURRED_THEN_NOISY, 0.98);
    check_agreement(48, 200, NOISY_THEN_BLURRED, 0.98);
    check_agreement(96, 50, BLURRED_THEN_NOISY, 0.98);
    check_agreement(192, 20, NOISY_THEN_BLURRED, 0.98);
}

/* White specks of 2 x 2 pixels, elsewhere in every frame. */
static void stray_specks_do_not_matter(void **state) {
    (void)state;
    enum { COUNT = 150, SPECKS = 4, WIDE = 64, PLANE = WIDE * WIDE };
    float *video = malloc(3 * FRAMES * PLANE * sizeof *video);
    nv_philox g = nv_philox_at(21, 0);
    int right = 0;
    for (int i = 0; i < COUNT; i++) {
        nv_scene s;
        nv_sighting seen;
        nv_scene_draw(&g, -1, &s);
        nv_scene_render(&s, FRAMES, WIDE, WIDE, video);
        for (int k = 0; k < SPECKS * FRAMES; k++) {
            int x = (int)nv_philox_below(&g, WIDE - 1), y = (int)nv_philox_below(&g, WIDE - 1);
            for (int p = 0; p < 12; p++) { /* three colours of four pixels */
                video[(p / 4 * FRAMES + k / SPECKS) * PLANE + (y + p % 4 / 2) * WIDE + x + p % 2] = 1.0f;
            }
        }
        nv_clip_check(video, FRAMES, WIDE, WIDE, &seen);
        right += seen.colour == (int)s.colour && seen.shape == (int)s.shape && seen.motion == (int)s.motion;
    }
    if (right < 0.9 * COUNT) fail_msg("%d of %d", right, COUNT); /* a speck on the object's edge may spoil its shape */
    free(video);
}

/* ------------------------------------------------------------------ nothing to see */

enum { SIDE = 48, AREA = SIDE * SIDE, VALUES = 3 * FRAMES * AREA };

static nv_sighting look(const float *video) {
    nv_sighting seen;
    nv_clip_check(video, FRAMES, SIDE, SIDE, &seen);
    return seen;
}

static void assert_nothing(const float *video) {
    nv_sighting seen = look(video);
    assert_int_equal(seen.colour, -1);
    assert_int_equal(seen.shape, -1);
    assert_int_equal(seen.motion, -1);
}

static void noise_and_plain_show_nothing(void **state) {
    (void)state;
    float *video = malloc(VALUES * sizeof *video);
    nv_philox g = nv_philox_at(5, 5);
    for (int trial = 0; trial < 40; trial++) {
        float scale = 0.02f * (float)(1 + trial * trial), level = 2.0f * nv_philox_uniform(&g) - 1.0f;
        nv_philox_normal(&g, video, VALUES);
        for (int i = 0; i < VALUES; i++) {
            video[i] = level + scale * video[i];
        }
        assert_nothing(video);
        if (scale < 0.5f) continue;
        blur(video, 3 * FRAMES, SIDE); /* blotches */
        blur(video, 3 * FRAMES, SIDE);
        assert_nothing(video);
    }
    for (int i = 0; i < VALUES; i++) {
        video[i] = -1.0f;
    }
    assert_nothing(video);
    for (int i = 0; i < VALUES; i++) {
        video[i] = i % 3 ? NAN : INFINITY;
    }
    assert_nothing(video);
    free(video);
}

/* ------------------------------------------------------------------ wrong in one thing */

static nv_scene plain_scene(nv_motion motion) {
    nv_scene s = {.colour = NV_RED, .shape = NV_CIRCLE, .motion = motion, .size = NV_MEDIUM, .x = 0.25f, .y = 0.5f};
    s.travel = motion == NV_AROUND ? 0.22f : 0.45f;
    s.angle = 3.1416f; /* an orbit begins at its left end */
    return s;
}

/* Puts frames in another order. */
static void shuffle(const float *from, const int order[FRAMES], float *to) {
    for (int c = 0; c < 3; c++) {
        for (int f = 0; f < FRAMES; f++) {
            memcpy(to + (c * FRAMES + f) * AREA, from + (c * FRAMES + order[f]) * AREA, AREA * sizeof *to);
        }
    }
}

static void other_paths_have_no_name(void **state) {
    (void)state;
    static const int backwards[FRAMES] = {7, 6, 5, 4, 3, 2, 1, 0}, there_and_back[FRAMES] = {0, 2, 4, 6, 6, 4, 2, 0},
                     jumping[FRAMES] = {0, 7, 0, 7, 0, 7, 0, 7}, half[FRAMES] = {0, 0, 1, 1, 2, 2, 3, 3};
    float *a = malloc(VALUES * sizeof *a), *b = malloc(VALUES * sizeof *b);
    nv_scene s = plain_scene(NV_RIGHT);
    nv_scene_render(&s, FRAMES, SIDE, SIDE, a);
    assert_int_equal(look(a).motion, NV_RIGHT);
    shuffle(a, backwards, b);
    assert_int_equal(look(b).motion, NV_LEFT);
    shuffle(a, there_and_back, b);
    assert_int_equal(look(b).motion, -1);
    shuffle(a, jumping, b);
    assert_int_equal(look(b).motion, -1);
    s = plain_scene(NV_AROUND);
    nv_scene_render(&s, FRAMES, SIDE, SIDE, a);
    assert_int_equal(look(a).motion, NV_AROUND);
    shuffle(a, backwards, b);
    assert_int_equal(look(b).motion, NV_AROUND); /* either way round is a circle */
    shuffle(a, half, b);
    assert_int_not_equal(look(b).motion, NV_AROUND);
    free(a);
    free(b);
}

static void two_objects_are_not_one(void **state) {
    (void)state;
    float *a = malloc(VALUES * sizeof *a), *b = malloc(VALUES * sizeof *b);
    nv_scene s = plain_scene(NV_STILL);
    s.travel = 0.0f;
    nv_scene_render(&s, FRAMES, SIDE, SIDE, a);
    assert_int_equal(look(a).motion, NV_STILL);
    s.x = 0.75f;
    nv_scene_render(&s, FRAMES, SIDE, SIDE, b);
    for (int i = 0; i < VALUES; i++) {
        b[i] = fmaxf(a[i], b[i]);
    }
    assert_nothing(b);
    /* seen in half of the frames only */
    for (int i = 0; i < VALUES; i++) {
        if (i / AREA % 2) a[i] = -1.0f;
    }
    assert_nothing(a);
    free(a);
    free(b);
}

static void single_frames_have_no_motion(void **state) {
    (void)state;
    float *video = malloc(3 * AREA * sizeof *video);
    nv_scene s = plain_scene(NV_LEFT);
    nv_sighting seen;
    nv_scene_render(&s, 1, SIDE, SIDE, video);
    nv_clip_check(video, 1, SIDE, SIDE, &seen);
    assert_int_equal(seen.colour, NV_RED);
    assert_int_equal(seen.shape, NV_CIRCLE);
    assert_int_equal(seen.motion, -1);
    free(video);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_clips_are_read),         cmocka_unit_test(spoilt_clips_are_read),
        cmocka_unit_test(stray_specks_do_not_matter),   cmocka_unit_test(noise_and_plain_show_nothing),
        cmocka_unit_test(other_paths_have_no_name),     cmocka_unit_test(two_objects_are_not_one),
        cmocka_unit_test(single_frames_have_no_motion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

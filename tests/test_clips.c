/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "text/words.h"
#include "train/clips.h"

static void held_out_is_balanced(void **state) {
    (void)state;
    int colours[NV_COLOURS] = {0}, shapes[NV_SHAPES] = {0}, motions[NV_MOTIONS] = {0};
    int cs[NV_COLOURS][NV_SHAPES] = {{0}}, cm[NV_COLOURS][NV_MOTIONS] = {{0}}, sm[NV_SHAPES][NV_MOTIONS] = {{0}};
    int all = 0;
    for (int c = 0; c < NV_COLOURS; c++) {
        for (int s = 0; s < NV_SHAPES; s++) {
            for (int m = 0; m < NV_MOTIONS; m++) {
                int held = nv_scene_held_out((nv_colour)c, (nv_shape)s, (nv_motion)m);
                all += held;
                colours[c] += held, shapes[s] += held, motions[m] += held;
                cs[c][s] += !held, cm[c][m] += !held, sm[s][m] += !held;
            }
        }
    }
    assert_int_equal(all, 18);
    for (int c = 0; c < NV_COLOURS; c++) {
        assert_int_equal(colours[c], 3);
        for (int s = 0; s < NV_SHAPES; s++) {
            assert_true(cs[c][s] >= 5);
        }
        for (int m = 0; m < NV_MOTIONS; m++) {
            assert_true(cm[c][m] >= 3);
        }
    }
    for (int s = 0; s < NV_SHAPES; s++) {
        assert_in_range(shapes[s], 4, 5);
        for (int m = 0; m < NV_MOTIONS; m++) {
            assert_true(sm[s][m] >= 5);
        }
    }
    for (int m = 0; m < NV_MOTIONS; m++) {
        assert_int_equal(motions[m], 3);
    }
}

static void draws_obey_the_rule(void **state) {
    (void)state;
    nv_philox g = nv_philox_at(1, 2);
    int held = 0;
    for (int i = 0; i < 3000; i++) {
        nv_scene s;
        nv_scene_draw(&g, i % 3 - 1, &s);
        int h = nv_scene_held_out(s.colour, s.shape, s.motion);
        if (i % 3 == 0) held += h;
        if (i % 3) assert_int_equal(h, i % 3 - 1);
    }
    assert_in_range(held, 80, 170); /* one in eight of 1000 */
}

static void captions_read_back(void **state) {
    (void)state;
    nv_philox g = nv_philox_at(7, 0);
    size_t count;
    nv_words *words;
    const char *const *list = nv_clips_words(&count);
    assert_true(count < 40);
    assert_int_equal(nv_words_create(list, count, 16, &words, NULL), NABLA_OK);
    for (int i = 0; i < 5000; i++) {
        nv_scene s;
        char text[128], unknown[128] = "";
        int32_t ids[16];
        nv_scene_draw(&g, -1, &s);
        int length = nv_scene_caption(&s, text, sizeof text);
        assert_int_equal(length, strlen(text));
        nv_wish w;
        nv_wish_parse(text, &w);
        if (w.colour != (int)s.colour || w.shape != (int)s.shape || w.motion != (int)s.motion) fail_msg("%s", text);
        assert_int_equal(w.size, s.size != NV_MEDIUM ? (int)s.size : -1);
        int fits = nv_words_encode(words, text, ids, unknown, sizeof unknown) <= 16;
        if (!fits || *unknown) fail_msg("%s: %s", text, unknown);
    }
    nv_words_destroy(words);
}

static void check_wish(const char *text, int colour, int shape, int motion, int size) {
    nv_wish w;
    nv_wish_parse(text, &w);
    if (w.colour != colour || w.shape != shape || w.motion != motion || w.size != size) {
        fail_msg("'%s': %d %d %d %d", text, w.colour, w.shape, w.motion, w.size);
    }
}

static void people_write_otherwise(void **state) {
    (void)state;
    check_wish("circle, red, to the left", NV_RED, NV_CIRCLE, NV_LEFT, -1);
    check_wish("A BIG Violet disc moving upwards!", NV_PURPLE, NV_CIRCLE, NV_UP, NV_LARGE);
    check_wish("a red circle moving in a circle", NV_RED, NV_CIRCLE, NV_AROUND, -1);
    check_wish("moving in circles: the white star", NV_WHITE, NV_STAR, NV_AROUND, -1);
    check_wish("on a white background a blue square", NV_BLUE, NV_SQUARE, -1, -1);
    check_wish("a blue square on a white background", NV_BLUE, NV_SQUARE, -1, -1);
    check_wish("a still green triangle", NV_GREEN, NV_TRIANGLE, NV_STILL, -1);
    check_wish("", -1, -1, -1, -1);
    check_wish("a cat of \xc3\xa9t\xc3\xa9 eating supercalifragilisticexpialidocious noodles", -1, -1, -1, -1);
}

/* The picture must not depend on who draws it, must stay in range, and must keep the object off the border. */
static void frames_are_sound(void **state) {
    (void)state;
    enum { FRAMES = 5, HEIGHT = 48, WIDTH = 64, SIZE = 3 * FRAMES * HEIGHT * WIDTH };
    float *a = malloc(SIZE * sizeof *a), *b = malloc(SIZE * sizeof *b);
    nv_philox g = nv_philox_at(3, 0);
    for (int i = 0; i < 400; i++) {
        nv_scene s;
        nv_scene_draw(&g, -1, &s);
        nv_scene_render(&s, FRAMES, HEIGHT, WIDTH, a);
        nv_scene_render(&s, FRAMES, HEIGHT, WIDTH, b);
        assert_memory_equal(a, b, SIZE * sizeof *a);
        for (int j = 0; j < SIZE; j++) {
            assert_true(a[j] >= -1.0f && a[j] <= 1.0f);
        }
        for (int p = 0; p < 3 * FRAMES; p++) {
            const float *plane = a + p * HEIGHT * WIDTH;
            for (int x = 0; x < WIDTH; x++) {
                assert_true(fabsf(plane[x] - plane[0]) < 0.9f);
                assert_true(fabsf(plane[(HEIGHT - 1) * WIDTH + x] - plane[0]) < 0.9f);
            }
        }
    }
    free(a);
    free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(held_out_is_balanced), cmocka_unit_test(draws_obey_the_rule),
        cmocka_unit_test(captions_read_back),   cmocka_unit_test(people_write_otherwise),
        cmocka_unit_test(frames_are_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

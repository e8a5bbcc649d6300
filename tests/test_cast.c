/* SPDX-License-Identifier: Apache-2.0 */
/* Scenes of several objects: that what is drawn is what the caption says, and that the checker which judges models
   reads true clips, and refuses spoilt ones. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "text/words.h"
#include "train/cast.h"
#include "train/painting.h"

enum { FRAMES = 8, ALL = NV_RIGHT_COLOUR | NV_RIGHT_SHAPE | NV_RIGHT_MOTION | NV_RIGHT_COUNT };

static nv_philox generator(uint64_t stream) {
    return nv_philox_at(31, stream);
}

/* ------------------------------------------------------------------ scenes */

static void casts_obey_the_rules(void **state) {
    (void)state;
    nv_philox g = generator(0);
    int kinds[3] = {0}, motions[NV_CAST_MOTIONS] = {0}, relations[NV_RELATIONS] = {0};
    for (int i = 0; i < 3000; i++) {
        nv_cast c;
        const int held_out = i % 3 - 1;
        nv_cast_draw(&g, held_out, &c);
        if (held_out == 1) assert_int_equal(c.count, 2);
        for (int k = 0; k < c.count; k++) {
            const nv_scene *s = &c.actor[k];
            const int held = nv_scene_held_out(s->colour, s->shape, s->motion);
            if (held_out >= 0) assert_int_equal(held, held_out);
            motions[s->motion]++;
        }
        if (c.count == 2) assert_int_not_equal(c.actor[0].colour, c.actor[1].colour);
        if (c.relation >= 0) relations[c.relation]++;
        if (held_out < 1) kinds[c.count == 1 ? 0 : c.relation < 0 ? 1 : 2]++;
    }
    for (int i = 0; i < 3; i++)
        assert_in_range(kinds[i], 400, 1100);
    for (int i = 0; i < NV_CAST_MOTIONS; i++)
        assert_in_range(motions[i], 400, 1200);
    for (int i = 0; i < NV_RELATIONS; i++)
        assert_in_range(relations[i], 250, 600);
}

static void captions_read_back(void **state) {
    (void)state;
    nv_philox g = generator(1);
    size_t count, join_count;
    nv_words *words;
    const char *const *list = nv_cast_words(&count), *const *joins = nv_cast_joins(&join_count);
    assert_int_equal(nv_words_create(list, count, NV_CAST_WORDS, &words, NULL), NABLA_OK);
    assert_int_equal(nv_words_join(words, joins, join_count, NULL), NABLA_OK);
    for (int i = 0; i < 5000; i++) {
        nv_cast c;
        nv_cast_wish w;
        char text[512], unknown[128] = "";
        int32_t ids[NV_CAST_WORDS];
        nv_cast_draw(&g, -1, &c);
        const int length = nv_cast_caption(&c, text, sizeof text);
        assert_int_equal(length, strlen(text));
        nv_cast_wish_parse(text, &w);
        if (w.count != c.count || w.relation != c.relation) fail_msg("%s", text);
        for (int k = 0; k < c.count; k++) {
            const nv_scene *s = &c.actor[k];
            const nv_wish *a = &w.actor[k];
            if (a->colour != (int)s->colour || a->shape != (int)s->shape || a->motion != (int)s->motion)
                fail_msg("%s", text);
        }
        if (nv_words_encode(words, text, ids, unknown, sizeof unknown) > NV_CAST_WORDS || *unknown)
            fail_msg("%s: %s", text, unknown);
    }
    nv_words_destroy(words);
}

static void people_write_otherwise(void **state) {
    (void)state;
    nv_cast_wish w;
    nv_cast_wish_parse("a red circle left of a blue square", &w);
    assert_int_equal(w.relation, NV_LEFT_OF);
    assert_int_equal(w.actor[0].motion, -1);
    assert_int_equal(w.actor[1].colour, NV_BLUE);
    nv_cast_wish_parse("a red circle moving out and back above a star moving right", &w);
    assert_int_equal(w.relation, NV_ABOVE);
    assert_int_equal(w.actor[0].motion, NV_RETURNING);
    assert_int_equal(w.actor[1].motion, NV_RIGHT);
    nv_cast_wish_parse("", &w);
    assert_int_equal(w.count, 1);
    assert_int_equal(w.relation, -1);
    nv_cast_wish_parse("and left right of above", &w);
    assert_int_equal(w.relation, NV_RIGHT_OF);
}

static void frames_are_sound(void **state) {
    (void)state;
    enum { HEIGHT = 48, WIDTH = 64, SIZE = 3 * FRAMES * HEIGHT * WIDTH };
    float *a = malloc(SIZE * sizeof *a), *b = malloc(SIZE * sizeof *b);
    nv_philox g = generator(2);
    for (int i = 0; i < 200; i++) {
        nv_cast c;
        nv_cast_draw(&g, -1, &c);
        nv_cast_render(&c, FRAMES, HEIGHT, WIDTH, a);
        nv_cast_render(&c, FRAMES, HEIGHT, WIDTH, b);
        assert_memory_equal(a, b, SIZE * sizeof *a);
        for (int j = 0; j < SIZE; j++)
            assert_true(a[j] >= -1.0f && a[j] <= 1.0f);
    }
    free(a);
    free(b);
}

/* ------------------------------------------------------------------ true clips */

static unsigned judge(const nv_cast_wish *wish, const float *video, int side) {
    nv_cast_sighting seen;
    nv_cast_check(video, FRAMES, side, side, &seen);
    return nv_cast_compare(wish, &seen);
}

static void wish_of(const nv_cast *c, nv_cast_wish *wish) {
    char text[512];
    nv_cast_caption(c, text, sizeof text);
    nv_cast_wish_parse(text, wish);
}

static void add_noise(nv_philox *g, float level, float *video, size_t n) {
    float *noise = malloc(n * sizeof *noise);
    nv_philox_normal(g, noise, n);
    for (size_t i = 0; i < n; i++)
        video[i] += level * noise[i];
    free(noise);
}

/* Of `count` fresh scenes each trait is right in `least` of those that ask for it. */
static void check_true_clips(int side, int count, float noise, double least) {
    static const char *const names[] = {"colour", "shape", "motion", "count", "relation"};
    const size_t n = (size_t)(3 * FRAMES * side * side);
    float *video = malloc(n * sizeof *video);
    nv_philox g = generator((uint64_t)side), spoil = generator(99);
    int right[5] = {0}, asked = 0;
    for (int i = 0; i < count; i++) {
        nv_cast c;
        nv_cast_wish wish;
        nv_cast_draw(&g, -1, &c);
        wish_of(&c, &wish);
        nv_cast_render(&c, FRAMES, side, side, video);
        if (noise > 0.0f) add_noise(&spoil, noise, video, n);
        const unsigned bits = judge(&wish, video, side);
        for (int k = 0; k < 5; k++)
            right[k] += (bits & 1u << k) != 0;
        asked += (bits & NV_ASKED_RELATION) != 0;
    }
    for (int k = 0; k < 5; k++) {
        const int of = k == 4 ? asked : count;
        print_message("%d pixels, noise %.2f, %s: %d of %d\n", side, (double)noise, names[k], right[k], of);
        if (right[k] < least * of) fail_msg("%s of %d pixels: %d of %d", names[k], side, right[k], of);
    }
    free(video);
}

static void true_clips_are_read(void **state) {
    (void)state;
    check_true_clips(192, 200, 0.0f, 0.99);
    check_true_clips(128, 200, 0.0f, 0.99);
    check_true_clips(96, 300, 0.0f, 0.99);
    check_true_clips(192, 60, 0.1f, 0.98);
}

/* ------------------------------------------------------------------ spoilt clips */

enum { SIDE = 96, AREA = SIDE * SIDE, PLANE = FRAMES * AREA, VALUES = 3 * PLANE, TRIALS = 150 };

/* Spoils the clip of a scene with two objects, whose caption stays. share_right: how often `bits` are all claimed right
   even so. */
typedef void spoil(nv_philox *g, const nv_cast *c, float *video);

static void swap_colours(nv_philox *g, const nv_cast *c, float *video) {
    (void)g;
    nv_cast s = *c;
    s.actor[0].colour = c->actor[1].colour;
    s.actor[1].colour = c->actor[0].colour;
    nv_cast_render(&s, FRAMES, SIDE, SIDE, video);
}

static void leave_one_out(nv_philox *g, const nv_cast *c, float *video) {
    nv_cast s = {.count = 1, .relation = -1};
    s.actor[0] = c->actor[nv_philox_below(g, 2)];
    s.actor[0].background = c->actor[0].background;
    nv_cast_render(&s, FRAMES, SIDE, SIDE, video);
}

/* A third object, a copy of the first that stands where there is room. */
static void duplicate(nv_philox *g, const nv_cast *c, float *video) {
    nv_scene copy = c->actor[0];
    copy.motion = NV_STILL;
    float ax, ay, away;
    do {
        copy.x = nv_between(g, 0.15f, 0.85f);
        copy.y = nv_between(g, 0.15f, 0.85f);
        away = INFINITY;
        for (int32_t f = 0; f < FRAMES; f++) {
            for (int k = 0; k < 2; k++) {
                nv_scene_centre(&c->actor[k], f, FRAMES, &ax, &ay);
                away = fminf(away, hypotf(ax - copy.x, ay - copy.y));
            }
        }
    } while (away < 0.29f && nv_philox_below(g, 4000) != 0);
    nv_cast_render(c, FRAMES, SIDE, SIDE, video);
    nv_scene_paint(&copy, FRAMES, SIDE, SIDE, video);
}

/* What moved stands still. */
static void freeze(nv_philox *g, const nv_cast *c, float *video) {
    (void)g;
    nv_cast_render(c, FRAMES, SIDE, SIDE, video);
    for (int p = 0; p < 3; p++)
        for (int f = 1; f < FRAMES; f++)
            memcpy(video + p * PLANE + f * AREA, video + p * PLANE, AREA * sizeof *video);
}

static void mirror(nv_philox *g, const nv_cast *c, float *video) {
    (void)g;
    nv_cast_render(c, FRAMES, SIDE, SIDE, video);
    for (int row = 0; row < 3 * FRAMES * SIDE; row++) {
        float *at = video + row * SIDE;
        for (int x = 0; x < SIDE / 2; x++) {
            const float kept = at[x];
            at[x] = at[SIDE - 1 - x];
            at[SIDE - 1 - x] = kept;
        }
    }
    for (int plane = 0; plane < 3 * FRAMES; plane++) {
        float *at = video + plane * AREA;
        for (int i = 0; i < AREA / 2; i++) {
            const int j = (SIDE - 1 - i / SIDE) * SIDE + i % SIDE;
            const float kept = at[i];
            at[i] = at[j];
            at[j] = kept;
        }
    }
}

static void only_noise(nv_philox *g, const nv_cast *c, float *video) {
    (void)c;
    nv_philox_normal(g, video, VALUES);
}

static void other_shapes(nv_philox *g, const nv_cast *c, float *video) {
    nv_cast s = *c;
    s.actor[0].shape = (nv_shape)((s.actor[0].shape + 1 + nv_philox_below(g, NV_SHAPES - 1)) % NV_SHAPES);
    nv_cast_render(&s, FRAMES, SIDE, SIDE, video);
}

/* From half of the clip on it is another scene. Who leaves is away then. */
static void turn_into(const nv_cast *s, const nv_cast *c, float *video) {
    float *late = malloc(VALUES * sizeof *late);
    nv_cast_render(c, FRAMES, SIDE, SIDE, video);
    nv_cast_render(s, FRAMES, SIDE, SIDE, late);
    for (int p = 0; p < 3; p++)
        memcpy(video + p * PLANE + PLANE / 2, late + p * PLANE + PLANE / 2, PLANE / 2 * sizeof *video);
    free(late);
}

/* Comes back as another. */
static void forget(nv_philox *g, const nv_cast *c, float *video) {
    nv_cast s = *c;
    (void)g;
    for (int k = 0; k < 2; k++)
        s.actor[k].colour = (nv_colour)((s.actor[k].colour + 3) % NV_COLOURS);
    turn_into(&s, c, video);
}

/* What left stays away. */
static void never_back(nv_philox *g, const nv_cast *c, float *video) {
    nv_cast s = *c;
    (void)g;
    for (int k = 0; k < 2; k++)
        if (s.actor[k].motion == NV_RETURNING) s.actor[k].x += 10.0f;
    turn_into(&s, c, video);
}

/* What left comes back by the opposite side. */
static void back_elsewhere(nv_philox *g, const nv_cast *c, float *video) {
    nv_cast s = *c;
    (void)g;
    for (int k = 0; k < 2; k++) {
        nv_scene *a = &s.actor[k];
        if (a->motion != NV_RETURNING) continue;
        a->x = 1.0f - a->x;
        a->y = 1.0f - a->y;
        a->angle += 3.14159265f;
    }
    turn_into(&s, c, video);
}

static double share_right(spoil *how, unsigned bits, int relation_only) {
    float *video = malloc(VALUES * sizeof *video);
    nv_philox g = generator(7), other = generator(8);
    int right = 0, done = 0;
    while (done < TRIALS) {
        nv_cast c;
        nv_cast_wish wish;
        nv_cast_draw(&g, -1, &c);
        if (c.count != 2 || (relation_only && c.relation < 0)) continue;
        /* alike but for their colours: the same with those swapped, but for the relation */
        const nv_scene *a = &c.actor[0], *b = &c.actor[1];
        const int leaves = a->motion == NV_RETURNING || b->motion == NV_RETURNING;
        if ((how == never_back || how == back_elsewhere) && !leaves) continue;
        if (how == swap_colours && a->shape == b->shape && a->motion == b->motion) continue;
        wish_of(&c, &wish);
        how(&other, &c, video);
        right += (judge(&wish, video, SIDE) & bits) == bits;
        done++;
    }
    free(video);
    return (double)right / TRIALS;
}

static void check_refused(const char *what, spoil *how, unsigned bits, int relation_only, double most) {
    const double share = share_right(how, bits, relation_only);
    print_message("%s: %.1f %% pass\n", what, 100.0 * share);
    if (share > most) fail_msg("%s: %.1f %% pass", what, 100.0 * share);
}

static void spoilt_clips_are_refused(void **state) {
    (void)state;
    check_refused("swapped colours", swap_colours, NV_RIGHT_COLOUR | NV_RIGHT_SHAPE | NV_RIGHT_MOTION, 0, 0.02);
    check_refused("an object missing", leave_one_out, NV_RIGHT_COUNT, 0, 0.01);
    check_refused("an object missing, its colour", leave_one_out, NV_RIGHT_COLOUR, 0, 0.01);
    check_refused("a duplicate", duplicate, NV_RIGHT_COUNT, 0, 0.03);
    check_refused("frozen", freeze, NV_RIGHT_MOTION, 0, 0.05);
    check_refused("mirrored, its relation", mirror, NV_RIGHT_RELATION, 1, 0.01);
    check_refused("another shape", other_shapes, NV_RIGHT_SHAPE, 0, 0.02);
    check_refused("colours that change", forget, ALL, 0, 0.01);
    check_refused("gone for good, its motion", never_back, NV_RIGHT_MOTION, 0, 0.02);
    check_refused("back elsewhere, its motion", back_elsewhere, NV_RIGHT_MOTION, 0, 0.02);
    check_refused("noise, any count", only_noise, NV_RIGHT_COUNT, 0, 0.0);
    check_refused("noise, any colour", only_noise, NV_RIGHT_COLOUR, 0, 0.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(casts_obey_the_rules),   cmocka_unit_test(captions_read_back),
        cmocka_unit_test(people_write_otherwise), cmocka_unit_test(frames_are_sound),
        cmocka_unit_test(true_clips_are_read),    cmocka_unit_test(spoilt_clips_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "train/cast.h"

enum { PART_SIZE = 96 /* of a caption's part */ };
static const char *const colour_names[NV_COLOURS] = {"red", "green", "blue", "yellow", "white", "purple"};
static const char *const shape_names[NV_SHAPES] = {"circle", "square", "triangle", "star"};
static const char *const motion_names[NV_CAST_MOTIONS] = {"left",        "right", "up",          "down",
                                                          "in a circle", "still", "out and back"};
static const char *const relation_names[NV_RELATIONS] = {"left of", "right of", "above", "below"};
static const char *const size_names[NV_SIZES] = {"small", "medium", "large"};
static const char *const background_names[NV_BACKGROUNDS] = {"black", "grey", "navy"};
static const char *const moving_words[NV_WORDINGS] = {"moving", "going", "that moves"};
static const char *const still_words[NV_WORDINGS] = {"standing", "staying", "that stands"};

const char *nv_colour_name(nv_colour c) {
    return colour_names[c];
}

const char *nv_shape_name(nv_shape s) {
    return shape_names[s];
}

const char *nv_motion_name(nv_motion m) {
    return motion_names[m];
}

#define CLIPS_WORDS                                                                                             \
    "a", "small", "large", "red", "green", "blue", "yellow", "white", "purple", "circle", "square", "triangle", \
        "star", "moving", "going", "that", "moves", "left", "right", "up", "down", "in a circle", "standing",   \
        "staying", "stands", "still", "on", "black", "grey", "navy", "background"
#define CAST_JOINS "and", "left of", "right of", "above", "below"

const char *const *nv_clips_words(size_t *count) {
    static const char *const words[] = {CLIPS_WORDS};
    *count = sizeof words / sizeof *words;
    return words;
}

const char *const *nv_cast_words(size_t *count) {
    static const char *const words[] = {CLIPS_WORDS, "out and back", CAST_JOINS};
    *count = sizeof words / sizeof *words;
    return words;
}

const char *const *nv_cast_joins(size_t *count) {
    static const char *const joins[] = {CAST_JOINS};
    *count = sizeof joins / sizeof *joins;
    return joins;
}

const char *nv_relation_name(nv_relation r) {
    return relation_names[r];
}

/* "a small red circle moving right" */
static int describe(const nv_scene *scene, char *text, size_t size) {
    const char *const *verbs = scene->motion == NV_STILL ? still_words : moving_words;
    int named_size = scene->size != NV_MEDIUM;
    return snprintf(text, size, "a %s%s%s %s %s %s", named_size ? size_names[scene->size] : "", named_size ? " " : "",
                    colour_names[scene->colour], shape_names[scene->shape], verbs[scene->wording],
                    motion_names[scene->motion]);
}

/* " on a grey background", or nothing. */
static void describe_background(const nv_scene *scene, char *text, size_t size) {
    text[0] = '\0';
    if (scene->named_background) snprintf(text, size, " on a %s background", background_names[scene->background]);
}

int nv_scene_caption(const nv_scene *scene, char *text, size_t size) {
    char object[PART_SIZE], behind[PART_SIZE];
    describe(scene, object, sizeof object);
    describe_background(scene, behind, sizeof behind);
    return snprintf(text, size, "%s%s", object, behind);
}

int nv_cast_caption(const nv_cast *cast, char *text, size_t size) {
    char objects[NV_CAST_MOST][PART_SIZE], behind[PART_SIZE];
    for (int32_t i = 0; i < cast->count; i++)
        describe(&cast->actor[i], objects[i], sizeof objects[i]);
    describe_background(&cast->actor[0], behind, sizeof behind);
    if (cast->count == 1) return snprintf(text, size, "%s%s", objects[0], behind);
    if (cast->relation < 0) return snprintf(text, size, "%s and %s%s", objects[0], objects[1], behind);
    return snprintf(text, size, "%s, %s %s%s", objects[0], relation_names[cast->relation], objects[1], behind);
}

/* ------------------------------------------------------------------ reading */

typedef enum word_role { COLOUR, SHAPE, MOTION, SIZE, SKIP, IN, BACKGROUND } word_role;

/* What single words mean. SKIP words may stand between "in" and "circle". */
static const struct meaning {
    const char *word;
    word_role role;
    int value;
} meanings[] = {
    {"red", COLOUR, NV_RED},
    {"green", COLOUR, NV_GREEN},
    {"blue", COLOUR, NV_BLUE},
    {"yellow", COLOUR, NV_YELLOW},
    {"white", COLOUR, NV_WHITE},
    {"purple", COLOUR, NV_PURPLE},
    {"violet", COLOUR, NV_PURPLE},
    {"circle", SHAPE, NV_CIRCLE},
    {"disc", SHAPE, NV_CIRCLE},
    {"disk", SHAPE, NV_CIRCLE},
    {"ball", SHAPE, NV_CIRCLE},
    {"square", SHAPE, NV_SQUARE},
    {"triangle", SHAPE, NV_TRIANGLE},
    {"star", SHAPE, NV_STAR},
    {"left", MOTION, NV_LEFT},
    {"leftwards", MOTION, NV_LEFT},
    {"right", MOTION, NV_RIGHT},
    {"rightwards", MOTION, NV_RIGHT},
    {"up", MOTION, NV_UP},
    {"upwards", MOTION, NV_UP},
    {"rising", MOTION, NV_UP},
    {"down", MOTION, NV_DOWN},
    {"downwards", MOTION, NV_DOWN},
    {"falling", MOTION, NV_DOWN},
    {"circles", MOTION, NV_AROUND},
    {"circling", MOTION, NV_AROUND},
    {"around", MOTION, NV_AROUND},
    {"still", MOTION, NV_STILL},
    {"motionless", MOTION, NV_STILL},
    {"back", MOTION, NV_RETURNING},
    {"returning", MOTION, NV_RETURNING},
    {"small", SIZE, NV_SMALL},
    {"little", SIZE, NV_SMALL},
    {"medium", SIZE, NV_MEDIUM},
    {"large", SIZE, NV_LARGE},
    {"big", SIZE, NV_LARGE},
    {"a", SKIP, 0},
    {"the", SKIP, 0},
    {"in", IN, 0},
    {"background", BACKGROUND, 0},
};

/* The next run of letters, lower case, cut to size; NULL at the end. */
static const char *next_word(const char *text, char *word, size_t size) {
    size_t n = 0;
    while (*text && !isalpha((unsigned char)*text)) {
        text++;
    }
    if (!*text) return NULL;
    for (; isalpha((unsigned char)*text); text++) {
        if (n + 1 < size) word[n++] = (char)tolower((unsigned char)*text);
    }
    word[n] = 0;
    return text;
}

static const struct meaning *meaning_of(const char *word) {
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        if (!strcmp(meanings[i].word, word)) return &meanings[i];
    }
    return NULL;
}

void nv_wish_parse(const char *caption, nv_wish *wish) {
    int32_t found[4] = {-1, -1, -1, -1}; /* COLOUR ... SIZE; the first mention counts */
    int after_in = 0, last_is_colour = 0, first_colour = 0;
    char word[24];
    for (const char *at = caption; (at = next_word(at, word, sizeof word));) {
        const struct meaning *m = meaning_of(word);
        if (m && m->role == BACKGROUND && last_is_colour && first_colour) found[COLOUR] = -1;
        last_is_colour = m && m->role == COLOUR;
        if (m && m->role <= SIZE) {
            int around = after_in && m->role == SHAPE && m->value == NV_CIRCLE;
            word_role role = around ? MOTION : m->role;
            if (role == COLOUR) first_colour = found[COLOUR] < 0;
            if (found[role] < 0) found[role] = around ? (int32_t)NV_AROUND : (int32_t)m->value;
        }
        after_in = m && (m->role == IN || (after_in && m->role == SKIP));
    }
    *wish = (nv_wish){.colour = found[COLOUR], .shape = found[SHAPE], .motion = found[MOTION], .size = found[SIZE]};
}

/* What is behind the word that joins the second object, that word's place, and the relation that it is; NULL if there
   is none. The "and" of "out and
   back" joins nothing; "left" and "right" do before "of". */
static const char *second_part(const char *caption, const char **join, int32_t *relation) {
    static const char *const first[NV_RELATIONS] = {"left", "right", "above", "below"};
    char before[24] = "", word[24], after[24];
    *relation = -1;
    for (const char *at = caption; (at = next_word(at, word, sizeof word)); memcpy(before, word, sizeof before)) {
        if (!before[0]) continue;
        *join = at - strlen(word);
        if (!strcmp(word, "and") && strcmp(before, "out") != 0) return at;
        const char *behind = next_word(at, after, sizeof after);
        for (int32_t r = 0; r < NV_RELATIONS; r++) {
            if (strcmp(word, first[r]) != 0) continue;
            if (r <= NV_RIGHT_OF && (!behind || strcmp(after, "of") != 0)) continue;
            *relation = r;
            return at;
        }
    }
    return NULL;
}

void nv_cast_wish_parse(const char *caption, nv_cast_wish *wish) {
    char first[512];
    int32_t relation;
    const char *join, *second = second_part(caption, &join, &relation);
    const size_t length = second ? (size_t)(join - caption) : strlen(caption);
    *wish = (nv_cast_wish){.count = second ? 2 : 1, .relation = relation};
    snprintf(first, sizeof first, "%.*s", (int)(length < sizeof first ? length : sizeof first - 1), caption);
    nv_wish_parse(first, &wish->actor[0]);
    nv_wish_parse(second ? second : "", &wish->actor[1]);
}

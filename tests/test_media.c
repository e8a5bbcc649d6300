/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "files.h"
#include "media/behind.h"
#include "media/deflate.h"
#include "media/media.h"
#include "media/read.h"
#include "scratch.h"
#include "train/clips.h"

enum { FRAMES = 8, SIDE = 64, AREA = SIDE * SIDE, FRAME = 3 * AREA };

static nv_media_options plain_options(void) {
    return (nv_media_options){.width = SIDE,
                              .height = SIDE,
                              .fps = 8,
                              .crf = 18,
                              .frames = FRAMES,
                              .title = "a red star",
                              .comment = "seed 1"};
}

static nv_error error_of;

#define assert_ok(call)                                                   \
    do {                                                                  \
        if ((call) != NABLA_OK) fail_msg("%s: %s", #call, error_of.text); \
    } while (0)

/* [FRAMES, SIDE, SIDE, 3] of some clip. */
static uint8_t *make_frames(void) {
    float *video = malloc((size_t)FRAME * FRAMES * sizeof *video);
    uint8_t *rgb = malloc((size_t)FRAME * FRAMES);
    nv_scene s = {.colour = NV_RED, .shape = NV_STAR, .motion = NV_RIGHT, .size = NV_LARGE, .background = NV_NAVY};
    s.x = 0.28f, s.y = 0.4f, s.travel = 0.44f;
    nv_scene_render(&s, FRAMES, SIDE, SIDE, video);
    for (int f = 0; f < FRAMES; f++) {
        nv_media_to_rgb(video, FRAMES, SIDE, SIDE, f, rgb + f * FRAME);
    }
    free(video);
    return rgb;
}

static void write_frames(const char *path, const uint8_t *rgb, int count) {
    nv_media_options options = plain_options();
    nv_media_writer *w;
    assert_ok(nv_media_open(path, &options, &w, &error_of));
    for (int f = 0; f < count; f++) {
        assert_ok(nv_media_frame(w, rgb + f * FRAME, &error_of));
    }
    assert_ok(nv_media_finish(w, &error_of));
}

/* Root of the mean square difference, in steps of 255. */
static double difference(const uint8_t *a, const uint8_t *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    }
    return sqrt(sum / (double)n);
}

static int entries(const char *path) {
    DIR *dir = opendir(path);
    int n = -2; /* . and .. */
    assert_non_null(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

static void check_round_trip(const char *name, int count, int first, double most) {
    const char *path = scratch_path(name);
    uint8_t *rgb = make_frames(), *again = NULL;
    int32_t frames = 0;
    size_t before = scratch_files();
    write_frames(path, rgb, FRAMES);
    assert_int_equal(scratch_files(), before + 1); /* nothing temporary is left */
    if (nv_media_available()) {
        assert_ok(nv_media_read(path, SIDE, SIDE, 100, &again, &frames, &error_of));
        assert_int_equal(frames, count);
        double off = difference(rgb + first * FRAME, again, (size_t)count * FRAME);
        if (off > most) fail_msg("%s: %g off", name, off);
    } else {
        assert_int_equal(nv_media_read(path, SIDE, SIDE, 100, &again, &frames, &error_of), NABLA_UNSUPPORTED);
    }
    free(rgb);
    free(again);
}

static void mp4_comes_back(void **state) {
    (void)state;
    if (!nv_media_available()) skip();
    check_round_trip("a.mp4", FRAMES, 0, 8.0); /* colour has half the resolution */
    /* the index (moov) lies before the frames (mdat), and the metadata is in it */
    size_t size;
    char *file = read_all(scratch_path("a.mp4"), &size);
    char *index = memmem(file, size, "moov", 4), *frames = memmem(file, size, "mdat", 4);
    assert_true(index && frames && index < frames);
    assert_non_null(memmem(file, size, "a red star", 10));
    assert_non_null(memmem(file, size, "seed 1", 6));
    free(file);
    check_round_trip("b:c %d.MP4", FRAMES, 0, 8.0); /* a name that could be an address or a pattern */
}

static void equal_clips_make_equal_files(void **state) {
    (void)state;
    if (!nv_media_available()) skip();
    static const char *const names[2][2] = {{"c.mp4", "d.mp4"}, {"c.gif", "d.gif"}};
    uint8_t *rgb = make_frames();
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 2; k++)
            write_frames(scratch_path(names[i][k]), rgb, FRAMES);
        assert_same_files(scratch_path(names[i][0]), scratch_path(names[i][1]));
    }
    free(rgb);
}

static void gif_comes_back(void **state) {
    (void)state;
    if (!nv_media_available()) skip();
    check_round_trip("a.gif", FRAMES, 0, 1.0);
    size_t size;
    char *file = read_all(scratch_path("a.gif"), &size);
    assert_non_null(memmem(file, size, "NETSCAPE2.0", 11)); /* endless */
    free(file);
}

static size_t allocated(void) {
    const struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

/* What it holds before the palette is made, however many frames were announced. */
static void gif_holds_its_frames_once(void **state) {
    (void)state;
    if (!nv_media_available()) skip();
    const size_t before = allocated();
    if (before == 0) skip(); /* under AddressSanitizer, whose malloc does not count */
    for (int32_t frames = 15; frames <= 33; frames += 9) {
        nv_media_options options = plain_options();
        nv_media_writer *w;
        options.width = options.height = 8 * SIDE; /* so that the encoder's own state is small beside it */
        options.frames = frames;
        uint8_t *rgb = calloc(64, FRAME);
        assert_ok(nv_media_open(scratch_path("once.gif"), &options, &w, &error_of));
        for (int32_t f = 0; f < frames; f++)
            assert_ok(nv_media_frame(w, rgb, &error_of));
        free(rgb);
        assert_in_range(allocated() - before, 64 * FRAME * (size_t)frames, nv_media_memory("once.gif", &options));
        nv_media_abandon(w);
    }
}

static void png_is_the_middle_frame(void **state) {
    (void)state;
    check_round_trip("a.png", 1, FRAMES / 2, 0.0);
}

static void folder_comes_back_and_is_replaced(void **state) {
    (void)state;
    uint8_t *rgb = make_frames();
    char path[64], name[80];
    check_round_trip("frames", FRAMES, 0, 0.0);
    strcpy(path, scratch_path("frames/"));
    write_frames(path, rgb, 3);
    assert_int_equal(entries(path), 3);
    /* a folder that holds anything else is not touched */
    snprintf(name, sizeof name, "%snotes.txt", path);
    fclose(fopen(name, "w"));
    nv_media_options options = plain_options();
    assert_int_equal(nv_media_check(path, &options, &error_of), NABLA_IO);
    assert_non_null(strstr(error_of.text, "more than frames"));
    remove(name);
    for (int i = 1; i <= 3; i++) {
        snprintf(name, sizeof name, "%sframe-%04d.png", path, i);
        assert_int_equal(remove(name), 0);
    }
    assert_int_equal(rmdir(path), 0);
    free(rgb);
}

/* ------------------------------------------------------------------ refusals */

static void check_refused(const char *path, nv_media_options options, nabla_status status, const char *word) {
    nv_media_writer *w;
    size_t before = scratch_files();
    assert_int_equal(nv_media_check(path, &options, &error_of), status);
    assert_int_equal(nv_media_open(path, &options, &w, &error_of), status);
    assert_null(w);
    if (!strstr(error_of.text, word)) fail_msg("'%s' does not name %s", error_of.text, word);
    assert_int_equal(scratch_files(), before);
}

static void bad_outputs_are_refused(void **state) {
    (void)state;
    nv_media_options o = plain_options(), odd = o, none = o, fast = o, bad = o;
    odd.width = 63, none.height = 0, fast.fps = 0, bad.crf = 52;
    check_refused(scratch_path("x.avi"), o, NABLA_INVALID_ARGUMENT, ".avi");
    check_refused("", o, NABLA_INVALID_ARGUMENT, "empty");
    check_refused(scratch_path("x.png"), none, NABLA_INVALID_ARGUMENT, "64 x 0");
    check_refused(scratch_path("x.png"), fast, NABLA_INVALID_ARGUMENT, "0 frames a second");
    check_refused(scratch_path("x.png"), bad, NABLA_INVALID_ARGUMENT, "52");
    check_refused(scratch_path("nowhere/x.png"), o, NABLA_IO, "nowhere");
    check_refused("/dev/null/x.png", o, NABLA_IO, "/dev/null");
    check_refused("/dev/null", o, NABLA_IO, "/dev/null");
    if (!nv_media_available()) {
        check_refused(scratch_path("x.mp4"), o, NABLA_UNSUPPORTED, "NABLA_FFMPEG");
        check_refused(scratch_path("x.gif"), o, NABLA_UNSUPPORTED, "NABLA_FFMPEG");
        return;
    }
    check_refused(scratch_path("x.mp4"), odd, NABLA_INVALID_ARGUMENT, "63 x 64");
    fast.fps = 100;
    check_refused(scratch_path("x.gif"), fast, NABLA_INVALID_ARGUMENT, "100");
}

static void abandoned_outputs_leave_nothing(void **state) {
    (void)state;
    static const char *const names[] = {"y.png", "y", "y.mp4", "y.gif"};
    uint8_t *rgb = make_frames();
    size_t before = scratch_files();
    for (int i = 0; i < (nv_media_available() ? 4 : 2); i++) {
        nv_media_options options = plain_options();
        nv_media_writer *w;
        for (int with = 0; with < 2; with++) {
            assert_ok(nv_media_open(scratch_path(names[i]), &options, &w, &error_of));
            if (with) assert_ok(nv_media_frame(w, rgb, &error_of));
            nv_media_abandon(w);
            assert_int_equal(scratch_files(), before);
        }
        assert_ok(nv_media_open(scratch_path(names[i]), &options, &w, &error_of));
        assert_int_equal(nv_media_finish(w, &error_of), NABLA_INVALID_ARGUMENT); /* no frame came */
        assert_int_equal(scratch_files(), before);
    }
    nv_media_abandon(NULL);
    free(rgb);
}

/* What is written behind is what is written at once, however many frames wait; its failures are told. */
static void frames_are_written_behind(void **state) {
    (void)state;
    nv_media_options options = plain_options();
    uint8_t *rgb = make_frames(), *room;
    nv_media_behind *b;
    write_frames(scratch_path("atonce"), rgb, FRAMES);
    assert_ok(nv_media_behind_open(scratch_path("behind"), &options, &b, &error_of));
    for (int f = 0; f < FRAMES; f++) {
        assert_ok(nv_media_behind_room(b, &room, &error_of));
        memcpy(room, rgb + f * FRAME, FRAME);
        assert_ok(nv_media_behind_give(b, &error_of));
    }
    assert_ok(nv_media_behind_finish(b, &error_of));
    for (int f = 1; f <= FRAMES; f++) {
        char at_once[32], behind[32];
        snprintf(at_once, sizeof at_once, "atonce/frame-%04d.png", f);
        snprintf(behind, sizeof behind, "behind/frame-%04d.png", f);
        assert_same_files(scratch_path(at_once), scratch_path(behind));
    }
    const size_t before = scratch_files();
    assert_ok(nv_media_behind_open(scratch_path("left"), &options, &b, &error_of));
    assert_ok(nv_media_behind_room(b, &room, &error_of));
    memcpy(room, rgb, FRAME);
    assert_ok(nv_media_behind_give(b, &error_of));
    nv_media_behind_abandon(b);
    assert_int_equal(scratch_files(), before);
    free(rgb);
}

/* A limit on the size of files stands in for a disk that is full. */
static void full_disk_is_an_error(void **state) {
    (void)state;
    static const char *const names[] = {"z.png", "z", "z.mp4", "z.gif"};
    uint8_t *rgb = malloc((size_t)FRAME * FRAMES);
    struct rlimit old, low;
    nv_philox g = nv_philox_at(1, 1);
    for (int i = 0; i < FRAME * FRAMES; i++) {
        rgb[i] = (uint8_t)nv_philox_u32(&g);
    }
    size_t before = scratch_files();
    getrlimit(RLIMIT_FSIZE, &old);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; i < (nv_media_available() ? 4 : 2); i++) {
        nv_media_options options = plain_options();
        nv_media_behind *b;
        assert_ok(nv_media_behind_open(scratch_path(names[i]), &options, &b, &error_of));
        low = old;
        low.rlim_cur = 4096;
        setrlimit(RLIMIT_FSIZE, &low);
        nabla_status status = NABLA_OK;
        for (int f = 0; f < FRAMES && status == NABLA_OK; f++) {
            uint8_t *room;
            status = nv_media_behind_room(b, &room, &error_of);
            if (status != NABLA_OK) break;
            memcpy(room, rgb + f * FRAME, FRAME);
            status = nv_media_behind_give(b, &error_of);
        }
        if (status == NABLA_OK)
            status = nv_media_behind_finish(b, &error_of);
        else
            nv_media_behind_abandon(b);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(status, NABLA_IO);
        assert_int_equal(scratch_files(), before);
    }
    signal(SIGXFSZ, handler);
    free(rgb);
}

/* ------------------------------------------------------------------ reading what others made */

static void other_files_are_refused(void **state) {
    (void)state;
    if (!nv_media_available()) skip();
    uint8_t *rgb = make_frames(), *again;
    int32_t frames;
    size_t size;
    char path[64], part[64];
    assert_int_equal(nv_media_read(scratch_path("missing.mp4"), 8, 8, 9, &again, &frames, &error_of), NABLA_IO);
    assert_non_null(strstr(error_of.text, "missing.mp4"));
    strcpy(path, scratch_path("e.mp4"));
    strcpy(part, scratch_path("part.mp4"));
    write_frames(path, rgb, FRAMES);
    char *file = read_all(path, &size);
    for (size_t n = 0; n < size; n += size / 40 + 1) { /* cut short, or bytes changed: an answer, never a crash */
        FILE *f = fopen(part, "wb");
        if (n % 2 == 0) file[n] = (char)~file[n];
        fwrite(file, 1, n % 2 ? n : size, f);
        fclose(f);
        if (nv_media_read(part, SIDE, SIDE, 100, &again, &frames, &error_of) == NABLA_OK) {
            assert_in_range(frames, 1, FRAMES);
            free(again);
        } else {
            assert_null(again);
        }
    }
    free(file);
    free(rgb);
}

static void frames_are_cropped_to_the_middle(void **state) {
    (void)state;
    if (!nv_media_available()) skip();
    enum { WIDE = 60, HIGH = 20 };
    uint8_t rgb[HIGH * WIDE * 3], *again;
    int32_t frames;
    for (int i = 0; i < HIGH * WIDE; i++) {
        memset(rgb + 3 * i, i % WIDE / 20 == 1 ? 200 : 0, 3);
    }
    const char *path = scratch_path("wide.png");
    assert_ok(nv_png_write(path, rgb, WIDE, HIGH, &error_of));
    assert_ok(nv_media_read(path, 10, 10, 5, &again, &frames, &error_of));
    assert_int_equal(frames, 1);
    for (int i = 0; i < 300; i++) {
        assert_in_range(again[i], 198, 202);
    }
    free(again);
}

/* ------------------------------------------------------------------ PNG */

static void png_sizes_and_contents(void **state) {
    (void)state;
    static const int sizes[][2] = {{1, 1}, {1, 300}, {300, 1}, {7, 5}, {259, 33}};
    nv_philox g = nv_philox_at(9, 0);
    for (int i = 0; i < 15; i++) {
        int width = sizes[i / 3][0], height = sizes[i / 3][1];
        size_t n = (size_t)(width * height * 3);
        uint8_t *rgb = malloc(n), *again = NULL;
        int32_t frames;
        for (size_t k = 0; k < n; k++) { /* flat, striped, noise */
            rgb[k] = i % 3 == 0 ? 77 : i % 3 == 1 ? (uint8_t)(k * 5 % 256) : (uint8_t)nv_philox_u32(&g);
        }
        const char *path = scratch_path("size.png");
        assert_ok(nv_png_write(path, rgb, width, height, &error_of));
        if (nv_media_available()) {
            assert_ok(nv_media_read(path, width, height, 2, &again, &frames, &error_of));
            assert_memory_equal(rgb, again, n);
        }
        free(rgb);
        free(again);
    }
    uint8_t pixel[3] = {0};
    assert_int_equal(nv_png_write(scratch_path("n.png"), pixel, 0, 1, &error_of), NABLA_INVALID_ARGUMENT);
    assert_int_equal(nv_png_write(scratch_path("n.png"), pixel, 1 << 20, 1 << 20, &error_of), NABLA_UNSUPPORTED);
}

/* The Adler sum of a stream's end, and that flat input becomes small and random input hardly larger. */
static void deflate_keeps_its_bound(void **state) {
    (void)state;
    enum { N = 100000 };
    uint8_t *in = malloc(N), *out = malloc(nv_zlib_bound(N));
    memset(in, 5, N);
    assert_true(nv_zlib_pack(in, N, out) < 1000);
    nv_philox g = nv_philox_at(2, 0);
    for (int i = 0; i < N; i++) {
        in[i] = (uint8_t)(144 + nv_philox_below(&g, 112)); /* the literals with the longest codes */
    }
    assert_true(nv_zlib_pack(in, N, out) <= nv_zlib_bound(N));
    static const uint8_t empty[8] = {0x78, 0x01, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01};
    assert_int_equal(nv_zlib_pack(in, 0, out), sizeof empty);
    assert_memory_equal(out, empty, sizeof empty);
    free(in);
    free(out);
}

static void colours_are_rounded(void **state) {
    (void)state;
    const float video[3 * 2] = {-1.0f, 1.0f, 0.0f, NAN, -7.0f, 7.0f}; /* [3, 1, 1, 2] */
    uint8_t rgb[6];
    static const uint8_t expected[6] = {0, 128, 0, 255, 0, 255};
    nv_media_to_rgb(video, 1, 1, 2, 0, rgb);
    assert_memory_equal(rgb, expected, 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mp4_comes_back),
        cmocka_unit_test(equal_clips_make_equal_files),
        cmocka_unit_test(gif_comes_back),
        cmocka_unit_test(gif_holds_its_frames_once),
        cmocka_unit_test(png_is_the_middle_frame),
        cmocka_unit_test(folder_comes_back_and_is_replaced),
        cmocka_unit_test(bad_outputs_are_refused),
        cmocka_unit_test(abandoned_outputs_leave_nothing),
        cmocka_unit_test(frames_are_written_behind),
        cmocka_unit_test(full_disk_is_an_error),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(frames_are_cropped_to_the_middle),
        cmocka_unit_test(png_sizes_and_contents),
        cmocka_unit_test(deflate_keeps_its_bound),
        cmocka_unit_test(colours_are_rounded),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "media/mask_image.h"

/* Bright, dark or in between, from a pixel's red. */
static int red_at(const uint8_t *rgb, int32_t width, int x, int y) {
    return rgb[3 * (y * width + x)];
}

enum { DARK = 24, BRIGHT = 255, GAP = 8 };

static void few_blocks_are_large(void **state) {
    (void)state;
    static const uint8_t kept[2 * 2 * 3] = {1, 0, 0, 0, 0, 1, /* head 1 */ 0, 1, 0, 0, 0, 0};
    nv_mask_picture p = {.kept = kept, .heads = 2, .rows = 2, .columns = 3, .most = 500};
    uint8_t *rgb;
    int32_t width, height;
    assert_int_equal(nv_mask_rgb(&p, &rgb, &width, &height, NULL), NABLA_OK);
    int cell = height / 2;
    assert_true(cell >= 4);
    assert_int_equal(width, 2 * 3 * cell + GAP);
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < 6; i++) {
            int x = h * (3 * cell + GAP) + i % 3 * cell, y = i / 3 * cell, expected = kept[6 * h + i] ? BRIGHT : DARK;
            assert_int_equal(red_at(rgb, width, x, y), expected);
            assert_int_equal(red_at(rgb, width, x + cell - 1, y + cell - 1), expected);
        }
    }
    free(rgb);
}

static void many_blocks_are_averaged(void **state) {
    (void)state;
    enum { N = 1001 };
    uint8_t *kept = malloc(N * N), *rgb;
    for (int i = 0; i < N * N; i++) {
        kept[i] = i % N < N / 2 || (i / N + i % N) % 2; /* all, then half */
    }
    nv_mask_picture p = {.kept = kept, .heads = 1, .rows = N, .columns = N, .most = 300, .row_frames = 7};
    int32_t width, height;
    assert_int_equal(nv_mask_rgb(&p, &rgb, &width, &height, NULL), NABLA_OK);
    assert_true(width <= 300 && height <= 300 && width > 150);
    assert_int_equal(red_at(rgb, width, 10, 20), BRIGHT);
    assert_in_range(red_at(rgb, width, width - 20, 30), 100, 180);
    free(rgb);
    free(kept);
}

static void frames_are_marked(void **state) {
    (void)state;
    uint8_t kept[4 * 4] = {0}, *rgb;
    nv_mask_picture p = {.kept = kept, .heads = 1, .rows = 4, .columns = 4, .row_frames = 2, .most = 100};
    int32_t width, height;
    assert_int_equal(nv_mask_rgb(&p, &rgb, &width, &height, NULL), NABLA_OK);
    int cell = height / 4;
    for (int y = 0; y < height; y++) {
        if (y == 2 * cell)
            assert_int_not_equal(red_at(rgb, width, 1, y), DARK);
        else
            assert_int_equal(red_at(rgb, width, 1, y), DARK);
    }
    free(rgb);
}

static void bad_sizes_are_refused(void **state) {
    (void)state;
    uint8_t kept = 0, *rgb;
    int32_t width, height;
    nv_error err;
    nv_mask_picture p = {.kept = &kept, .heads = 1, .rows = 0, .columns = 1, .most = 100};
    assert_int_equal(nv_mask_rgb(&p, &rgb, &width, &height, &err), NABLA_INVALID_ARGUMENT);
    assert_null(rgb);
    p.rows = 1;
    p.most = 1 << 20;
    assert_int_equal(nv_mask_rgb(&p, &rgb, &width, &height, &err), NABLA_INVALID_ARGUMENT);
    p.most = 100;
    p.heads = (int64_t)1 << 40;
    assert_int_equal(nv_mask_rgb(&p, &rgb, &width, &height, &err), NABLA_UNSUPPORTED);
    assert_non_null(strstr(err.text, "heads"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_blocks_are_large),
        cmocka_unit_test(many_blocks_are_averaged),
        cmocka_unit_test(frames_are_marked),
        cmocka_unit_test(bad_sizes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

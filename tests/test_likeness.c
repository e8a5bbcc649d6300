/* SPDX-License-Identifier: Apache-2.0 */
/* Figures that compare clips, against what their formulas say of clips so plain that one can work them out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "train/likeness.h"

enum { FRAMES = 2, HEIGHT = 24, WIDTH = 32, AREA = HEIGHT * WIDTH, VALUES = 3 * FRAMES * AREA };
static const nv_clip_size size = {FRAMES, HEIGHT, WIDTH};

static void assert_near(double a, double b, double most) {
    if (!(fabs(a - b) <= most)) fail_msg("%.9g is not %.9g", a, b);
}

static float *plain(float level) {
    float *video = malloc(VALUES * sizeof *video);
    for (int i = 0; i < VALUES; i++)
        video[i] = level;
    return video;
}

/* Grey, with a pattern as wide as a window: all windows have the same mean and variance. */
static float *waves(float middle, float contrast) {
    float *video = malloc(VALUES * sizeof *video);
    for (int i = 0; i < VALUES; i++)
        video[i] = middle + contrast * (float)(i % WIDTH % 7 - 3);
    return video;
}

static void equal_clips_are_alike(void **state) {
    (void)state;
    float *a = waves(0.1f, 0.2f);
    assert_true(nv_mean_square(a, a, VALUES) == 0.0);
    assert_true(isinf(nv_psnr(0.0)));
    assert_near(nv_ssim(a, a, &size), 1.0, 1e-12);
    free(a);
}

static void differences_have_their_figures(void **state) {
    (void)state;
    float *a = plain(0.2f), *b = plain(0.4f);
    assert_near(nv_mean_square(a, b, VALUES), 0.04, 1e-7);
    assert_near(nv_psnr(0.04), 20.0, 1e-9); /* values span 2 */
    /* brightness 0.6 and 0.7, no variance */
    assert_near(nv_ssim(a, b, &size), (2 * 0.6 * 0.7 + 1e-4) / (0.36 + 0.49 + 1e-4), 1e-6);
    free(a);
    free(b);
    a = waves(0.0f, 0.1f);
    b = waves(0.0f, 0.3f);
    /* brightness in [0, 1]: means 0.5; seven columns -3 ... 3 of seven rows, steps 0.05: sum of squares 7 * 28 */
    const double va = 0.05 * 0.05 * 196.0 / 48.0, vb = 9.0 * va, both = 3.0 * va;
    assert_near(nv_ssim(a, b, &size), (2 * both + 9e-4) / (va + vb + 9e-4), 1e-6);
    free(a);
    free(b);
    /* one frame wider than a strip of columns, brightness 0.6 against 0.7 where 40 columns are left alone */
    const nv_clip_size wide = {1, 7, 100};
    a = malloc(3 * 7 * 100 * sizeof *a);
    b = malloc(3 * 7 * 100 * sizeof *b);
    for (int i = 0; i < 3 * 7 * 100; i++) {
        a[i] = 0.2f;
        b[i] = i % 100 < 40 ? 0.2f : 0.4f;
    }
    double expected = 34.0; /* windows that see no difference; of the others k columns do */
    for (int k = 1; k <= 60; k++) {
        const double share = k < 7 ? (double)k / 7.0 : 1.0, mb = 0.6 + 0.1 * share;
        const double variance = 0.01 * share * (1.0 - share) * 49.0 / 48.0;
        expected += (2 * 0.6 * mb + 1e-4) * 9e-4 / ((0.36 + mb * mb + 1e-4) * (variance + 9e-4));
    }
    assert_near(nv_ssim(a, b, &wide), expected / 94.0, 1e-6);
    free(a);
    free(b);
    const nv_clip_size small = {1, 6, 40};
    float few[3 * 6 * 40] = {0};
    assert_true(isnan(nv_ssim(few, few, &small)));
}

/* Tiles of 2 x 2 patches of 4 x 8 pixels: steps across their edges alone, then across all patches' edges. */
static void edges_are_told_apart(void **state) {
    (void)state;
    const int32_t patch[2] = {4, 8}, tile[2] = {2, 2}, wide[2] = {8, 8};
    float *a = plain(0.0f);
    nv_edge_energy e = {0};
    nv_edge_energy_add(a, &size, patch, tile, &e);
    /* a frame has columns 8, 16, 24 and rows 4, 8 ... 20; of them 16, and 8 and 16 belong to tiles */
    assert_int_equal(e.tile_count, 3 * FRAMES * (HEIGHT + 2 * WIDTH));
    assert_int_equal(e.patch_count, 3 * FRAMES * (2 * HEIGHT + 3 * WIDTH));
    assert_true(isnan(nv_edge_ratio(&e))); /* no energy at all */
    for (int i = 0; i < VALUES; i++)
        a[i] = 0.5f * (float)(i % WIDTH / 16) + 0.25f * (float)(i % WIDTH / 8);
    e = (nv_edge_energy){0};
    nv_edge_energy_add(a, &size, patch, tile, &e);
    assert_near(e.tile, 3 * FRAMES * HEIGHT * 0.75 * 0.75, 1e-4);
    assert_near(e.patch, 3 * FRAMES * HEIGHT * 2 * 0.25 * 0.25, 1e-4);
    e = (nv_edge_energy){0};
    nv_edge_energy_add(a, &size, patch, wide, &e);
    assert_true(isnan(nv_edge_ratio(&e))); /* one tile: no edge */
    free(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_clips_are_alike),
        cmocka_unit_test(differences_have_their_figures),
        cmocka_unit_test(edges_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

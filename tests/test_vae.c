/* SPDX-License-Identifier: Apache-2.0 */
/* The VAE against diffusers' (make_vae.py): decoding and encoding, both layouts of names, tiles; then against itself:
   a longer clip begins with the shorter, threads and levels, stopping. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "device.h"
#include "vae/vae.h"
#include "weights/config.h"

typedef struct fixture {
    nv_st_file *golden;
    nv_device *device;
    nv_vae *vae;
} fixture;

static fixture open_vae(int original, nabla_dtype compute, int32_t threads, const char *level) {
    const int parts = NV_VAE_DECODER | NV_VAE_ENCODER;
    fixture f = {0};
    nv_vae_config config;
    nv_weights *weights;
    GOOD(nv_st_open(NABLA_TEST_DATA "/vae_golden.safetensors", &f.golden, why));
    GOOD(test_device_create(threads, level, &f.device, why));
    if (original) {
        GOOD(nv_weights_open(NABLA_TEST_DATA "/vae_original/Wan2.1_VAE.pth", &weights, why));
        GOOD(nv_vae_config_from(weights, &config, why));
    } else {
        GOOD(nv_config_read_vae(NABLA_TEST_DATA "/vae/vae/config.json", &config, why));
        GOOD(nv_weights_open(NABLA_TEST_DATA "/vae/vae/diffusion_pytorch_model.safetensors", &weights, why));
    }
    GOOD(nv_vae_create(f.device, &config, compute, parts, weights, &f.vae, why));
    nv_weights_close(weights);
    return f;
}

static void close_vae(fixture *f) {
    nv_vae_destroy(f->vae);
    nv_device_destroy(f->device);
    nv_st_close(f->golden);
}

/* A tensor [C, F, H, W] of the goldens. */
typedef struct tensor {
    float *data;
    size_t count;
    int32_t frames, height, width;
} tensor;

static tensor golden(const fixture *f, const char *name) {
    const nv_st_entry *e = nv_st_find(f->golden, name);
    if (!e || e->rank != 4) fail_msg("no tensor %s", name);
    tensor t = {.count = e->bytes / nv_st_dtype_size(e->dtype)};
    t.frames = (int32_t)e->shape[1];
    t.height = (int32_t)e->shape[2];
    t.width = (int32_t)e->shape[3];
    t.data = malloc(t.count * sizeof *t.data);
    GOOD(nv_st_read_f32(e, t.data, t.count, why));
    return t;
}

/* Frames as they come, put together. */
typedef struct film {
    float *data; /* [3, frames, area] */
    int32_t frames, given, stop_after;
    size_t area;
    int64_t progress;
} film;

static nabla_status collect(void *user, int32_t frame, const float *planes, nv_error *err) {
    film *m = user;
    (void)err;
    assert_int_equal(frame, m->given++);
    for (size_t c = 0; c < 3; c++)
        memcpy(m->data + (c * (size_t)m->frames + (size_t)frame) * m->area, planes + c * m->area,
               m->area * sizeof *planes);
    return NABLA_OK;
}

static int stop(void *user) {
    const film *m = user;
    return m->stop_after && m->given >= m->stop_after;
}

static void progress(void *user, int64_t done, int64_t total) {
    film *m = user;
    assert_int_equal(done, m->progress + 1);
    assert_true(done <= total);
    m->progress = done;
}

static film decode(const fixture *f, const tensor *latent, int32_t frames, int32_t tile) {
    const nv_vae_config *c = nv_vae_get_config(f->vae);
    const size_t factor = (size_t)nv_vae_space_factor(c), plane = (size_t)latent->height * (size_t)latent->width;
    film m = {.frames = nv_vae_frames(c, frames), .area = plane * factor * factor};
    float *part = malloc((size_t)c->z_dim * (size_t)frames * plane * sizeof *part);
    m.data = calloc(3 * (size_t)m.frames * m.area, sizeof *m.data);
    for (int32_t z = 0; z < c->z_dim; z++)
        memcpy(part + (size_t)(z * frames) * plane, latent->data + (size_t)(z * latent->frames) * plane,
               (size_t)frames * plane * sizeof *part);
    const nv_vae_decode_options o = {.frames = frames,
                                     .height = latent->height,
                                     .width = latent->width,
                                     .tile = tile,
                                     .stop = stop,
                                     .progress = progress,
                                     .user = &m};
    GOOD(nv_vae_decode(f->vae, &o, part, collect, why));
    assert_int_equal(m.given, m.frames);
    free(part);
    return m;
}

/* ||a - b|| / ||b|| */
static double distance(const float *a, const float *b, size_t n) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(difference / norm);
}

static void expect_near(const char *what, const float *a, const float *b, size_t n, double limit) {
    const double d = distance(a, b, n);
    print_message("%s: %.2e\n", what, d);
    if (!(d <= limit)) fail_msg("%s is %.3g away, allowed %.3g", what, d, limit);
}

static void check_decode(const fixture *f, const char *model, const char *name, int32_t tile, double limit) {
    char text[64];
    snprintf(text, sizeof text, "%s.latent_%s", model, name);
    tensor latent = golden(f, text);
    snprintf(text, sizeof text, "%s.frames_%s", model, name);
    tensor frames = golden(f, text);
    film m = decode(f, &latent, latent.frames, tile);
    assert_int_equal(m.frames, frames.frames);
    assert_int_equal(3 * (size_t)m.frames * m.area, frames.count);
    expect_near(text, m.data, frames.data, frames.count, limit);
    free(m.data);
    free(latent.data);
    free(frames.data);
}

static void check_encode(const fixture *f, const char *model, const char *name, double limit) {
    char text[64];
    snprintf(text, sizeof text, "%s.video_%s", model, name);
    tensor video = golden(f, text);
    snprintf(text, sizeof text, "%s.encoded_%s", model, name);
    tensor want = golden(f, text);
    float *latent = malloc(want.count * sizeof *latent);
    GOOD(nv_vae_encode(f->vae, video.data, video.frames, video.height, video.width, latent, why));
    expect_near(text, latent, want.data, want.count, limit);
    free(latent);
    free(video.data);
    free(want.data);
}

static void test_diffusers(void **state) {
    (void)state;
    fixture f = open_vae(0, NABLA_FP32, 2, NULL);
    check_decode(&f, "d", "still", 0, 1e-5);
    check_decode(&f, "d", "clip", 0, 1e-5);
    check_decode(&f, "d", "long", 0, 1e-5);
    check_decode(&f, "d", "tiled", 32, 5e-4); /* the golden is fp16 */
    check_encode(&f, "d", "still", 1e-5);
    check_encode(&f, "d", "clip", 1e-5);
    close_vae(&f);
}

static void test_original(void **state) {
    (void)state;
    fixture f = open_vae(1, NABLA_FP32, 2, NULL);
    check_decode(&f, "o", "clip", 0, 1e-5);
    check_encode(&f, "o", "clip", 1e-5);
    close_vae(&f);
}

static void test_bf16(void **state) {
    (void)state;
    fixture f = open_vae(0, NABLA_BF16, 1, NULL);
    check_decode(&f, "d", "clip", 0, 3e-2);
    check_encode(&f, "d", "clip", 3e-2);
    close_vae(&f);
}

static void test_levels(void **state) {
    (void)state;
    fixture f = open_vae(0, NABLA_FP32, 3, test_level(0));
    check_decode(&f, "d", "clip", 0, 1e-5);
    close_vae(&f);
}

/* Frames come as they are decoded: a clip is what a longer one begins with, bit for bit, and the same again. */
static void test_streamed(void **state) {
    (void)state;
    fixture f = open_vae(0, NABLA_FP32, 2, NULL);
    tensor latent = golden(&f, "d.latent_long");
    film all = decode(&f, &latent, 4, 0);
    for (int32_t frames = 1; frames <= 4; frames++) {
        film some = decode(&f, &latent, frames, 0);
        for (size_t c = 0; c < 3; c++)
            assert_memory_equal(some.data + c * (size_t)some.frames * some.area,
                                all.data + c * (size_t)all.frames * all.area,
                                (size_t)some.frames * some.area * sizeof(float));
        free(some.data);
    }
    free(all.data);
    free(latent.data);
    close_vae(&f);
}

/* A tile as large as the frame is no tile; smaller ones come near it but where they meet. */
static void test_tiles(void **state) {
    (void)state;
    fixture f = open_vae(0, NABLA_FP32, 2, NULL);
    tensor latent = golden(&f, "d.latent_tiled");
    film whole = decode(&f, &latent, 2, 0), large = decode(&f, &latent, 2, 64), small = decode(&f, &latent, 2, 16);
    assert_memory_equal(whole.data, large.data, 3 * (size_t)whole.frames * whole.area * sizeof(float));
    assert_true(distance(small.data, whole.data, 3 * (size_t)whole.frames * whole.area) < 1);
    free(whole.data);
    free(large.data);
    free(small.data);
    free(latent.data);
    close_vae(&f);
}

static void test_stopped(void **state) {
    (void)state;
    fixture f = open_vae(0, NABLA_FP32, 1, NULL);
    tensor latent = golden(&f, "d.latent_long");
    nv_error err = {0};
    film m = {.frames = 13, .area = 16 * 8, .stop_after = 5};
    m.data = calloc(3 * 13 * 16 * 8, sizeof *m.data);
    const nv_vae_decode_options o = {.frames = 4, .height = 2, .width = 1, .stop = stop, .user = &m};
    assert_int_equal(nv_vae_decode(f.vae, &o, latent.data, collect, &err), NABLA_CANCELLED);
    assert_int_equal(m.given, 5);
    free(m.data);
    free(latent.data);
    close_vae(&f);
}

static void test_refused(void **state) {
    (void)state;
    fixture f = open_vae(0, NABLA_FP32, 1, NULL);
    const nv_vae_decode_options bad[] = {{.frames = 0, .height = 1, .width = 1},
                                         {.frames = 1, .height = 0, .width = 1},
                                         {.frames = 1, .height = 1, .width = 1 << 30},
                                         {.frames = 1 << 30, .height = 1, .width = 1},
                                         {.frames = 1, .height = 1, .width = 1, .tile = 8},
                                         {.frames = 1, .height = 1, .width = 1, .tile = 33}};
    nv_error err = {0};
    size_t bytes;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(nv_vae_decode_memory(f.vae, &bad[i], &bytes, &err), NABLA_INVALID_ARGUMENT);
    assert_int_equal(nv_vae_encode(f.vae, NULL, 4, 8, 8, NULL, &err), NABLA_INVALID_ARGUMENT);
    assert_int_equal(nv_vae_encode(f.vae, NULL, 5, 12, 8, NULL, &err), NABLA_INVALID_ARGUMENT);
    assert_int_equal(nv_vae_encode(f.vae, NULL, 0, 8, 8, NULL, &err), NABLA_INVALID_ARGUMENT);
    close_vae(&f);
}

/* Weights that are not those of the configuration. */
static void test_wrong_file(void **state) {
    (void)state;
    nv_device *device;
    nv_vae_config config;
    nv_weights *weights;
    nv_vae *vae;
    nv_error err = {0};
    GOOD(test_device_create(0, NULL, &device, why));
    GOOD(nv_config_read_vae(NABLA_TEST_DATA "/vae/vae/config.json", &config, why));
    GOOD(nv_weights_open(NABLA_TEST_DATA "/vae/vae/diffusion_pytorch_model.safetensors", &weights, why));
    nv_vae_config other = config;
    other.decoder_base_dim = 6;
    assert_int_equal(nv_vae_create(device, &other, NABLA_FP32, 1, weights, &vae, &err), NABLA_CORRUPT);
    assert_non_null(strstr(err.text, "decoder.conv_in"));
    other = config;
    other.res_blocks = 3;
    assert_int_equal(nv_vae_create(device, &other, NABLA_FP32, 2, weights, &vae, &err), NABLA_CORRUPT);
    assert_non_null(strstr(err.text, "decoder.up_blocks.0.resnets.3."));
    other = config;
    other.temporal[1] = 0;
    assert_int_equal(nv_vae_create(device, &other, NABLA_FP32, 1, weights, &vae, &err), NABLA_UNSUPPORTED);
    assert_non_null(strstr(err.text, "time_conv"));
    assert_int_equal(nv_vae_config_from(weights, &other, &err), NABLA_UNSUPPORTED); /* 4 channels: no known mean */
    nv_weights_close(weights);
    GOOD(nv_weights_open(NABLA_TEST_DATA "/dit_sta.safetensors", &weights, why));
    assert_int_equal(nv_vae_config_from(weights, &other, &err), NABLA_UNSUPPORTED);
    assert_int_equal(nv_vae_create(device, &config, NABLA_FP32, 1, weights, &vae, &err), NABLA_CORRUPT);
    nv_weights_close(weights);
    nv_device_destroy(device);
}

static nabla_status parse(const char *text, nv_error *err) {
    nv_vae_config config;
    return nv_config_parse_vae(text, strlen(text), "vae", &config, err);
}

#define CONFIG(base, z, mult, blocks, time, mean, std, rest)                                         \
    "{\"base_dim\": " base ", \"z_dim\": " z ", \"dim_mult\": " mult ", \"num_res_blocks\": " blocks \
    ", \"temperal_downsample\": " time ", \"latents_mean\": " mean ", \"latents_std\": " std rest "}"

static void test_config(void **state) {
    (void)state;
    nv_error err = {0};
    assert_int_equal(parse(CONFIG("4", "1", "[1, 2]", "1", "[true]", "[0]", "[1]", ""), &err), NABLA_OK);
    const char *const corrupt[] = {
        CONFIG("0", "1", "[1, 2]", "1", "[true]", "[0]", "[1]", ""),
        CONFIG("1e9", "1", "[1, 2]", "1", "[true]", "[0]", "[1]", ""),
        CONFIG("16384", "1", "[1, 2]", "1", "[true]", "[0]", "[1]", ""),
        CONFIG("4", "100000", "[1, 2]", "1", "[true]", "[0]", "[1]", ""),
        CONFIG("4", "1", "[]", "1", "[]", "[0]", "[1]", ""),
        CONFIG("4", "1", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", "1", "[true]", "[0]", "[1]", ""),
        CONFIG("4", "1", "[1, -2]", "1", "[true]", "[0]", "[1]", ""),
        CONFIG("4", "1", "[1, 2.5]", "1", "[true]", "[0]", "[1]", ""),
        CONFIG("3", "1", "[1, 1]", "1", "[true]", "[0]", "[1]", ""),
        CONFIG("4", "1", "[1, 2]", "1000000", "[true]", "[0]", "[1]", ""),
        CONFIG("4", "1", "[1, 2]", "1", "[]", "[0]", "[1]", ""),
        CONFIG("4", "1", "[1, 2]", "1", "[2]", "[0]", "[1]", ""),
        CONFIG("4", "1", "[1, 2]", "1", "[true]", "[0, 1]", "[1]", ""),
        CONFIG("4", "1", "[1, 2]", "1", "[true]", "[null]", "[1]", ""),
        CONFIG("4", "1", "[1, 2]", "1", "[true]", "[0]", "[0]", ""),
        CONFIG("4", "1", "[1, 2]", "1", "[true]", "[0]", "[1]", ", \"in_channels\": 12"),
        CONFIG("4", "1", "[1, 2]", "1", "[true]", "[0]", "[1]", ", \"scale_factor_spatial\": 8"),
        CONFIG("4", "1", "[1, 2]", "1", "[true]", "[0]", "[1]", ", \"new_key\": 1"),
        "[]",
        "{",
    };
    for (size_t i = 0; i < sizeof corrupt / sizeof *corrupt; i++)
        if (parse(corrupt[i], &err) != NABLA_CORRUPT) fail_msg("taken: %s", corrupt[i]);
    const char *const unsupported[] = {
        CONFIG("4", "1", "[1, 2]", "1", "[true]", "[0]", "[1]", ", \"is_residual\": true"),
        CONFIG("4", "1", "[1, 2]", "1", "[true]", "[0]", "[1]", ", \"patch_size\": 2"),
        CONFIG("4", "1", "[1, 2]", "1", "[true]", "[0]", "[1]", ", \"attn_scales\": [0.5]"),
        "{\"_class_name\": \"AutoencoderKL\"}",
    };
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++)
        if (parse(unsupported[i], &err) != NABLA_UNSUPPORTED) fail_msg("taken: %s", unsupported[i]);
}

/* Some alone: test_vae NAME, in which * and ? stand for anything. */
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diffusers), cmocka_unit_test(test_original), cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_levels),    cmocka_unit_test(test_streamed), cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_stopped),   cmocka_unit_test(test_refused),  cmocka_unit_test(test_wrong_file),
        cmocka_unit_test(test_config),
    };
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One transformer in every layout that people have (make_wan.py), and those that are refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "dit/dit.h"
#include "scratch.h"
#include "tensor/bf16.h"
#include "tiny_wan.h"

static const nv_dit_names golden_names = {NV_DIT_DIFFUSERS, "model."};
static const char golden[] = NABLA_TEST_DATA "/dit_nabla.safetensors";

static const float *values(nv_dit *m) {
    return nv_dit_parameter(m, 0)->value; /* all lie in one run */
}

/* ------------------------------------------------------------------ what loads */

static const struct {
    const char *path;
    nv_dit_layout layout;
    const char *prefix;
    size_t files;
} layouts[] = {
    {NABLA_TEST_DATA "/wan/original.safetensors", NV_DIT_ORIGINAL, "", 1},
    {NABLA_TEST_DATA "/wan/original.pth", NV_DIT_ORIGINAL, "", 1},
    {NABLA_TEST_DATA "/wan/comfy.safetensors", NV_DIT_ORIGINAL, "model.diffusion_model.", 1},
    {NABLA_TEST_DATA "/wan/sharded", NV_DIT_DIFFUSERS, "", 3},
    {NABLA_TEST_DATA "/wan/sharded/diffusion_pytorch_model.safetensors.index.json", NV_DIT_DIFFUSERS, "", 3},
};

static void recognises_layouts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        nv_weights *w;
        nv_dit_names names;
        GOOD(nv_weights_open(layouts[i].path, &w, why));
        GOOD(nv_dit_recognise(w, &names, why));
        assert_int_equal(names.layout, layouts[i].layout);
        assert_string_equal(names.prefix, layouts[i].prefix);
        assert_int_equal(nv_weights_files(w), layouts[i].files);
        nv_weights_close(w);
    }
}

static void fp32_loads_the_same_bits(void **state) {
    (void)state;
    nv_dit *a = tiny_wan_load(golden, &golden_names);
    for (size_t i = 0; i < 2; i++) {
        nv_dit *b = tiny_wan_load(layouts[i].path, NULL);
        assert_memory_equal(values(a), values(b), nv_dit_values(a) * sizeof(float));
        nv_dit_destroy(b);
    }
    nv_dit_destroy(a);
}

static void half_precisions_load_rounded(void **state) {
    (void)state;
    nv_dit *a = tiny_wan_load(golden, &golden_names), *f16 = tiny_wan_load(layouts[2].path, NULL),
           *bf16 = tiny_wan_load(layouts[3].path, NULL);
    for (size_t i = 0; i < nv_dit_values(a); i++) {
        const float x = values(a)[i], half = values(f16)[i];
        assert_true(values(bf16)[i] == nv_bf16_to_float(nv_bf16_from_float(x)));
        assert_true(fabsf(half - x) <= fabsf(x) * 0x1p-11f + 0x1p-25f);
    }
    nv_dit_destroy(a);
    nv_dit_destroy(f16);
    nv_dit_destroy(bf16);
}

static float *read_golden(const char *name, size_t *count) {
    nv_weights *w;
    GOOD(nv_weights_open(golden, &w, why));
    const nv_st_entry *e = nv_weights_find(w, name);
    float *out = malloc(e->bytes);
    *count = e->bytes / sizeof *out;
    GOOD(nv_st_read_f32(e, out, *count, why));
    nv_weights_close(w);
    return out;
}

static float *forward(nv_dit *m) {
    size_t count;
    nv_dit_run *run;
    nabla_policy policy;
    const nv_dit_shape shape = {.batch = 2,
                                .frames = 2,
                                .height = 36,
                                .width = 17,
                                .text_length = 3,
                                .tile = {1, 8, 8},
                                .rope_scale = {1, 1, 1}};
    float *latent = read_golden("latent", &count), *time = read_golden("time", &count);
    float *context = read_golden("context", &count), *expected = read_golden("out", &count);
    float *out = malloc(count * sizeof *out);
    double difference = 0, norm = 0;
    assert_int_equal(nabla_policy_parse(tiny_wan_device->context, "nabla-0.6_sta-1-3-1", &policy), NABLA_OK);
    const nv_dit_inputs in = {.latent = latent, .time = time, .context = context, .policy = &policy};
    GOOD(nv_dit_run_create(m, &shape, &run, why));
    GOOD(nv_dit_forward(m, run, &in, out, why));
    for (size_t i = 0; i < count; i++) {
        difference += ((double)out[i] - expected[i]) * ((double)out[i] - expected[i]);
        norm += (double)expected[i] * expected[i];
    }
    assert_true(sqrt(difference / norm) < 1e-5);
    nv_dit_run_destroy(run);
    free(latent);
    free(time);
    free(context);
    free(expected);
    return out;
}

static void every_fp32_layout_predicts_as_diffusers(void **state) {
    (void)state;
    size_t count;
    free(read_golden("out", &count));
    nv_dit *models[] = {tiny_wan_load(golden, &golden_names), tiny_wan_load(layouts[0].path, NULL),
                        tiny_wan_load(layouts[1].path, NULL)};
    float *first = forward(models[0]);
    for (int i = 0; i < 3; i++) {
        float *out = i ? forward(models[i]) : first;
        assert_memory_equal(out, first, count * sizeof *out);
        if (i) free(out);
        nv_dit_destroy(models[i]);
    }
    free(first);
}

/* ------------------------------------------------------------------ names and sizes */

static void names_translate_both_ways(void **state) {
    (void)state;
    char there[NV_DIT_NAME_SIZE], back[NV_DIT_NAME_SIZE];
    nv_dit *m = tiny_wan_load(golden, &golden_names);
    for (size_t i = 0; i < nv_dit_parameter_count(m); i++) {
        const char *name = nv_dit_parameter(m, i)->name;
        assert_true(nv_dit_translate(NV_DIT_DIFFUSERS, name, NV_DIT_ORIGINAL, there));
        assert_true(nv_dit_translate(NV_DIT_ORIGINAL, there, NV_DIT_DIFFUSERS, back));
        assert_string_equal(back, name);
    }
    nv_dit_destroy(m);
    assert_true(nv_dit_translate(NV_DIT_ORIGINAL, "blocks.39.norm3.bias", NV_DIT_DIFFUSERS, back));
    assert_string_equal(back, "blocks.39.norm2.bias");
    static const char *const none[] = {"",
                                       "modulation",
                                       "blocks.0.head.head.weight",
                                       "blocks.00.norm3.bias",
                                       "blocks..norm3.bias",
                                       "blocks.-1.norm3.bias",
                                       "blocks.12345678.norm3.bias",
                                       "blocks.0.norm2.bias",
                                       "blocks.0.norm3.bias "};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_false(nv_dit_translate(NV_DIT_ORIGINAL, none[i], NV_DIT_DIFFUSERS, back));
}

/* A file of zeros; rank 0 ends the list. */
typedef struct zeros {
    const char *name;
    nv_st_dtype dtype;
    int rank;
    int64_t shape[5];
} zeros;

static const char *write_zeros(const zeros *list) {
    static const char data[1 << 20];
    static char path[512];
    nv_st_entry entries[16];
    size_t count = 0;
    for (; list[count].rank; count++) {
        nv_st_entry *e = &entries[count];
        *e = (nv_st_entry){.name = list[count].name, .dtype = list[count].dtype, .rank = list[count].rank};
        e->bytes = nv_st_dtype_size(e->dtype);
        for (int i = 0; i < e->rank; i++)
            e->bytes *= (size_t)(e->shape[i] = list[count].shape[i]);
        e->data = data;
        assert_true(e->bytes <= sizeof data);
    }
    snprintf(path, sizeof path, "%s", scratch_path("zeros.safetensors"));
    GOOD(nv_st_write(path, entries, count, NULL, 0, why));
    return path;
}

static void shapes_tell_the_sizes(void **state) {
    (void)state;
    static const zeros tensors[] = {{"patch_embedding.weight", NV_ST_BF16, 5, {256, 16, 1, 2, 2}},
                                    {"time_embedding.0.weight", NV_ST_BF16, 2, {256, 64}},
                                    {"text_embedding.0.weight", NV_ST_BF16, 2, {256, 48}},
                                    {"head.head.weight", NV_ST_BF16, 2, {64, 256}},
                                    {"blocks.0.ffn.0.weight", NV_ST_BF16, 2, {320, 256}},
                                    {"blocks.0.norm3.weight", NV_ST_BF16, 1, {256}},
                                    {"blocks.4.norm3.weight", NV_ST_BF16, 1, {256}},
                                    {0}};
    nv_weights *w;
    nv_dit_names names;
    nv_dit_config c;
    GOOD(nv_weights_open(write_zeros(tensors), &w, why));
    GOOD(nv_dit_recognise(w, &names, why));
    GOOD(nv_dit_config_of(w, &names, &c, why));
    const nv_dit_config expected = {.patch = {1, 2, 2},
                                    .in_channels = 16,
                                    .out_channels = 16,
                                    .heads = 2,
                                    .head_dim = 128,
                                    .layers = 5,
                                    .ffn_dim = 320,
                                    .freq_dim = 64,
                                    .text_dim = 48,
                                    .cross_attn_norm = 1,
                                    .rope_max = 1024,
                                    .eps = 1e-6f};
    assert_memory_equal(&c, &expected, sizeof c);
    nv_weights_close(w);

    nv_error err = {0};
    GOOD(nv_weights_open(layouts[0].path, &w, why));
    GOOD(nv_dit_recognise(w, &names, why));
    assert_int_equal(nv_dit_config_of(w, &names, &c, &err), NABLA_UNSUPPORTED); /* heads of 16 */
    assert_non_null(strstr(err.text, "config.json"));
    nv_weights_close(w);
}

/* ------------------------------------------------------------------ what is refused */

#define TIME                                        \
    {                                               \
        "time_embedding.0.weight", NV_ST_BF16, 2, { \
            8, 8                                    \
        }                                           \
    }

static const struct {
    zeros tensors[4];
    nabla_status status;
    const char *word;
} refused[] = {
    {{TIME, {"img_emb.proj.0.bias", NV_ST_BF16, 1, {8}}, {0}}, NABLA_UNSUPPORTED, "image-to-video"},
    {{TIME, {"blocks.0.cross_attn.k_img.bias", NV_ST_BF16, 1, {8}}, {0}}, NABLA_UNSUPPORTED, "image-to-video"},
    {{TIME, {"patch_embedding.weight", NV_ST_BF16, 5, {8, 36, 1, 2, 2}}, {0}}, NABLA_UNSUPPORTED, "image-to-video"},
    {{TIME, {"vace_blocks.0.norm3.bias", NV_ST_BF16, 1, {8}}, {0}}, NABLA_UNSUPPORTED, "VACE"},
    {{TIME, {"patch_embedding.weight", NV_ST_BF16, 5, {8, 48, 1, 2, 2}}, {0}}, NABLA_UNSUPPORTED, "Wan2.2"},
    {{TIME, {"blocks.0.ffn.0.scale_weight", NV_ST_F32, 1, {1}}, {0}}, NABLA_UNSUPPORTED, "fp8"},
    {{TIME, {"blocks.0.ffn.0.weight_scale", NV_ST_F32, 1, {1}}, {0}}, NABLA_UNSUPPORTED, "fp8"},
    {{TIME, {"scaled_fp8", NV_ST_F8_E4M3, 1, {2}}, {0}}, NABLA_UNSUPPORTED, "fp8"},
    {{TIME, {"blocks.0.ffn.0.weight", NV_ST_F8_E5M2, 1, {1}}, {0}}, NABLA_UNSUPPORTED, "F8_E5M2"},
    {{{"double_blocks.0.img_attn.qkv.weight", NV_ST_F32, 1, {1}}, {0}}, NABLA_INVALID_ARGUMENT, "double_blocks.0"},
    {{{"model.diffusion_model.time_embedding.0.weight", NV_ST_BF16, 2, {8, 8}},
      {"something.else", NV_ST_F32, 1, {1}},
      {0}},
     NABLA_INVALID_ARGUMENT,
     "something.else"},
};

static void refuses_other_models_by_name(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        nv_weights *w;
        nv_dit_names names;
        nv_error err = {0};
        GOOD(nv_weights_open(write_zeros(refused[i].tensors), &w, why));
        assert_int_equal(nv_dit_recognise(w, &names, &err), refused[i].status);
        if (!strstr(err.text, refused[i].word)) fail_msg("\"%s\" does not name %s", err.text, refused[i].word);
        nv_weights_close(w);
    }
}

static void names_what_is_missing_and_what_is_too_much(void **state) {
    (void)state;
    static const zeros few[] = {TIME, {"blocks.0.norm3.bias", NV_ST_F32, 1, {32}}, {0}};
    static const zeros extra[] = {
        TIME, {"blocks.1.norm3.bias", NV_ST_F32, 1, {32}}, {"zebra", NV_ST_F32, 1, {32}}, {0}};
    nv_weights *w;
    nv_dit *m;
    nv_error err = {0};
    GOOD(nv_dit_create(tiny_wan_device, &tiny_wan_config, NABLA_FP32, NV_DIT_INFER, &m, why));
    GOOD(nv_weights_open(write_zeros(few), &w, why));
    assert_int_equal(nv_dit_load(m, w, NULL, NULL, NULL, &err), NABLA_CORRUPT);
    assert_non_null(strstr(err.text, "lacks \"patch_embedding.weight\", \"patch_embedding.bias\", "
                                     "\"time_embedding.0.bias\" and 37 more"));
    nv_weights_close(w);
    GOOD(nv_weights_open(write_zeros(extra), &w, why));
    assert_int_equal(nv_dit_load(m, w, NULL, NULL, NULL, &err), NABLA_CORRUPT);
    assert_non_null(strstr(err.text, "\"blocks.1.norm3.bias\", \"zebra\" are no part of this model"));
    nv_weights_close(w);
    nv_dit_destroy(m);
}

static void a_wrong_shape_is_told_with_both(void **state) {
    (void)state;
    nv_weights *w;
    nv_dit *m;
    nv_error err = {0};
    nv_dit_config wider = tiny_wan_config;
    wider.ffn_dim = 48;
    GOOD(nv_dit_create(tiny_wan_device, &wider, NABLA_FP32, NV_DIT_INFER, &m, why));
    GOOD(nv_weights_open(layouts[0].path, &w, why));
    assert_int_equal(nv_dit_load(m, w, NULL, NULL, NULL, &err), NABLA_CORRUPT);
    assert_non_null(strstr(err.text, "\"blocks.0.ffn.0.weight\" has the shape [40, 32], but must have [48, 32]"));
    nv_weights_close(w);
    nv_dit_destroy(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recognises_layouts),
        cmocka_unit_test(fp32_loads_the_same_bits),
        cmocka_unit_test(half_precisions_load_rounded),
        cmocka_unit_test(every_fp32_layout_predicts_as_diffusers),
        cmocka_unit_test(names_translate_both_ways),
        cmocka_unit_test(shapes_tell_the_sizes),
        cmocka_unit_test(refuses_other_models_by_name),
        cmocka_unit_test(names_what_is_missing_and_what_is_too_much),
        cmocka_unit_test(a_wrong_shape_is_told_with_both),
    };
    return cmocka_run_group_tests(tests, tiny_wan_setup, tiny_wan_teardown);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "files.h"
#include "scratch.h"
#include "weights/config.h"

/* As released for Wan2.1 1.3B. */
static const char released[] =
    "{\"_class_name\": \"WanTransformer3DModel\", \"_diffusers_version\": \"0.33.0.dev0\", \"added_kv_proj_dim\": null,"
    "\"attention_head_dim\": 128, \"cross_attn_norm\": true, \"eps\": 1e-06, \"ffn_dim\": 8960, \"freq_dim\": 256,"
    "\"image_dim\": null, \"in_channels\": 16, \"num_attention_heads\": 12, \"num_layers\": 30, \"out_channels\": 16,"
    "\"patch_size\": [1, 2, 2], \"qk_norm\": \"rms_norm_across_heads\", \"rope_max_seq_len\": 1024,"
    "\"text_dim\": 4096}";

/* `text` with the first `from` replaced by `to`. */
static const char *changed(const char *text, const char *from, const char *to) {
    static char out[2048];
    const char *at = strstr(text, from);
    assert_non_null(at);
    snprintf(out, sizeof out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void reads_a_released_config(void **state) {
    (void)state;
    nv_dit_config c;
    nv_error err = {0};
    if (nv_config_parse_dit(released, strlen(released), "c.json", &c, &err) != NABLA_OK) fail_msg("%s", err.text);
    const nv_dit_config expected = {.patch = {1, 2, 2},
                                    .in_channels = 16,
                                    .out_channels = 16,
                                    .heads = 12,
                                    .head_dim = 128,
                                    .layers = 30,
                                    .ffn_dim = 8960,
                                    .freq_dim = 256,
                                    .text_dim = 4096,
                                    .cross_attn_norm = 1,
                                    .rope_max = 1024,
                                    .eps = 1e-6f};
    assert_memory_equal(&c, &expected, sizeof c);
    const char *text = changed(released, "\"out_channels\": 16", "\"out_channels\": null");
    assert_int_equal(nv_config_parse_dit(text, strlen(text), "c.json", &c, NULL), NABLA_OK);
    assert_int_equal(c.out_channels, 16);
}

/* As released for Wan2.1 1.3B by the original code. */
static const char original[] =
    "{\"_class_name\": \"WanModel\", \"_diffusers_version\": \"0.30.0\", \"dim\": 1536, \"eps\": 1e-06,"
    "\"ffn_dim\": 8960, \"freq_dim\": 256, \"in_dim\": 16, \"model_type\": \"t2v\", \"num_heads\": 12,"
    "\"num_layers\": 30, \"out_dim\": 16, \"text_len\": 512}";

static void reads_the_originals_config(void **state) {
    (void)state;
    nv_dit_config a, b;
    nv_error err = {0};
    if (nv_config_parse_dit(original, strlen(original), "c.json", &a, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_int_equal(nv_config_parse_dit(released, strlen(released), "c.json", &b, NULL), NABLA_OK);
    assert_memory_equal(&a, &b, sizeof a);
}

static const struct {
    const char *from, *to;
    nabla_status status;
    const char *message;
} bad_original[] = {
    {"t2v", "i2v", NABLA_UNSUPPORTED, "c.json is of an image-to-video model (\"model_type\" is \"i2v\")"},
    {"t2v", "flf2v", NABLA_UNSUPPORTED, "first-and-last-frame"},
    {"t2v", "vace", NABLA_UNSUPPORTED, "a VACE model"},
    {"t2v", "ti2v", NABLA_UNSUPPORTED, "Wan2.2"},
    {"t2v", "s2v", NABLA_UNSUPPORTED, "another kind of model"},
    {"\"in_dim\": 16", "\"in_dim\": 36", NABLA_UNSUPPORTED, "image-to-video model (36 channels in)"},
    {"\"in_dim\": 16", "\"in_dim\": 48", NABLA_UNSUPPORTED, "Wan2.2 TI2V-5B"},
    {"WanModel", "CausalWanModel", NABLA_UNSUPPORTED, "CausalWanModel"},
    {"\"num_heads\": 12", "\"num_heads\": 11", NABLA_UNSUPPORTED, "\"dim\" 1536 over \"num_heads\" 11"},
    {"\"num_heads\": 12", "\"num_heads\": 1", NABLA_UNSUPPORTED, "heads of 16 to 256"},
    {"\"num_heads\": 12", "\"num_heads\": 0", NABLA_CORRUPT, "\"num_heads\" is 0"},
    {"\"ffn_dim\": 8960,", "", NABLA_CORRUPT, "lacks the key \"ffn_dim\""},
    {"256", "255", NABLA_CORRUPT, "is odd"},
    {"\"eps\"", "\"qk_norm\": false, \"eps\"", NABLA_UNSUPPORTED, "qk_norm"},
    {"\"eps\"", "\"window\": 3, \"eps\"", NABLA_CORRUPT, "the unknown key \"window\""},
};

static void refuses_original_configs_that_do_not_fit(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_original / sizeof *bad_original; i++) {
        nv_dit_config c;
        nv_error err = {0};
        const char *text = changed(original, bad_original[i].from, bad_original[i].to);
        const nabla_status status = nv_config_parse_dit(text, strlen(text), "c.json", &c, &err);
        if (status != bad_original[i].status || !strstr(err.text, bad_original[i].message))
            fail_msg("case %zu: status %d, \"%s\"", i, (int)status, err.text);
    }
}

static const struct {
    const char *from, *to;
    nabla_status status;
    const char *message;
} bad_dit[] = {
    {"{", "", NABLA_CORRUPT, NULL},
    {"\"eps\"", "\"ffn_dim\"", NABLA_CORRUPT, NULL},
    {"WanTransformer3DModel", "WanVACETransformer3DModel", NABLA_UNSUPPORTED,
     "c.json describes a WanVACETransformer3DModel, only a WanTransformer3DModel can be run"},
    {"\"image_dim\": null", "\"image_dim\": 1280", NABLA_UNSUPPORTED,
     "c.json is of an image-to-video model (\"image_dim\" is set): choose a text-to-video one"},
    {"\"added_kv_proj_dim\": null", "\"added_kv_proj_dim\": 5120", NABLA_UNSUPPORTED,
     "c.json is of an image-to-video model (\"added_kv_proj_dim\" is set): choose a text-to-video one"},
    {"\"eps\"", "\"window_size\": 3, \"eps\"", NABLA_CORRUPT,
     "c.json has the unknown key \"window_size\": the model may be of another kind; notes begin with '_'"},
    {"\"ffn_dim\": 8960,", "", NABLA_CORRUPT, "c.json lacks the key \"ffn_dim\""},
    {"8960", "0", NABLA_CORRUPT, "c.json: \"ffn_dim\" is 0, but must lie in 1 to 1048576"},
    {"8960", "-1", NABLA_CORRUPT, "c.json: \"ffn_dim\" is -1, but must lie in 1 to 1048576"},
    {"8960", "4294967297", NABLA_CORRUPT, "c.json: \"ffn_dim\" is 4294967297, but must lie in 1 to 1048576"},
    {"8960", "8960.0", NABLA_CORRUPT, "c.json: \"ffn_dim\" must be a whole number"},
    {"8960", "true", NABLA_CORRUPT, "c.json: \"ffn_dim\" must be a whole number"},
    {"8960", "99999999999999999999", NABLA_CORRUPT, NULL},
    {"128", "8", NABLA_CORRUPT, "c.json: \"attention_head_dim\" is 8, but must lie in 16 to 256"},
    {"128", "100", NABLA_UNSUPPORTED, "c.json: \"attention_head_dim\" is 100, but must be a multiple of 8"},
    {"256", "255", NABLA_CORRUPT, "c.json: \"freq_dim\" is 255, but must be even: half cosines, half sines"},
    {"[1, 2, 2]", "[1, 2]", NABLA_CORRUPT, "c.json: \"patch_size\" has 2 items, but must have 3 to 3"},
    {"[1, 2, 2]", "[1, 0, 2]", NABLA_CORRUPT, "c.json: \"patch_size\" must hold whole numbers in 1 to 64"},
    {"[1, 2, 2]", "2", NABLA_CORRUPT, "c.json: \"patch_size\" must be a list"},
    {"rms_norm_across_heads", "layer_norm", NABLA_UNSUPPORTED,
     "c.json: \"qk_norm\" is \"layer_norm\", only \"rms_norm_across_heads\" can be run"},
    {"\"rms_norm_across_heads\"", "null", NABLA_CORRUPT, "c.json: \"qk_norm\" must be text"},
    {"true", "1", NABLA_CORRUPT, "c.json: \"cross_attn_norm\" must be true or false"},
    {"1e-06", "0", NABLA_CORRUPT, "c.json: \"eps\" is 0, but must lie in 1e-12 to 1"},
    {"1e-06", "\"1e-06\"", NABLA_CORRUPT, "c.json: \"eps\" must be a number"},
};

static void refuses_bad_configs(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_dit / sizeof *bad_dit; i++) {
        nv_dit_config c = {.heads = 77};
        nv_error err = {0};
        const char *text = changed(released, bad_dit[i].from, bad_dit[i].to);
        nabla_status status = nv_config_parse_dit(text, strlen(text), "c.json", &c, &err);
        if (status != bad_dit[i].status) fail_msg("%s: status %d, %s", bad_dit[i].to, (int)status, err.text);
        assert_int_equal(err.status, status);
        if (bad_dit[i].message) assert_string_equal(err.text, bad_dit[i].message);
        assert_int_equal(c.heads, 77); /* untouched */
    }
}

static void configs_come_back(void **state) {
    (void)state;
    nv_dit_config c, back;
    const char *path = scratch_path("config.json");
    size_t size;
    assert_int_equal(nv_config_parse_dit(released, strlen(released), "c.json", &c, NULL), NABLA_OK);
    c.cross_attn_norm = 0;
    c.patch[0] = 3;
    assert_int_equal(nv_config_write_dit(path, &c, NULL), NABLA_OK);
    assert_int_equal(nv_config_read_dit(path, &back, NULL), NABLA_OK);
    assert_memory_equal(&c, &back, sizeof c);
    char *text = read_all(path, &size);
    assert_non_null(strstr(text, "\"eps\": 1e-6,"));
    assert_non_null(strstr(text, "\"image_dim\": null,"));
    free(text);
    remove(path);
    nv_error err;
    assert_int_equal(nv_config_write_dit("no/such/config.json", &c, &err), NABLA_IO);
    assert_string_equal(err.text, "cannot write no/such/config.json: No such file or directory");
    assert_int_equal(nv_config_read_dit("no/such/config.json", &c, &err), NABLA_IO);
}

/* ------------------------------------------------------------------ model_index.json */

static const char clip[] =
    "{\"_class_name\": \"NablaClipPipeline\", \"width\": 192, \"height\": 128, \"frames\": 8, \"fps\": 12,"
    "\"policy\": \"nabla-0.7_sta-3-3-3\", \"prediction\": \"sample\", \"shift\": 3.3, \"guidance\": 4, \"steps\": 20,"
    "\"solver\": \"euler\"}";

static void reads_our_index(void **state) {
    (void)state;
    nv_model_index m, back;
    nv_error err = {0};
    if (nv_config_parse_index(clip, strlen(clip), "i.json", &m, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_string_equal(m.kind, NV_KIND_CLIP);
    assert_int_equal(m.width, 192);
    assert_int_equal(m.height, 128);
    assert_int_equal(m.frames, 8);
    assert_int_equal(m.fps, 12);
    assert_string_equal(m.policy, "nabla-0.7_sta-3-3-3");
    assert_string_equal(m.prediction, "sample");
    assert_true(m.shift == 3.3f && m.guidance == 4.0f);
    assert_int_equal(m.steps, 20);
    assert_string_equal(m.solver, "euler");
    assert_int_equal(m.position_grid, 0);

    const char *path = scratch_path("model_index.json");
    m.position_grid = 24;
    assert_int_equal(nv_config_write_index(path, &m, NULL), NABLA_OK);
    assert_int_equal(nv_config_read_index(path, &back, NULL), NABLA_OK);
    assert_memory_equal(&m, &back, sizeof m);
    size_t size;
    char *text = read_all(path, &size);
    assert_non_null(strstr(text, "\"shift\": 3.3,")); /* not 3.29999995 */
    free(text);
    remove(path);
}

static void of_other_kinds_reads_the_name(void **state) {
    (void)state;
    static const char wan[] = "{\"_class_name\": \"WanPipeline\", \"_diffusers_version\": \"0.33.0.dev0\","
                              "\"scheduler\": [\"diffusers\", \"UniPCMultistepScheduler\"],"
                              "\"transformer\": [\"diffusers\", \"WanTransformer3DModel\"], \"width\": []}";
    nv_model_index m;
    assert_int_equal(nv_config_parse_index(wan, strlen(wan), "i.json", &m, NULL), NABLA_OK);
    assert_string_equal(m.kind, "WanPipeline");
    assert_int_equal(m.width, 0);
}

static const struct {
    const char *from, *to, *message;
} bad_index[] = {
    {"\"_class_name\": \"NablaClipPipeline\",", "", "i.json lacks the key \"_class_name\""},
    {"NablaClipPipeline", "NablaClipPipelineNablaClipPipeline",
     "i.json: \"_class_name\" has 34 bytes, at most 31 are read"},
    {"\"width\"", "\"widht\"",
     "i.json has the unknown key \"widht\": the model may be of another kind; notes begin with '_'"},
    {"192", "0", "i.json: \"width\" is 0, but must lie in 1 to 65536"},
    {"\"sample\"", "\"noise\"", "i.json: \"prediction\" is \"noise\", but must be \"velocity\" or \"sample\""},
    {"3.3", "0", "i.json: \"shift\" is 0, but must lie in 0.01 to 100"},
    {"3.3", "1e999", NULL},
    {"\"euler\"", "5", "i.json: \"solver\" must be text"},
    {"\"steps\": 20", "\"steps\": 2000", "i.json: \"steps\" is 2000, but must lie in 1 to 1000"},
};

static void refuses_bad_indices(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bad_index / sizeof *bad_index; i++) {
        nv_model_index m;
        nv_error err = {0};
        const char *text = changed(clip, bad_index[i].from, bad_index[i].to);
        assert_int_equal(nv_config_parse_index(text, strlen(text), "i.json", &m, &err), NABLA_CORRUPT);
        if (bad_index[i].message) assert_string_equal(err.text, bad_index[i].message);
    }
}

static void numbers_are_written_or_refused(void **state) {
    (void)state;
    nv_model_index m;
    nv_error err;
    nv_config_parse_index(clip, strlen(clip), "i.json", &m, NULL);
    m.shift = NAN;
    assert_int_equal(nv_config_write_index(scratch_path("x"), &m, &err), NABLA_INVALID_ARGUMENT);
    assert_int_equal(scratch_files(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_released_config),
        cmocka_unit_test(reads_the_originals_config),
        cmocka_unit_test(refuses_original_configs_that_do_not_fit),
        cmocka_unit_test(refuses_bad_configs),
        cmocka_unit_test(configs_come_back),
        cmocka_unit_test(reads_our_index),
        cmocka_unit_test(of_other_kinds_reads_the_name),
        cmocka_unit_test(refuses_bad_indices),
        cmocka_unit_test(numbers_are_written_or_refused),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

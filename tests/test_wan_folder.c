/* SPDX-License-Identifier: Apache-2.0 */
/* Folders as downloaded: what is found in them, and the kinds that are refused by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "video/wan_folder.h"
#include "weights/file.h"

static char root[] = "wan-folder-XXXXXX";

/* "a/b" in a fresh folder `name` of the root, with the folders on the way; the folder's path. */
static void put(const char *folder, const char *file, const char *text) {
    char path[512];
    nv_error err = {0};
    snprintf(path, sizeof path, "%s/%s/%s", root, folder, file);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    if (nv_folder_make(path, &err) != NABLA_OK) fail_msg("%s", err.text);
    *slash = '/';
    if (nv_file_write(path, text, strlen(text), &err) != NABLA_OK) fail_msg("%s", err.text);
}

static const char *at(const char *folder) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", root, folder);
    return path;
}

static void ends_with(const char *text, const char *end) {
    if (strlen(text) < strlen(end) || strcmp(text + strlen(text) - strlen(end), end) != 0)
        fail_msg("\"%s\" does not end with \"%s\"", text, end);
}

static nv_wan_folder find(const char *folder) {
    nv_wan_folder f;
    nv_error err = {0};
    if (nv_wan_find(at(folder), &f, &err) != NABLA_OK) fail_msg("%s", err.text);
    return f;
}

static void expect_refusal(const char *folder, nabla_status status, const char *word) {
    nv_wan_folder f;
    nv_error err = {0};
    const nabla_status got = nv_wan_find(at(folder), &f, &err);
    if (got != status || !strstr(err.text, word)) fail_msg("status %d, \"%s\", not %s", (int)got, err.text, word);
}

static void finds_the_parts_of_both_layouts(void **state) {
    (void)state;
    put("Wan-d", "model_index.json", "{\"_class_name\":\"WanPipeline\",\"boundary_ratio\":null}");
    put("Wan-d", "transformer/config.json", "{}");
    put("Wan-d", "tokenizer/spiece.model", "");
    put("Wan-d", "vae/config.json", "{}");
    put("Wan-d", "vae/diffusion_pytorch_model.safetensors", "");
    nv_wan_folder f = find("Wan-d");
    ends_with(f.transformer, "Wan-d/transformer");
    ends_with(f.config, "Wan-d/transformer/config.json");
    ends_with(f.parts.tokenizer, "Wan-d/tokenizer/spiece.model");
    ends_with(f.parts.vae, "Wan-d/vae/diffusion_pytorch_model.safetensors");
    ends_with(f.parts.vae_config, "Wan-d/vae/config.json");
    assert_string_equal(f.parts.text_encoder, "");
    assert_string_equal(f.policy, "");

    put("Wan-NABLA-0.7", "config.json", "{}");
    put("Wan-NABLA-0.7", "models_t5_umt5-xxl-enc-bf16.pth", "");
    put("Wan-NABLA-0.7", "google/umt5-xxl/spiece.model", "");
    f = find("Wan-NABLA-0.7");
    ends_with(f.transformer, "Wan-NABLA-0.7");
    ends_with(f.config, "Wan-NABLA-0.7/config.json");
    ends_with(f.parts.text_encoder, "models_t5_umt5-xxl-enc-bf16.pth");
    ends_with(f.parts.tokenizer, "google/umt5-xxl/spiece.model");
    assert_string_equal(f.parts.vae, "");
    assert_string_equal(f.policy, "nabla-0.7");
    assert_string_equal(f.policy_from, "its name");

    put("Wan-NABLA-0.7", "config.json", "{\"sparse_algo\":\"nabla-0.5_sta-11-5-5\"}");
    f = find("Wan-NABLA-0.7");
    assert_string_equal(f.policy, "nabla-0.5_sta-11-5-5");
    assert_string_equal(f.policy_from, "the transformer's config.json");
}

/* One order for every part, and for all who look. */
static void prefers_safetensors_to_pth(void **state) {
    (void)state;
    static const char *const both[] = {"models_t5_umt5-xxl-enc-bf16.pth", "models_t5_umt5-xxl-enc-bf16.safetensors",
                                       "Wan2.1_VAE.pth", "Wan2.1_VAE.safetensors"};
    nv_wan_parts parts;
    for (size_t i = 0; i < 4; i++)
        put("both", both[i], "");
    nv_wan_find_parts(at("both"), &parts);
    ends_with(parts.text_encoder, both[1]);
    ends_with(parts.vae, both[3]);
    assert_string_equal(parts.text_config, "");
    put("comfy", "wan_2.1_vae.safetensors", "");
    nv_wan_find_parts(at("comfy"), &parts);
    ends_with(parts.vae, "wan_2.1_vae.safetensors");
}

static void finds_a_file(void **state) {
    (void)state;
    put("files", "wan_t2v-nabla-0.4.safetensors", "");
    put("files", "diffusion_pytorch_model.safetensors", "");
    put("files", "config.json", "{}");
    nv_wan_folder f = find("files/wan_t2v-nabla-0.4.safetensors");
    assert_string_equal(f.config, "");
    assert_string_equal(f.policy, "nabla-0.4");
    f = find("files/diffusion_pytorch_model.safetensors");
    ends_with(f.config, "files/config.json");
}

static void refuses_other_kinds_by_name(void **state) {
    (void)state;
    static const struct {
        const char *index, *word;
    } indexes[] = {
        {"{\"_class_name\":\"WanImageToVideoPipeline\"}", "image-to-video"},
        {"{\"_class_name\":\"WanVACEPipeline\"}", "VACE"},
        {"{\"_class_name\":\"WanPipeline\",\"boundary_ratio\":0.875}", "Wan2.2"},
        {"{\"_class_name\":\"WanPipeline\",\"transformer_2\":[\"diffusers\",\"WanTransformer3DModel\"]}", "Wan2.2"},
        {"{\"_class_name\":\"WanPipeline\",\"expand_timesteps\":true}", "TI2V-5B"},
        {"{\"_class_name\":\"NablaClipPipeline\"}", "nabla train"},
        {"{\"_class_name\":\"HunyuanVideoPipeline\"}", "HunyuanVideoPipeline"},
    };
    for (size_t i = 0; i < sizeof indexes / sizeof *indexes; i++) {
        put("other", "model_index.json", indexes[i].index);
        expect_refusal("other", NABLA_UNSUPPORTED, indexes[i].word);
    }
    put("other", "model_index.json", "{}");
    expect_refusal("other", NABLA_CORRUPT, "_class_name");
    put("other", "model_index.json", "{\"_class_name\":\"WanPipeline\"}");
    expect_refusal("other", NABLA_IO, "no folder transformer");
    put("two", "high_noise_model/config.json", "{}");
    expect_refusal("two", NABLA_UNSUPPORTED, "Wan2.2");
    put("two", "wan2.2_t2v_low_noise_14B.safetensors", "");
    expect_refusal("two/wan2.2_t2v_low_noise_14B.safetensors", NABLA_UNSUPPORTED, "Wan2.2");
    expect_refusal("nothing", NABLA_IO, "does not exist");
    put("bad", "config.json", "{");
    expect_refusal("bad", NABLA_CORRUPT, "config.json");
    put("bad", "config.json", "{\"sparse_algo\":3}");
    expect_refusal("bad", NABLA_CORRUPT, "sparse_algo");
}

static void names_tell_policies(void **state) {
    (void)state;
    static const struct {
        const char *name, *policy; /* NULL: none */
    } names[] = {
        {"Wan2.1-T2V-14B-NABLA-0.7", "nabla-0.7"},
        {"Wan2.1-T2V-14B-NABLA-0.6-STA-11-3-3", "nabla-0.6_sta-11-3-3"},
        {"wan_nabla-0.5_sta-11-5-5-diffusers", "nabla-0.5_sta-11-5-5"},
        {"x-nabla-0.4.safetensors", "nabla-0.4"},
        {"x-nabla-1", "nabla-1"},
        {"x-nabla-2", NULL},
        {"x-nabla-0.0", NULL},
        {"x-nabla-", NULL},
        {"x-nabla-0.6-sta-11-3", NULL},
        {"Wan2.1-T2V-14B", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char policy[96] = "";
        const int found = nv_wan_policy_of_name(names[i].name, policy, sizeof policy);
        assert_int_equal(found, names[i].policy != NULL);
        if (found) assert_string_equal(policy, names[i].policy);
    }
}

static int make_root(void **state) {
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state) {
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_parts_of_both_layouts),
        cmocka_unit_test(prefers_safetensors_to_pth),
        cmocka_unit_test(finds_a_file),
        cmocka_unit_test(refuses_other_kinds_by_name),
        cmocka_unit_test(names_tell_policies),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}

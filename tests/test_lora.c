/* SPDX-License-Identifier: Apache-2.0 */
/* LoRA files under the names people have, against what torch makes of them (make_lora.py); and those that do not fit.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "dit/lora.h"
#include "scratch.h"
#include "tiny_wan.h"

static const char original[] = NABLA_TEST_DATA "/wan/original.safetensors";

static nabla_status merge(nv_dit *m, const char *path, float strength, nv_error *err) {
    nv_weights *w;
    GOOD(nv_weights_open(path, &w, why));
    const nabla_status status = nv_dit_merge_lora(m, w, strength, err);
    nv_weights_close(w);
    return status;
}

static float *copy_of(nv_dit *m) {
    const size_t bytes = nv_dit_values(m) * sizeof(float);
    return memcpy(malloc(bytes), nv_dit_parameter(m, 0)->value, bytes);
}

static void several_files_merge_as_in_torch(void **state) {
    (void)state;
    nv_weights *expected;
    nv_dit *m = tiny_wan_load(original, NULL), *plain = tiny_wan_load(original, NULL);
    size_t changed = 0;
    GOOD(merge(m, NABLA_TEST_DATA "/wan/lora_diffusers.safetensors", 0.5f, why));
    GOOD(merge(m, NABLA_TEST_DATA "/wan/lora_comfy.safetensors", -1.25f, why));
    GOOD(merge(m, NABLA_TEST_DATA "/wan/lora_kohya.safetensors", 2.0f, why));
    GOOD(nv_weights_open(NABLA_TEST_DATA "/wan/lora_merged.safetensors", &expected, why));
    for (size_t i = 0; i < nv_dit_parameter_count(m); i++) {
        const nv_parameter *p = nv_dit_parameter(m, i);
        const nv_st_entry *e = nv_weights_find(expected, p->name);
        float *want = malloc(p->count * sizeof *want);
        if (e)
            GOOD(nv_st_read_f32(e, want, p->count, why));
        else
            memcpy(want, nv_dit_parameter(plain, i)->value, p->count * sizeof *want);
        for (size_t j = 0; j < p->count; j++)
            if (!(fabsf(p->value[j] - want[j]) <= (e ? 1e-5f * (1 + fabsf(want[j])) : 0.0f)))
                fail_msg("%s[%zu] is %g, not %g", p->name, j, (double)p->value[j], (double)want[j]);
        changed += e != NULL;
        free(want);
    }
    assert_int_equal(changed, nv_weights_count(expected));
    nv_weights_close(expected);
    nv_dit_destroy(m);
    nv_dit_destroy(plain);
}

static void a_strength_of_zero_changes_nothing(void **state) {
    (void)state;
    nv_dit *m = tiny_wan_load(original, NULL);
    float *before = copy_of(m);
    GOOD(merge(m, NABLA_TEST_DATA "/wan/lora_comfy.safetensors", 0.0f, why));
    for (size_t i = 0; i < nv_dit_values(m); i++)
        assert_true(nv_dit_parameter(m, 0)->value[i] == before[i]);
    free(before);
    nv_dit_destroy(m);
}

/* A model in bf16 that is not trained holds a matrix once: changed, it is that of fp32 but for two roundings. */
static void weights_without_masters_merge_too(void **state) {
    (void)state;
    static const char lora[] = NABLA_TEST_DATA "/wan/lora_diffusers.safetensors";
    nv_weights *file;
    nv_dit *exact = tiny_wan_load(original, NULL), *m;
    size_t rounded = 0;
    GOOD(nv_weights_open(original, &file, why));
    GOOD(nv_dit_create(tiny_wan_device, &tiny_wan_config, NABLA_BF16, 0, &m, why));
    GOOD(nv_dit_load(m, file, NULL, why));
    GOOD(merge(m, lora, 0.5f, why));
    GOOD(merge(exact, lora, 0.5f, why));
    for (size_t i = 0; i < nv_dit_parameter_count(m); i++) {
        const nv_parameter *p = nv_dit_parameter(m, i);
        float *have = malloc(p->count * sizeof *have), *want = malloc(p->count * sizeof *want);
        nv_dit_read(m, p, 0, have, p->count);
        nv_dit_read(exact, nv_dit_parameter(exact, i), 0, want, p->count);
        assert_int_equal(p->value == NULL, p->copy != NULL);
        rounded += p->copy != NULL;
        for (size_t j = 0; j < p->count; j++)
            if (!(fabsf(have[j] - want[j]) <= (p->copy ? 0.008f * (0.5f + fabsf(want[j])) : 1e-6f)))
                fail_msg("%s[%zu] is %g, not %g", p->name, j, (double)have[j], (double)want[j]);
        free(have);
        free(want);
    }
    assert_true(rounded > 5);
    nv_weights_close(file);
    nv_dit_destroy(m);
    nv_dit_destroy(exact);
}

#define Q "diffusion_model.blocks.0.self_attn.q"

typedef struct piece {
    const char *name;
    int rank;
    int64_t shape[3];
} piece;

static const struct {
    piece pieces[4];
    const char *message;
} refused[] = {
    {{{Q ".lora_up.weight", 2, {32, 4}}, {Q ".lora_down.weight", 2, {4, 32}}, {Q ".dora_scale", 1, {32}}},
     "\"" Q ".dora_scale\" match nothing"},
    {{{"diffusion_model.blocks.1.self_attn.q.diff_b", 1, {32}}},
     "\"diffusion_model.blocks.1.self_attn.q.diff_b\" match"},
    {{{"diffusion_model.blocks.0.self_attn.norm_q.diff_b", 1, {32}}}, "norm_q.diff_b\" match nothing"},
    {{{"lora_unet_blocks_0_self_attn.diff", 1, {32}}}, "match nothing"},
    {{{"lora_unet_.diff", 1, {32}}, {".diff", 1, {32}}, {"diff", 1, {32}}, {"x", 1, {1}}}, "and 1 more match nothing"},
    {{{Q ".lora_up.weight", 2, {32, 4}}}, "has no other half"},
    {{{Q ".lora_down.weight", 2, {4, 32}}}, "has no other half"},
    {{{Q ".alpha", 1, {1}}}, "has no other half"},
    {{{Q ".lora_up.weight", 2, {32, 4}}, {Q ".lora_down.weight", 2, {3, 32}}}, "do not make a 32 x 32 matrix"},
    {{{Q ".lora_up.weight", 2, {31, 4}}, {Q ".lora_down.weight", 2, {4, 32}}}, "do not make a 32 x 32 matrix"},
    {{{Q ".lora_up.weight", 2, {32, 4}}, {Q ".lora_down.weight", 2, {4, 33}}}, "do not make a 32 x 32 matrix"},
    {{{Q ".lora_up.weight", 2, {32, 0}}, {Q ".lora_down.weight", 2, {0, 32}}}, "do not make a 32 x 32 matrix"},
    {{{Q ".lora_up.weight", 1, {128}}, {Q ".lora_down.weight", 1, {128}}}, "do not make a 32 x 32 matrix"},
    {{{Q ".lora_up.weight", 2, {32, 4}}, {Q ".lora_down.weight", 2, {4, 32}}, {Q ".alpha", 1, {2}}},
     "is no single number"},
    {{{Q ".diff", 1, {32}}}, "has 32 numbers, its weight 1024"},
    {{{Q ".diff_b", 1, {31}}}, "has not as many numbers as its bias"},
    {{{Q ".lora_up.weight", 2, {32, 4}}, {Q ".lora_B.weight", 2, {32, 4}}, {Q ".lora_down.weight", 2, {4, 32}}},
     "changes blocks.0.attn1.to_q.weight twice"},
};

static void what_does_not_fit_changes_nothing(void **state) {
    (void)state;
    static const float zeros[4096];
    nv_dit *m = tiny_wan_load(original, NULL);
    float *before = copy_of(m);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        nv_st_entry entries[4];
        nv_error err = {0};
        size_t count = 0;
        for (; count < 4 && refused[i].pieces[count].rank; count++) {
            const piece *p = &refused[i].pieces[count];
            nv_st_entry *e = &entries[count];
            *e = (nv_st_entry){.name = p->name, .dtype = NV_ST_F32, .rank = p->rank, .bytes = 4, .data = zeros};
            for (int j = 0; j < p->rank; j++)
                e->bytes *= (size_t)(e->shape[j] = p->shape[j]);
        }
        GOOD(nv_st_write(scratch_path("x.safetensors"), entries, count, NULL, 0, why));
        assert_int_equal(merge(m, scratch_path("x.safetensors"), 1.0f, &err), NABLA_CORRUPT);
        if (!strstr(err.text, refused[i].message)) fail_msg("case %zu: %s", i, err.text);
    }
    assert_memory_equal(nv_dit_parameter(m, 0)->value, before, nv_dit_values(m) * sizeof(float));
    free(before);
    nv_dit_destroy(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_files_merge_as_in_torch),
        cmocka_unit_test(weights_without_masters_merge_too),
        cmocka_unit_test(a_strength_of_zero_changes_nothing),
        cmocka_unit_test(what_does_not_fit_changes_nothing),
    };
    return cmocka_run_group_tests(tests, tiny_wan_setup, tiny_wan_teardown);
}

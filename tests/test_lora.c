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
#include "tensor/bf16.h"
#include "tiny_wan.h"

static const char original[] = NABLA_TEST_DATA "/wan/original.safetensors";

static nabla_status merge(nv_dit *m, const char *path, float strength, nv_error *err) {
    nv_weights *w;
    GOOD(nv_weights_open(path, &w, why));
    const nv_dit_lora lora = {w, strength};
    const nabla_status status = nv_dit_merge_loras(m, &lora, 1, err);
    nv_weights_close(w);
    return status;
}

static float *copy_of(nv_dit *m) {
    const size_t bytes = nv_dit_values(m) * sizeof(float);
    return memcpy(malloc(bytes), nv_dit_parameter(m, 0)->value, bytes);
}

/* The three files at once, at the strengths of make_lora.py. */
static void merge_three(nv_dit *m) {
    static const char *const files[] = {"diffusers", "comfy", "kohya"};
    nv_dit_lora loras[] = {{NULL, 0.5f}, {NULL, -1.25f}, {NULL, 2.0f}};
    nv_weights *open[3];
    for (int i = 0; i < 3; i++) {
        char path[256];
        snprintf(path, sizeof path, NABLA_TEST_DATA "/wan/lora_%s.safetensors", files[i]);
        GOOD(nv_weights_open(path, &open[i], why));
        loras[i].file = open[i];
    }
    GOOD(nv_dit_merge_loras(m, loras, 3, why));
    for (int i = 0; i < 3; i++)
        nv_weights_close(open[i]);
}

/* What parameter i must be: of the merged file, else of the model that nothing was merged into. */
static float *expected_values(nv_dit *plain, const nv_weights *merged, size_t i, int *changed) {
    const nv_parameter *p = nv_dit_parameter(plain, i);
    const nv_st_entry *e = nv_weights_find(merged, p->name);
    float *want = malloc(p->count * sizeof *want);
    *changed = e != NULL;
    if (e)
        GOOD(nv_st_read_f32(e, want, p->count, why));
    else
        memcpy(want, p->value, p->count * sizeof *want);
    return want;
}

static void several_files_merge_as_in_torch(void **state) {
    (void)state;
    nv_weights *merged;
    nv_dit *m = tiny_wan_load(original, NULL), *plain = tiny_wan_load(original, NULL);
    size_t changes = 0;
    merge_three(m);
    GOOD(nv_weights_open(NABLA_TEST_DATA "/wan/lora_merged.safetensors", &merged, why));
    for (size_t i = 0; i < nv_dit_parameter_count(m); i++) {
        int changed;
        const nv_parameter *p = nv_dit_parameter(m, i);
        float *want = expected_values(plain, merged, i, &changed);
        for (size_t j = 0; j < p->count; j++)
            if (!(fabsf(p->value[j] - want[j]) <= (changed ? 1e-5f * (1 + fabsf(want[j])) : 0.0f)))
                fail_msg("%s[%zu] is %g, not %g", p->name, j, (double)p->value[j], (double)want[j]);
        changes += (size_t)changed;
        free(want);
    }
    assert_int_equal(changes, nv_weights_count(merged));
    nv_weights_close(merged);
    nv_dit_destroy(m);
    nv_dit_destroy(plain);
}

/* Without masters too, where a weight is rounded when it is loaded and once more after all files. */
static void bf16_weights_merge_too(void **state) {
    (void)state;
    nv_weights *merged, *w;
    nv_dit *m, *plain = tiny_wan_load(original, NULL);
    size_t narrow = 0;
    GOOD(nv_dit_create(tiny_wan_device, &tiny_wan_config, NABLA_BF16, NV_DIT_INFER, &m, why));
    GOOD(nv_weights_open(original, &w, why));
    GOOD(nv_dit_load(m, w, NULL, NULL, NULL, why));
    nv_weights_close(w);
    merge_three(m);
    GOOD(nv_weights_open(NABLA_TEST_DATA "/wan/lora_merged.safetensors", &merged, why));
    for (size_t i = 0; i < nv_dit_parameter_count(m); i++) {
        int changed;
        const nv_parameter *p = nv_dit_parameter(m, i);
        float *want = expected_values(plain, merged, i, &changed);
        const nv_bf16 *copy = p->copy;
        assert_true((p->value == NULL) == p->rounded);
        for (size_t j = 0; j < p->count; j++) {
            const float before = nv_dit_parameter(plain, i)->value[j],
                        got = p->value ? p->value[j] : nv_bf16_to_float(copy[j]);
            const float room = p->value ? 1e-5f : 0x1p-8f;
            if (!(fabsf(got - want[j]) <= room * (fabsf(want[j]) + fabsf(before)) + 1e-6f))
                fail_msg("%s[%zu] is %g, not %g", p->name, j, (double)got, (double)want[j]);
        }
        narrow += p->value == NULL;
        free(want);
    }
    assert_int_equal(narrow, 13);
    nv_weights_close(merged);
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
    /* products that wrap to the number of elements, none */
    {{{Q ".lora_B.weight", 2, {32, 0}}, {Q ".lora_A.weight", 2, {INT64_C(1) << 60, 0}}},
     "do not make a 32 x 32 matrix"},
    {{{Q ".lora_up.weight", 1, {128}}, {Q ".lora_down.weight", 1, {128}}}, "do not make a 32 x 32 matrix"},
    {{{Q ".lora_up.weight", 2, {32, 4}}, {Q ".lora_down.weight", 2, {4, 32}}, {Q ".alpha", 1, {2}}},
     "is no single number"},
    {{{Q ".diff", 1, {32}}}, "has 32 numbers, its weight 1024"},
    {{{Q ".diff_b", 1, {31}}}, "has not as many numbers as its bias"},
    {{{Q ".lora_up.weight", 2, {32, 4}}, {Q ".lora_B.weight", 2, {32, 4}}, {Q ".lora_down.weight", 2, {4, 32}}},
     "changes blocks.0.attn1.to_q.weight twice"},
};

static void expect_refused(nv_dit *m, const piece *pieces, nv_st_dtype dtype, const char *message) {
    static const float zeros[4096];
    nv_st_entry entries[4];
    nv_error err = {0};
    size_t count = 0;
    for (; count < 4 && pieces[count].rank; count++) {
        const piece *p = &pieces[count];
        nv_st_entry *e = &entries[count];
        *e = (nv_st_entry){.name = p->name, .dtype = dtype, .rank = p->rank, .data = zeros};
        e->bytes = nv_st_dtype_size(dtype);
        for (int j = 0; j < p->rank; j++)
            e->bytes *= (size_t)(e->shape[j] = p->shape[j]);
    }
    GOOD(nv_st_write(scratch_path("x.safetensors"), entries, count, NULL, 0, why));
    assert_int_equal(merge(m, scratch_path("x.safetensors"), 1.0f, &err), NABLA_CORRUPT);
    if (!strstr(err.text, message)) fail_msg("not \"%s\": %s", message, err.text);
}

static void what_does_not_fit_changes_nothing(void **state) {
    (void)state;
    static const piece fits[4] = {{Q ".lora_up.weight", 2, {32, 4}}, {Q ".lora_down.weight", 2, {4, 32}}};
    static const piece diff[4] = {{Q ".diff", 2, {32, 32}}};
    nv_dit *m = tiny_wan_load(original, NULL);
    float *before = copy_of(m);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        expect_refused(m, refused[i].pieces, NV_ST_F32, refused[i].message);
    expect_refused(m, fits, NV_ST_I64, "x.safetensors: \"" Q ".lora_up.weight\" is of I64");
    expect_refused(m, diff, NV_ST_I64, "x.safetensors: \"" Q ".diff\" is of I64");
    assert_memory_equal(nv_dit_parameter(m, 0)->value, before, nv_dit_values(m) * sizeof(float));
    free(before);
    nv_dit_destroy(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_files_merge_as_in_torch),
        cmocka_unit_test(bf16_weights_merge_too),
        cmocka_unit_test(a_strength_of_zero_changes_nothing),
        cmocka_unit_test(what_does_not_fit_changes_nothing),
    };
    return cmocka_run_group_tests(tests, tiny_wan_setup, tiny_wan_teardown);
}

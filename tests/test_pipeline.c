/* SPDX-License-Identifier: Apache-2.0 */
/* A Wan2.1 model's run from outside: stopped in each of its phases, taken up again, announced before it begins. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "device.h"
#include "files.h"
#include "nabla/video.h"
#include "scratch.h"
#include "weights/safetensors.h"

typedef struct watcher {
    const char *phase; /* to stop in, once `done` is reached for the `calls`th time */
    int64_t done;
    int calls, seen;
    char phases[128]; /* as they came, each once */
} watcher;

static int watch(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    watcher *w = user;
    assert_true(done >= 0 && done <= total && note != NULL);
    if (!strstr(w->phases, phase)) {
        strcat(w->phases, phase);
        strcat(w->phases, " ");
    }
    return w->phase && strcmp(phase, w->phase) == 0 && done == w->done && ++w->seen >= w->calls;
}

static nabla_generate_options options(const char *output) {
    nabla_generate_options o = nabla_generate_options_default();
    o.model = NABLA_TEST_DATA "/pipeline/original";
    o.prompt = "a cat";
    o.width = 144; /* nine tokens by two, in tiles of eight */
    o.height = 32;
    o.frames = 9;
    o.steps = 4;
    o.policy = "nabla-0.5";
    o.seed = 3;
    o.output = output;
    return o;
}

static nabla_video_machine machine_of(watcher *w) {
    nabla_video_machine m = nabla_video_machine_default();
    m.threads = 2;
    m.device = test_on_gpu() ? NABLA_CUDA : NABLA_CPU;
    m.progress = watch;
    m.user = w;
    return m;
}

static nabla_status generate(const nabla_generate_options *o, watcher *w, nabla_generate_result *result,
                             nabla_video_error *err) {
    const nabla_video_machine m = machine_of(w);
    *result = (nabla_generate_result){.size = sizeof *result};
    return nabla_generate(o, &m, result, err);
}

static void succeed(const nabla_generate_options *o, nabla_generate_result *result) {
    watcher w = {0};
    nabla_video_error err = {0};
    if (generate(o, &w, result, &err) != NABLA_OK) fail_msg("%s", err.text);
}

static char *copy_path(const char *name) {
    return strdup(scratch_path(name));
}

static void goes_phase_by_phase(void **state) {
    (void)state;
    char *output = copy_path("whole.safetensors");
    const nabla_generate_options o = options(output);
    nabla_generate_result result;
    watcher w = {0};
    nabla_video_error err = {0};
    if (generate(&o, &w, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_string_equal(w.phases, "text load sample decode ");
    assert_string_equal(result.policy_from, "asked for");
    assert_string_equal(result.kept_state, "");
    assert_string_equal(result.kept_latent, "");
    assert_true(result.text_memory > 0 && result.sample_memory > 0 && result.decode_memory > 0);
    assert_true(result.sparsity > 0 && result.sparsity < 1);
    assert_int_equal(scratch_files(), 1); /* neither latent nor state */
    remove(output);
    free(output);
}

/* Before a step is done there is nothing to keep. */
static void stopped_early_leaves_nothing(void **state) {
    (void)state;
    static const watcher stops[] = {{.phase = "text", .done = 1, .calls = 1},
                                    {.phase = "load", .done = 20, .calls = 1},
                                    {.phase = "sample", .done = 0, .calls = 2}};
    char *output = copy_path("none.safetensors");
    const nabla_generate_options o = options(output);
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        watcher w = stops[i];
        nabla_generate_result result;
        nabla_video_error err = {0};
        assert_int_equal(generate(&o, &w, &result, &err), NABLA_CANCELLED);
        assert_string_equal(result.kept_state, "");
        assert_string_equal(result.kept_latent, "");
        assert_int_equal(scratch_files(), 0);
    }
    free(output);
}

/* Between two steps, and in the midst of one: what is left goes on to the same bits, for every solver. */
static void stopped_while_sampling(void **state) {
    (void)state;
    static const char *const solvers[] = {"unipc", "dpm++", "euler"};
    char *output = copy_path("run.safetensors"), *alone = copy_path("alone.safetensors");
    for (int i = 0; i < 3; i++)
        for (int calls = 1; calls <= 2; calls++) {
            nabla_generate_options o = options(alone);
            nabla_generate_result result;
            nabla_video_error err = {0};
            watcher w = {.phase = "sample", .done = 2, .calls = calls};
            o.solver = solvers[i];
            succeed(&o, &result);
            o.output = output;
            assert_int_equal(generate(&o, &w, &result, &err), NABLA_CANCELLED);
            assert_non_null(strstr(err.text, "stopped after step 2 of 4; resume goes on from "));
            assert_non_null(strstr(result.kept_state, "run.state.safetensors"));
            assert_int_not_equal(access(output, F_OK), 0);
            char *kept = strdup(result.kept_state);
            nabla_video_error again = {0};
            watcher nobody = {0};
            assert_int_equal(generate(&o, &nobody, &result, &again), NABLA_INVALID_ARGUMENT); /* not overwritten */
            assert_non_null(strstr(again.text, "keeps a run that stopped after step 2 of 4"));
            o.resume = kept;
            o.prompt = NULL;
            succeed(&o, &result);
            assert_int_equal(result.resumed_steps, 2);
            assert_same_files(alone, output);
            remove(kept);
            remove(output);
            free(kept);
        }
    remove(alone);
    free(output);
    free(alone);
}

/* A state that nobody asked for tells its weights apart too. */
static void other_weights_do_not_go_on(void **state) {
    (void)state;
    const nabla_lora lora = {NABLA_TEST_DATA "/wan/lora_diffusers.safetensors", 0.5f};
    char *output = copy_path("own.safetensors");
    nabla_generate_options o = options(output);
    nabla_generate_result result;
    nabla_video_error err = {0};
    watcher w = {.phase = "sample", .done = 2, .calls = 1}, nobody = {0};
    assert_int_equal(generate(&o, &w, &result, &err), NABLA_CANCELLED);
    char *kept = strdup(result.kept_state);
    o.resume = kept;
    o.prompt = NULL;
    o.loras = &lora;
    o.lora_count = 1;
    assert_int_equal(generate(&o, &nobody, &result, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "was made with another model"));
    remove(kept);
    free(kept);
    free(output);
}

/* Of several prompts those that are sampled are kept too. */
static void stopped_between_clips(void **state) {
    (void)state;
    static const char *const prompts[] = {"a cat", "a dog"};
    char *output = copy_path("many.safetensors");
    nabla_generate_options o = options(output);
    nabla_generate_result result;
    nabla_video_error err = {0};
    watcher w = {
        .phase = "sample", .done = 1, .calls = 1 + 3}; /* a step and two layers of the first, then the second */
    o.prompt = NULL;
    o.prompts = prompts;
    o.prompt_count = 2;
    assert_int_equal(generate(&o, &w, &result, &err), NABLA_CANCELLED);
    assert_non_null(strstr(result.kept_state, "many-0002.state.safetensors"));
    assert_non_null(strstr(result.kept_latent, "many-0001.latent.safetensors"));
    assert_int_equal(access(result.kept_latent, F_OK), 0);
    remove(result.kept_latent);
    remove(result.kept_state);
    free(output);
}

/* A failure, not only a wish to stop, tells what is there. */
static void failed_after_a_clip(void **state) {
    (void)state;
    static const char *const prompts[] = {"a cat", "a dog"};
    char *output = copy_path("few.safetensors"), *mask = copy_path("few.png"), *in_the_way = copy_path("few-0002.png");
    nabla_generate_options o = options(output);
    nabla_generate_result result;
    nabla_video_error err = {0};
    watcher nobody = {0};
    o.prompts = prompts;
    o.prompt_count = 2;
    o.mask_png = mask;
    assert_int_equal(mkdir(in_the_way, 0777), 0);
    assert_int_equal(generate(&o, &nobody, &result, &err), NABLA_IO);
    assert_non_null(strstr(err.text, "few-0002.png"));
    assert_non_null(strstr(result.kept_latent, "few-0001.latent.safetensors"));
    remove(result.kept_latent);
    remove(scratch_path("few-0002.latent.safetensors"));
    remove(scratch_path("few-0001.png"));
    remove(in_the_way);
    free(output);
    free(mask);
    free(in_the_way);
}

/* The latent is there before the first frame, and decode makes of it what was to come. */
static void stopped_while_decoding(void **state) {
    (void)state;
    char *output = copy_path("half.safetensors"), *decoded = copy_path("decoded.safetensors");
    nabla_generate_options o = options(output);
    nabla_generate_result result;
    nabla_video_error err = {0};
    watcher w = {.phase = "decode", .done = 5, .calls = 1};
    assert_int_equal(generate(&o, &w, &result, &err), NABLA_CANCELLED);
    assert_non_null(strstr(result.kept_latent, "half.latent.safetensors"));
    assert_int_not_equal(access(output, F_OK), 0);
    nabla_decode_options d = nabla_decode_options_default();
    d.model = o.model;
    d.latent = result.kept_latent;
    d.output = decoded;
    watcher nobody = {0};
    const nabla_video_machine machine = machine_of(&nobody);
    assert_int_equal(nabla_decode(&d, &machine, NULL, &err), NABLA_OK);
    char *kept = strdup(result.kept_latent);
    nabla_video_error again = {0};
    assert_int_equal(generate(&o, &nobody, &result, &again), NABLA_INVALID_ARGUMENT); /* neither replaced nor removed */
    assert_non_null(strstr(again.text, "half.latent.safetensors is there, and this run would keep its latent in it"));
    assert_int_equal(remove(kept), 0);
    free(kept);
    succeed(&o, &result);
    assert_same_files(output, decoded);
    remove(output);
    remove(decoded);
    free(output);
    free(decoded);
}

/* ------------------------------------------------------------------ bf16 */

static float *read_tensor(const char *path, const char *name, size_t *count) {
    nv_st_file *file;
    GOOD(nv_st_open(path, &file, why));
    const nv_st_entry *e = nv_st_find(file, name);
    assert_non_null(e);
    *count = e->bytes / sizeof(float);
    float *values = malloc(e->bytes);
    GOOD(nv_st_read_f32(e, values, *count, why));
    nv_st_close(file);
    return values;
}

static double distance(const float *a, const float *b, size_t count) {
    double sum = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(sum / norm);
}

/* Final latents of guided sampling (make_pipeline.py): ours in bf16 are no further from diffusers' fp32 than its bf16.
 */
static void bf16_is_as_near_as_the_reference(void **state) {
    (void)state;
    static const char golden[] = NABLA_TEST_DATA "/pipeline.safetensors";
    static const char *const solvers[] = {"unipc", "dpm++", "euler"};
    char *latent = copy_path("bf16.safetensors"), name[32];
    for (int i = 0; i < 3; i++) {
        nabla_generate_options o = options(NULL);
        nabla_generate_result result;
        size_t count, others, ours;
        o.prompt = "a cat on a skateboard";
        o.width = 48;
        o.height = 32;
        o.steps = 5;
        o.policy = "dense";
        o.seed = 7;
        o.solver = solvers[i];
        o.save_latent = latent;
        succeed(&o, &result);
        snprintf(name, sizeof name, "%s.bf16", solvers[i]);
        float *exact = read_tensor(golden, solvers[i], &count), *rough = read_tensor(golden, name, &others),
              *got = read_tensor(latent, "latent", &ours);
        assert_true(count == others && count == ours);
        const double theirs = distance(rough, exact, count), error = distance(got, exact, count);
        print_message("%s: %.2e, diffusers' bf16 %.2e\n", solvers[i], error, theirs);
        assert_true(error > 0 && error <= theirs);
        free(exact);
        free(rough);
        free(got);
    }
    remove(latent);
    free(latent);
}

/* ------------------------------------------------------------------ offloading */

/* The same latent, with a LoRA, where the blocks' weights are in the host's memory. */
static void offloaded_blocks_give_the_same(void **state) {
    (void)state;
    const nabla_lora lora = {NABLA_TEST_DATA "/wan/lora_diffusers.safetensors", 0.5f};
    char *latents[] = {copy_path("resident.safetensors"), copy_path("offloaded.safetensors")};
    nabla_generate_result result;
    for (int i = 0; i < 2; i++) {
        nabla_generate_options o = options(NULL);
        nabla_video_error err = {0};
        watcher w = {0};
        o.steps = 2;
        o.save_latent = latents[i];
        o.loras = &lora;
        o.lora_count = 1;
        o.offload = i;
        if (i && !test_on_gpu()) {
            assert_int_equal(generate(&o, &w, &result, &err), NABLA_UNSUPPORTED);
            assert_non_null(strstr(err.text, "offloading them is for a GPU"));
            assert_string_equal(w.phases, "");
            continue;
        }
        succeed(&o, &result);
        assert_true((result.offloaded_memory > 0) == i);
    }
    if (test_on_gpu()) assert_same_files(latents[0], latents[1]);
    for (int i = 0; i < 2; i++) {
        remove(latents[i]);
        free(latents[i]);
    }
}

/* ------------------------------------------------------------------ before it begins */

static int refuse_to_begin(void *user, const nabla_generate_result *settled) {
    assert_int_equal(settled->width, 144);
    assert_string_equal(settled->policy, "nabla-0.5");
    *(double *)user = settled->sample_memory;
    return 1;
}

static void announces_before_it_loads(void **state) {
    (void)state;
    double memory = 0;
    nabla_generate_options o = options(scratch_path("never.safetensors"));
    nabla_generate_result result;
    nabla_video_error err = {0};
    watcher w = {0};
    o.begin = refuse_to_begin;
    o.begin_user = &memory;
    assert_int_equal(generate(&o, &w, &result, &err), NABLA_CANCELLED);
    assert_string_equal(w.phases, "");
    assert_true(memory > 0);
    o.begin = NULL;
    o.width = o.height = 32768; /* refused before anything is loaded */
    o.frames = 81;
    assert_int_equal(generate(&o, &w, &result, &err), NABLA_INVALID_ARGUMENT);
    o.width = o.height = 8192;
    assert_int_equal(generate(&o, &w, &result, &err), NABLA_OUT_OF_MEMORY);
    assert_string_equal(w.phases, "");
}

static void refuses_half_given_lists(void **state) {
    (void)state;
    static const char *const prompts[] = {"a", NULL};
    static const nabla_lora loras[] = {{NULL, 1.0f}, {"x", NAN}};
    for (int i = 0; i < 5; i++) {
        nabla_generate_options o = options(NULL);
        nabla_generate_result result;
        nabla_video_error err = {0};
        watcher w = {0};
        if (i < 2) o.prompts = prompts, o.prompt_count = i ? 2 : 0;
        if (i == 2) o.lora_count = 1;
        if (i > 2) o.loras = loras + i - 3, o.lora_count = 1;
        assert_int_equal(generate(&o, &w, &result, &err), NABLA_INVALID_ARGUMENT);
        assert_true(err.text[0] != '\0');
    }
}

/* Some alone: test_pipeline NAME, in which * and ? stand for anything; or all but some: -NAME. */
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_phase_by_phase),
        cmocka_unit_test(stopped_early_leaves_nothing),
        cmocka_unit_test(stopped_while_sampling),
        cmocka_unit_test(other_weights_do_not_go_on),
        cmocka_unit_test(stopped_between_clips),
        cmocka_unit_test(failed_after_a_clip),
        cmocka_unit_test(stopped_while_decoding),
        cmocka_unit_test(bf16_is_as_near_as_the_reference),
        cmocka_unit_test(offloaded_blocks_give_the_same),
        cmocka_unit_test(announces_before_it_loads),
        cmocka_unit_test(refuses_half_given_lists),
    };
    if (argc > 1 && argv[1][0] == '-') cmocka_set_skip_filter(argv[1] + 1);
    if (argc > 1 && argv[1][0] != '-') cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}

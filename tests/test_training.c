/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer and what is made with its models, on a transformer of a few thousand parameters. */
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "media/media.h"
#include "nabla/video.h"
#include "weights/safetensors.h"

enum { STEPS = 12, KILL_AT = 7, WIDTH = 24, HEIGHT = 16, FRAMES = 2, PATCH = 4 };

static char root[] = "/tmp/nabla-training-XXXXXX";

/* Paths below the test's folder; a few may be held at once. */
static const char *at(const char *name) {
    static char paths[8][512];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static nabla_video_machine machine_of(nabla_video_progress progress, void *user) {
    nabla_video_machine machine = nabla_video_machine_default();
    machine.threads = 2;
    machine.progress = progress;
    machine.user = user;
    return machine;
}

static nabla_train_options tiny(const char *output) {
    nabla_train_options o = nabla_train_options_default();
    o.output = output;
    o.width = WIDTH;
    o.height = HEIGHT;
    o.frames = FRAMES;
    o.patch = PATCH;
    o.dim = 32;
    o.heads = 2;
    o.layers = 2;
    o.ffn_dim = 64;
    o.position_grid = 6;
    o.steps = STEPS;
    o.batch = 3;
    o.warmup = 3;
    o.lr = 3e-3f;
    o.policy = "nabla-0.8";
    o.seed = 5;
    o.save_every = 4;
    o.log_every = 3;
    o.sample_steps = 3;
    return o;
}

static nabla_status train(const nabla_train_options *o, nabla_video_progress progress, nabla_video_error *err) {
    nabla_train_result result = {.size = sizeof result};
    nabla_video_machine machine = machine_of(progress, NULL);
    return nabla_train(o, &machine, &result, err);
}

static char *read_all(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*size + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *size, file), *size);
    data[*size] = '\0';
    fclose(file);
    return data;
}

static void assert_same_file(const char *a, const char *b, const char *name) {
    char path_a[600], path_b[600];
    size_t size_a, size_b;
    snprintf(path_a, sizeof path_a, "%s/%s", a, name);
    snprintf(path_b, sizeof path_b, "%s/%s", b, name);
    char *data_a = read_all(path_a, &size_a), *data_b = read_all(path_b, &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(data_a, data_b, size_a);
    free(data_a);
    free(data_b);
}

/* step, loss, grad_norm and lr agree in every digit; the rest are times. */
static void assert_same_log(const char *a, const char *b) {
    char path[600], line_a[512], line_b[512];
    snprintf(path, sizeof path, "%s/train/log.csv", a);
    FILE *file_a = fopen(path, "r");
    snprintf(path, sizeof path, "%s/train/log.csv", b);
    FILE *file_b = fopen(path, "r");
    assert_non_null(file_a);
    assert_non_null(file_b);
    int rows = 0;
    for (; fgets(line_a, sizeof line_a, file_a); rows++) {
        assert_non_null(fgets(line_b, sizeof line_b, file_b));
        for (int commas = 0, i = 0; commas < 4 && line_a[i]; i++) {
            assert_int_equal(line_a[i], line_b[i]);
            commas += line_a[i] == ',';
        }
    }
    assert_null(fgets(line_b, sizeof line_b, file_b));
    assert_int_equal(rows, 1 + STEPS / 3);
    fclose(file_a);
    fclose(file_b);
}

static void assert_same_run(const char *a, const char *b) {
    assert_same_file(a, b, "train/state.safetensors");
    assert_same_file(a, b, "transformer/diffusion_pytorch_model.safetensors");
    assert_same_file(a, b, "text/words.safetensors");
    assert_same_file(a, b, "model_index.json");
    assert_same_log(a, b);
}

/* The run that the others are compared with. */
static void left_alone(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options o = tiny(at("whole"));
    assert_int_equal(train(&o, NULL, &err), NABLA_OK);
    assert_string_equal(err.text, "");
}

/* The child's main(): dies without warning between two checkpoints. */
static int die(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    (void)user;
    (void)phase;
    (void)total;
    (void)note;
    if (done == KILL_AT) kill(getpid(), SIGKILL);
    return 0;
}

static void killed_and_resumed(void **state) {
    (void)state;
    nabla_video_error err = {0};
    const char *folder = at("killed");
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "test_training", "--die", folder, (char *)NULL);
        _exit(1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    nabla_train_options o = tiny(folder);
    assert_int_equal(train(&o, NULL, &err), NABLA_INVALID_ARGUMENT); /* never overwritten by accident */
    assert_non_null(strstr(err.text, "already holds"));
    o.resume = 1;
    assert_int_equal(train(&o, NULL, &err), NABLA_OK);
    assert_same_run(at("whole"), folder);
    assert_int_equal(train(&o, NULL, &err), NABLA_OK); /* nothing left to do */
    assert_same_run(at("whole"), folder);
    o.lr = 1e-4f;
    assert_int_equal(train(&o, NULL, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "lr=0.003"));
}

static int stop(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    (void)user;
    assert_string_equal(phase, "train");
    assert_int_equal(total, STEPS);
    assert_non_null(strstr(note, "loss "));
    return done == 5;
}

static void cancelled_and_resumed(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options o = tiny(at("cancelled"));
    assert_int_equal(train(&o, stop, &err), NABLA_CANCELLED);
    assert_non_null(strstr(err.text, "step 5"));
    o.resume = 1;
    assert_int_equal(train(&o, NULL, &err), NABLA_OK);
    assert_same_run(at("whole"), o.output);
}

static void loss_falls(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options o = tiny(at("longer"));
    o.steps = 80;
    o.batch = 8;
    o.frames = 1;
    o.width = o.height = 16;
    o.save_every = 1000;
    o.log_every = 10;
    nabla_train_result result = {.size = sizeof result};
    nabla_video_machine machine = machine_of(NULL, NULL);
    assert_int_equal(nabla_train(&o, &machine, &result, &err), NABLA_OK);
    double first = 0.0;
    size_t size;
    char *log = read_all(at("longer/train/log.csv"), &size);
    assert_int_equal(sscanf(strchr(log, '\n'), "\n10,%lf", &first), 1);
    free(log);
    assert_true(result.loss < 0.4 * first);
    assert_int_equal(result.steps, 80);
    assert_true(result.samples_per_second > 0.0 && result.gflops > 0.0);
    assert_true(result.model_share > 0.0 && result.model_share < 1.0);
}

/* A finished model as the start of a run at another size. */
static void next_stage(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options o = tiny(at("stage"));
    o.model = at("whole");
    o.width = o.height = 2 * HEIGHT;
    o.frames = 1;
    o.steps = 2;
    assert_int_equal(train(&o, NULL, &err), NABLA_OK);
    o.output = at("stage-velocity");
    o.prediction = "velocity";
    assert_int_equal(train(&o, NULL, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "velocity"));
    assert_int_not_equal(access(o.output, F_OK), 0);
}

/* Videos with captions in place of procedural clips. */
static void from_a_folder(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_video_machine machine = machine_of(NULL, NULL);
    if (!nv_media_available()) skip();
    if (nabla_write_clips(at("videos"), "mp4", 3, 4, HEIGHT, HEIGHT, 1, &machine, &err) != NABLA_OK)
        fail_msg("%s", err.text);
    nabla_train_options o = tiny(at("from-videos"));
    o.data = at("videos");
    o.steps = 3;
    if (train(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    size_t size;
    char *words = read_all(at("from-videos/text/words.json"), &size);
    assert_non_null(strstr(words, "\"moving\""));
    free(words);
    o.output = at("from-short-videos");
    o.frames = 5;
    assert_int_equal(train(&o, NULL, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "has 4 frames"));
}

static void refuse(const nabla_train_options *o, nabla_status expected, const char *word) {
    nabla_video_error err = {0};
    assert_int_equal(train(o, NULL, &err), expected);
    if (!strstr(err.text, word)) fail_msg("\"%s\" does not name \"%s\"", err.text, word);
}

static void bad_training(void **state) {
    (void)state;
    nabla_train_options o = tiny(at("bad"));
    o.frames = 0;
    refuse(&o, NABLA_INVALID_ARGUMENT, "frames");
    o = tiny(at("bad"));
    o.width = 25;
    refuse(&o, NABLA_INVALID_ARGUMENT, "25x16");
    o = tiny(at("bad"));
    o.policy = "nabla-1.5";
    refuse(&o, NABLA_INVALID_ARGUMENT, "1.5");
    o = tiny(at("bad"));
    o.lr = NAN;
    refuse(&o, NABLA_INVALID_ARGUMENT, "lr");
    o = tiny(at("bad"));
    o.heads = 5;
    refuse(&o, NABLA_INVALID_ARGUMENT, "dim 32 over 5 heads");
    o = tiny(at("bad"));
    o.frames = 64;
    o.width = o.height = 4096;
    refuse(&o, NABLA_OUT_OF_MEMORY, "GB");
    o = tiny(at("bad"));
    o.model = at("nowhere");
    refuse(&o, NABLA_IO, "nowhere");
    o = tiny(at("bad"));
    o.resume = 1;
    refuse(&o, NABLA_IO, "no run to resume");
    o = tiny(at("bad"));
    o.data = at("nowhere");
    refuse(&o, NABLA_IO, "nowhere");
    assert_int_not_equal(access(at("bad"), F_OK), 0);
    o = tiny("/proc/nabla");
    refuse(&o, NABLA_IO, "/proc/nabla");
}

/* ------------------------------------------------------------------ generate */

static nabla_generate_options prompt(const char *model) {
    nabla_generate_options o = nabla_generate_options_default();
    o.model = model;
    o.prompt = "a red circle moving right";
    o.seed = 3;
    return o;
}

static nabla_status generate(const nabla_generate_options *o, nabla_generate_result *result, nabla_video_error *err) {
    nabla_video_machine machine = machine_of(NULL, NULL);
    return nabla_generate(o, &machine, result, err);
}

static void generates_pictures(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_generate_result result;
    nabla_generate_options o = prompt(at("whole"));
    o.output = at("frames/");
    o.mask_png = at("mask.png");
    o.preview = at("preview");
    o.preview_every = 2;
    o.save_latent = at("latent.safetensors");
    if (generate(&o, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_int_equal(access(at("frames/frame-0001.png"), F_OK), 0);
    assert_int_equal(access(at("frames/frame-0002.png"), F_OK), 0);
    assert_int_equal(access(at("mask.png"), F_OK), 0);
    assert_int_equal(access(at("preview/step-0002.png"), F_OK), 0);
    assert_string_equal(result.policy, "nabla-0.8");
    assert_string_equal(result.warning, "");
    assert_int_equal(result.width, WIDTH);
    assert_int_equal(result.steps, 3);
    assert_true(result.sparsity >= 0.0 && result.sparsity < 1.0);
}

/* Noise from a file gives what its seed gave; another policy or no guidance gives something else. */
static void generates_the_same_again(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_generate_options o = prompt(at("whole"));
    o.save_latent = at("again.safetensors");
    if (generate(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    size_t size, size_again;
    char *first = read_all(at("latent.safetensors"), &size);
    char *again = read_all(at("again.safetensors"), &size_again);
    assert_int_equal(size, size_again);
    assert_memory_equal(first, again, size);
    free(again);
    o.guidance = 1.0f;
    if (generate(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    again = read_all(at("again.safetensors"), &size_again);
    assert_int_equal(size, size_again);
    assert_memory_not_equal(first, again, size);
    free(first);
    free(again);
}

static void generates_videos(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_generate_options o = prompt(at("whole"));
    if (!nv_media_available()) skip();
    for (int i = 0; i < 2; i++) {
        o.output = at(i ? "clip.mp4" : "clip.gif");
        if (generate(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
        assert_int_equal(access(o.output, F_OK), 0);
    }
}

static int refuse_at_once(void *user, const char *phase, int64_t done, int64_t total, const char *note) {
    (void)user;
    (void)phase;
    (void)done;
    (void)total;
    (void)note;
    return 1;
}

static void cancelled_generation_leaves_nothing(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_generate_options o = prompt(at("whole"));
    nabla_video_machine machine = machine_of(refuse_at_once, NULL);
    o.output = at("cancelled-frames/");
    assert_int_equal(nabla_generate(&o, &machine, NULL, &err), NABLA_CANCELLED);
    assert_int_not_equal(access(o.output, F_OK), 0);
}

static void unknown_words_warn(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_generate_result result;
    nabla_generate_options o = prompt(at("whole"));
    o.prompt = "a rde circle and a dog";
    if (generate(&o, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_non_null(strstr(result.warning, "rde (red?)"));
    assert_non_null(strstr(result.warning, "dog"));
}

static void refuse_generate(const nabla_generate_options *o, nabla_status expected, const char *word) {
    nabla_video_error err = {0};
    nabla_generate_result result;
    assert_int_equal(generate(o, &result, &err), expected);
    if (!strstr(err.text, word)) fail_msg("\"%s\" does not name \"%s\"", err.text, word);
}

static void bad_generation(void **state) {
    (void)state;
    nabla_generate_options o = prompt(at("nowhere"));
    refuse_generate(&o, NABLA_IO, "nowhere");
    o = prompt(at("whole"));
    o.prompt = NULL;
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "prompt");
    o = prompt(at("whole"));
    o.width = 26;
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "26x16");
    o = prompt(at("whole"));
    o.frames = -3;
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "-3 frames");
    o = prompt(at("whole"));
    o.policy = "sparse";
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "sparse");
    o = prompt(at("whole"));
    o.solver = "heun";
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "heun");
    o = prompt(at("whole"));
    o.guidance = NAN;
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "guidance");
    o = prompt(at("whole"));
    o.init_noise = at("latent.safetensors"); /* holds no tensor "noise" */
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "noise");
    o = prompt(at("whole"));
    o.output = at("clip.xyz");
    refuse_generate(&o, NABLA_INVALID_ARGUMENT, "xyz");
    o = prompt(at("whole"));
    o.frames = 64;
    o.width = o.height = 4096;
    refuse_generate(&o, NABLA_OUT_OF_MEMORY, "GB");
}

static void foreign_models(void **state) {
    (void)state;
    mkdir(at("foreign"), 0777);
    FILE *file = fopen(at("foreign/model_index.json"), "w");
    assert_non_null(file);
    fputs("{\"_class_name\": \"WanPipeline\", \"transformer\": [\"diffusers\", \"WanTransformer3DModel\"]}", file);
    fclose(file);
    nabla_generate_options o = prompt(at("foreign"));
    refuse_generate(&o, NABLA_UNSUPPORTED, "WanPipeline");
    file = fopen(at("foreign/model_index.json"), "w");
    fputs("{\"_class_name\":", file);
    fclose(file);
    refuse_generate(&o, NABLA_CORRUPT, "model_index.json");
}

/* ------------------------------------------------------------------ evaluate */

static void evaluates(void **state) {
    (void)state;
    nabla_video_error err = {0};
    uint8_t dense[6], sparse[6];
    nabla_eval_options o = nabla_eval_options_default();
    nabla_eval_result result = {.size = sizeof result, .right = sparse};
    nabla_video_machine machine = machine_of(NULL, NULL);
    o.model = at("whole");
    o.prompts = 6;
    if (nabla_evaluate(&o, &machine, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_int_equal(result.prompts, 6);
    assert_true(result.colour >= 0.0 && result.colour <= 1.0 && result.seconds > 0.0);
    result.right = dense;
    o.policy = "dense";
    if (nabla_evaluate(&o, &machine, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_true(result.sparsity == 0.0);
    nabla_eval_difference d = nabla_eval_compare(sparse, dense, 6, 7);
    assert_true(d.low < d.high);
}

static void compares_pairs(void **state) {
    (void)state;
    uint8_t a[100] = {0}, b[100] = {0};
    for (int i = 0; i < 100; i++) {
        a[i] = i < 60 ? 1 : 0;           /* 60 right */
        b[i] = i >= 5 && i < 80 ? 1 : 0; /* 75 right: 20 gained, 5 lost */
    }
    nabla_eval_difference d = nabla_eval_compare(a, b, 100, 1);
    assert_true(fabs(d.difference - 0.15) < 1e-12);
    /* centre 15/102, spread 1.96 sqrt(26 - 15^2/102) / 102 */
    assert_true(fabs(d.low - 0.0536) < 1e-3 && fabs(d.high - 0.2406) < 1e-3);
    d = nabla_eval_compare(a, a, 100, 1);
    assert_true(d.difference == 0.0 && d.low < 0.0 && d.high > 0.0);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--die") == 0) {
        nabla_train_options o = tiny(argv[2]);
        return (int)train(&o, die, NULL);
    }
    if (!mkdtemp(root)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(left_alone),
        cmocka_unit_test(killed_and_resumed),
        cmocka_unit_test(cancelled_and_resumed),
        cmocka_unit_test(loss_falls),
        cmocka_unit_test(next_stage),
        cmocka_unit_test(from_a_folder),
        cmocka_unit_test(bad_training),
        cmocka_unit_test(generates_pictures),
        cmocka_unit_test(generates_the_same_again),
        cmocka_unit_test(generates_videos),
        cmocka_unit_test(cancelled_generation_leaves_nothing),
        cmocka_unit_test(unknown_words_warn),
        cmocka_unit_test(bad_generation),
        cmocka_unit_test(foreign_models),
        cmocka_unit_test(evaluates),
        cmocka_unit_test(compares_pairs),
    };
    int failed = cmocka_run_group_tests_name("training", tests, NULL, NULL);
    nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return failed;
}

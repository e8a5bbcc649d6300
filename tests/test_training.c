/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer, on a transformer of a few thousand parameters. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "device.h"
#include "files.h"
#include "media/media.h"
#include "tiny_model.h"

enum { KILL_AT = 7 };

static void assert_same_file(const char *a, const char *b, const char *name) {
    char path_a[600], path_b[600];
    snprintf(path_a, sizeof path_a, "%s/%s", a, name);
    snprintf(path_b, sizeof path_b, "%s/%s", b, name);
    assert_same_files(path_a, path_b);
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

static void refuse(const nabla_train_options *o, nabla_status expected, const char *word) {
    nabla_video_error err = {0};
    nabla_status status = train(o, NULL, &err);
    expect_refusal(status, &err, expected, word);
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

/* A run that goes on with other threads says so, once; with the same it says nothing. */
static void another_machine_is_told(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_video_machine machine = machine_of(NULL, NULL);
    nabla_train_result result = {.size = sizeof result};
    nabla_train_options o = tiny(at("elsewhere"));
    if (test_on_gpu()) skip(); /* whose bits do not depend on threads */
    assert_int_equal(train(&o, stop, &err), NABLA_CANCELLED);
    o.resume = 1;
    machine.threads = 1;
    if (nabla_train(&o, &machine, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_memory_equal(result.warning, "the run so far was made on cpu, level ", 38);
    assert_non_null(strstr(result.warning, ", 2 threads, products by "));
    assert_non_null(strstr(result.warning, "; this is cpu, level "));
    assert_non_null(strstr(result.warning, ", 1 threads, products by "));
    assert_non_null(strstr(result.warning, ": bits may differ from those of a run left alone"));
    if (nabla_train(&o, &machine, &result, &err) != NABLA_OK) fail_msg("%s", err.text); /* its own state, now */
    assert_string_equal(result.warning, "");
}

/* The same bits from less memory; a run may change to it, and back. */
static void checkpoints_activations(void **state) {
    (void)state;
    for (int32_t first = 0; first < 2; first++) {
        nabla_video_error err = {0};
        nabla_train_options o = tiny(at(first ? "checkpointed" : "kept"));
        o.activation_checkpointing = first;
        assert_int_equal(train(&o, stop, &err), NABLA_CANCELLED);
        o.resume = 1;
        o.activation_checkpointing = !first;
        assert_int_equal(train(&o, NULL, &err), NABLA_OK);
        assert_same_run(at("whole"), o.output);
    }
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
    assert_true(result.data_share >= 0.0 && result.model_share + result.data_share <= 1.0);
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
    o.output = at("stage-deeper");
    o.layers = 3;
    refuse(&o, NABLA_INVALID_ARGUMENT, "layers of the model");
    refuse(&o, NABLA_INVALID_ARGUMENT, "is 2 and cannot become 3");
    o.layers = nabla_train_options_default().layers;
    o.output = at("stage-velocity");
    o.prediction = "velocity";
    assert_int_equal(train(&o, NULL, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "velocity"));
    assert_int_not_equal(access(o.output, F_OK), 0);
}

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Videos with captions in place of procedural clips. */
static void from_a_folder(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_video_machine machine = machine_of(NULL, NULL);
    if (!nv_media_available()) skip();
    if (nabla_write_clips(at("videos"), "mp4", NULL, 3, 4, HEIGHT, HEIGHT, 1, &machine, &err) != NABLA_OK)
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
    assert_int_equal(train(&o, NULL, &err), NABLA_CORRUPT);
    assert_non_null(strstr(err.text, "has 4 frames"));
    o = tiny(at("from-latin"));
    o.data = at("videos");
    write_text(at("videos/clip-0002.txt"), "ein B\xe4r");
    refuse(&o, NABLA_CORRUPT, "clip-0002.txt is not UTF-8");
    /* The longest word that fits is cut between its characters. */
    write_text(at("videos/clip-0002.txt"),
               "Donaudampfschifffahrtselektrizit\xc3\xa4tenhauptbetriebswerkbauunterbeamtengesellschaft");
    o.steps = 1;
    if (train(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    o.resume = 1;
    if (train(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
}

/* Captions beyond a model's words, and beyond their number. */
static void captions_read_in_part(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_video_machine machine = machine_of(NULL, NULL);
    nabla_train_result result = {.size = sizeof result};
    if (!nv_media_available()) skip();
    if (nabla_write_clips(at("zoo"), "png", NULL, 2, 4, HEIGHT, HEIGHT, 1, &machine, &err) != NABLA_OK)
        fail_msg("%s", err.text);
    write_text(at("zoo/clip-0002.txt"), "a red zebra left of a sqare");
    nabla_train_options o = tiny(at("tamer"));
    o.data = at("zoo");
    o.steps = o.frames = 1;
    o.model = at("whole");
    if (nabla_train(&o, &machine, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_string_equal(result.warning, "the model does not know: zebra, of, sqare (square?): they train as one "
                                        "unknown word");
    write_text(at("zoo/clip-0002.txt"), "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17");
    o.output = at("counter");
    o.model = NULL;
    if (nabla_train(&o, &machine, &result, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_string_equal(result.warning, "1 captions have more than 16 words and lose the rest, such as \"1 2 3 4 5 6 7 "
                                        "8 9 10 11 12 13 14 15 16 17\"");
}

/* A caller built against another version. */
static void result_of_another_size(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options o = tiny(at("other"));
    nabla_train_result small = {.size = 8, .steps = -1};
    assert_int_equal(nabla_train(&o, NULL, &small, &err), NABLA_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "nabla_train_result.size"));
    assert_int_equal(small.steps, -1);
}

/* Nothing that a user may have trained is overwritten, whether or not a run's state is beside it. */
static void never_over_a_model(void **state) {
    (void)state;
    nabla_video_error err = {0};
    nabla_train_options o = tiny(at("finished"));
    o.steps = 1;
    if (train(&o, NULL, &err) != NABLA_OK) fail_msg("%s", err.text);
    assert_int_equal(remove(at("finished/train/state.safetensors")), 0);
    refuse(&o, NABLA_INVALID_ARGUMENT, "already holds a model (model_index.json)");
    o.model = o.output;
    refuse(&o, NABLA_INVALID_ARGUMENT, "already holds a model (model_index.json)");
    assert_int_equal(remove(at("finished/model_index.json")), 0);
    o.model = NULL;
    refuse(&o, NABLA_INVALID_ARGUMENT, "already holds a model (transformer)");
}

static void diverging(void **state) {
    (void)state;
    nabla_train_options o = tiny(at("diverged"));
    o.lr = 1e3f;
    o.clip = 0.0f;
    o.warmup = 0;
    o.weight_decay = 1e3f; /* every step multiplies the weights by -1e6 */
    refuse(&o, NABLA_INTERNAL, "diverged");
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
    refuse(&o, NABLA_OUT_OF_MEMORY, "--activation-checkpointing brings it down to ");
    o.activation_checkpointing = 1;
    refuse(&o, NABLA_OUT_OF_MEMORY, "available: choose a smaller batch");
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

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--die") == 0) {
        nabla_train_options o = tiny(argv[2]);
        return (int)train(&o, die, NULL);
    }
    if (tiny_make()) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(left_alone),
        cmocka_unit_test(killed_and_resumed),
        cmocka_unit_test(cancelled_and_resumed),
        cmocka_unit_test(another_machine_is_told),
        cmocka_unit_test(checkpoints_activations),
        cmocka_unit_test(loss_falls),
        cmocka_unit_test(next_stage),
        cmocka_unit_test(from_a_folder),
        cmocka_unit_test(captions_read_in_part),
        cmocka_unit_test(result_of_another_size),
        cmocka_unit_test(never_over_a_model),
        cmocka_unit_test(diverging),
        cmocka_unit_test(bad_training),
    };
    int failed = cmocka_run_group_tests_name("training", tests, NULL, NULL);
    tiny_remove();
    return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the CUDA device promises of products that are large enough for a trial of algorithms: the trial changes no
   result, a choice is told as text and taken by another device, texts that are none are refused, and graphs meet no
   trial. On the first GPU or on the emulated one; says so and passes where there is none. */
#include "device/create.h"
#include "device/cuda/products.h"
#include "tensor/bf16.h"
#include "tensor/random.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 512, NUMBERS = SIDE * SIDE }; /* 2^27 multiply-adds: the least that is tried */

static int failures = 0;

#define CHECK(what, condition)                                                                      \
    do {                                                                                            \
        if (!(condition)) {                                                                         \
            fprintf(stderr, "FAILED line %d: %s: %s %s\n", __LINE__, (what), #condition, err.text); \
            failures++;                                                                             \
        }                                                                                           \
    } while (0)

static nv_error err;

static nv_device *make(void) {
    const nv_device_options gpu = {.device = NABLA_CUDA};
    nv_device *dev;
    err = (nv_error){0};
    if (nv_cuda_create(&gpu, &dev, &err) == NABLA_OK) return dev;
    fprintf(stderr, "check_products_cuda: %s\n", err.text);
    exit(1);
}

static nv_matrix upload(nv_device *dev, const float *values, nabla_dtype dtype) {
    void *memory, *image = malloc(NUMBERS * sizeof(float));
    if (!image || dev->ops->allocate(dev, NUMBERS * sizeof(float), &memory, &err) != NABLA_OK) abort();
    for (int i = 0; i < NUMBERS; i++)
        if (dtype == NABLA_BF16)
            ((nv_bf16 *)image)[i] = nv_bf16_from_float(values[i]);
        else
            ((float *)image)[i] = values[i];
    dev->ops->upload(dev, memory, image, NUMBERS * nabla_dtype_size(dtype));
    free(image);
    return nv_matrix_of(memory, dtype, SIDE, SIDE);
}

static void download(nv_device *dev, nv_matrix m, void *out) {
    if (dev->ops->download(dev, out, m.data, nv_matrix_bytes(m), &err) == NABLA_OK) return;
    fprintf(stderr, "check_products_cuda: %s\n", err.text);
    exit(1);
}

/* Numbers whose products and sums are exact in any order, and such that are not. */
static void fill_whole(float *out, uint64_t stream) {
    nv_philox g = nv_philox_at(11, stream);
    for (int i = 0; i < NUMBERS; i++)
        out[i] = (float)((int)nv_philox_below(&g, 3) - 1);
}

static void fill_normal(float *out, uint64_t stream) {
    nv_philox g = nv_philox_at(12, stream);
    nv_philox_normal(&g, out, NUMBERS);
}

/* a^T b, row by row. */
static void multiply(const float *a, const float *b, float *out) {
    memset(out, 0, NUMBERS * sizeof *out);
    for (int t = 0; t < SIDE; t++)
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++)
                out[i * SIDE + j] += a[t * SIDE + i] * b[t * SIDE + j];
}

static int count_lines(const char *text) {
    int lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

static char *choices_of(nv_device *dev) {
    char *text = NULL;
    if (dev->ops->choices(dev, &text, &err) == NABLA_OK) return text;
    fprintf(stderr, "check_products_cuda: %s\n", err.text);
    exit(1);
}

/* ------------------------------------------------------------------ cases */

/* Gradients are added to: each call once, the one with the trial too; what is written is what one product makes. */
static void trials_change_nothing(nabla_dtype dtype) {
    const char *name = dtype == NABLA_BF16 ? "trials, bf16" : "trials, fp32";
    static float a[NUMBERS], b[NUMBERS], product[NUMBERS], sums[NUMBERS], got[NUMBERS];
    nv_device *dev = make();
    fill_whole(a, 0);
    fill_whole(b, 1);
    multiply(a, b, product);
    for (int i = 0; i < NUMBERS; i++)
        sums[i] = 1;
    nv_matrix d_y = upload(dev, a, dtype), x = upload(dev, b, dtype), d_w = upload(dev, sums, NABLA_FP32);
    char *before = choices_of(dev);
    CHECK(name, before[0] == '\0');
    for (int call = 1; call <= 2; call++) {
        CHECK(name, dev->ops->linear_backward_weight(dev, d_y, x, d_w.data, NULL, &err) == NABLA_OK);
        download(dev, d_w, got);
        for (int i = 0; i < NUMBERS; i++)
            sums[i] += product[i];
        CHECK(name, memcmp(got, sums, sizeof got) == 0);
    }
    /* the same factors with one turned: x w^T is written over */
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < i; j++) {
            const float upper = a[j * SIDE + i];
            a[j * SIDE + i] = a[i * SIDE + j];
            a[i * SIDE + j] = upper;
        }
    nv_matrix turned = upload(dev, a, dtype), y = upload(dev, sums, NABLA_FP32);
    CHECK(name, dev->ops->linear_backward_input(dev, turned, x, y, 0, &err) == NABLA_OK);
    download(dev, y, got);
    CHECK(name, memcmp(got, product, sizeof got) == 0);
    char *after = choices_of(dev);
    CHECK(name, count_lines(after) == 2);
    const nv_matrix given[] = {d_y, x, d_w, turned, y};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        dev->ops->release(dev, given[i].data);
    CHECK(name, dev->ops->wait(dev, &err) == NABLA_OK);
    free(before);
    free(after);
    dev->ops->destroy(dev);
}

/* A device, and the product of its choice. */
typedef struct chosen {
    nv_device *dev;
    nv_matrix x, w, y;
    float made[NUMBERS];
} chosen;

static void open_chosen(chosen *c) {
    static float values[NUMBERS];
    c->dev = make();
    fill_normal(values, 0);
    c->x = upload(c->dev, values, NABLA_FP32);
    fill_normal(values, 1);
    c->w = upload(c->dev, values, NABLA_FP32);
    memset(values, 0, sizeof values);
    c->y = upload(c->dev, values, NABLA_FP32);
}

static nabla_status run(chosen *c) {
    return nv_cuda_multiply((nv_cuda *)(void *)c->dev, c->x, c->w, c->y, 0, &err);
}

static void close_chosen(chosen *c) {
    c->dev->ops->release(c->dev, c->x.data);
    c->dev->ops->release(c->dev, c->w.data);
    c->dev->ops->release(c->dev, c->y.data);
    c->dev->ops->destroy(c->dev);
}

static void choices_go_from_device_to_device(void) {
    static chosen one, other;
    int32_t lost = 7;
    open_chosen(&one);
    open_chosen(&other);
    CHECK("choices", run(&one) == NABLA_OK);
    download(one.dev, one.y, one.made);
    char *text = choices_of(one.dev);
    CHECK("choices", count_lines(text) == 1);
    CHECK("choices", other.dev->ops->choose(other.dev, text, &lost, &err) == NABLA_OK);
    CHECK("choices", lost == 0);
    char *taken = choices_of(other.dev); /* before any product: nothing was tried */
    CHECK("choices", strcmp(taken, text) == 0);
    CHECK("choices", run(&other) == NABLA_OK);
    download(other.dev, other.y, other.made);
    CHECK("choices", memcmp(one.made, other.made, sizeof one.made) == 0);
    CHECK("choices", other.dev->ops->choose(other.dev, text, &lost, &err) == NABLA_OK); /* told twice */
    free(taken);
    taken = choices_of(other.dev);
    CHECK("choices", strcmp(taken, text) == 0);
    free(taken);
    free(text);
    close_chosen(&one);
    close_chosen(&other);
}

/* The last number of a line: the shape of clusters. No algorithm has that one. */
static void what_is_not_offered_is_chosen_anew(void) {
    static chosen one, other;
    char foreign[1024];
    int32_t lost = 0;
    open_chosen(&one);
    open_chosen(&other);
    CHECK("anew", run(&one) == NABLA_OK);
    char *text = choices_of(one.dev);
    snprintf(foreign, sizeof foreign, "%.*s 65535\n", (int)(strrchr(text, ' ') - text), text);
    CHECK("anew", other.dev->ops->choose(other.dev, foreign, &lost, &err) == NABLA_OK);
    CHECK("anew", lost == 1);
    char *taken = choices_of(other.dev);
    CHECK("anew", taken[0] == '\0');
    CHECK("anew", run(&other) == NABLA_OK);
    free(taken);
    taken = choices_of(other.dev);
    CHECK("anew", count_lines(taken) == 1);
    free(taken);
    free(text);
    close_chosen(&one);
    close_chosen(&other);
}

static void what_is_no_choice_is_refused(void) {
    static chosen one, other;
    static const char *const texts[] = {"x\n", "\n", "1 2 3\n", "-1", " 512", "99999999999999999999 1\n"};
    char wrong[1024];
    int32_t lost;
    open_chosen(&one);
    open_chosen(&other);
    CHECK("refusal", run(&one) == NABLA_OK);
    char *text = choices_of(one.dev);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CHECK(texts[i], other.dev->ops->choose(other.dev, texts[i], &lost, &err) == NABLA_CORRUPT);
    for (size_t i = 0; text[i]; i++) { /* every number in its turn: negative, and all but the last few far too large */
        if (i > 0 && text[i - 1] != ' ') continue;
        snprintf(wrong, sizeof wrong, "%.*s-%s", (int)i, text, text + i);
        CHECK(wrong, other.dev->ops->choose(other.dev, wrong, &lost, &err) == NABLA_CORRUPT);
        snprintf(wrong, sizeof wrong, "%.*s99999999999%s", (int)i, text, text + i);
        const nabla_status status = other.dev->ops->choose(other.dev, wrong, &lost, &err);
        CHECK(wrong, status == NABLA_CORRUPT || (status == NABLA_OK && lost == 1));
    }
    text[strlen(text) - 1] = '\0'; /* cut short */
    CHECK("cut", other.dev->ops->choose(other.dev, text, &lost, &err) == NABLA_CORRUPT);
    CHECK("refusal", run(&other) == NABLA_OK);
    free(text);
    close_chosen(&one);
    close_chosen(&other);
}

/* What was met before is captured with its choice; what was not is refused, and the capture goes on. */
static void graphs_meet_no_trial(void) {
    static chosen c;
    static float again[NUMBERS];
    open_chosen(&c);
    const cudaStream_t stream = ((nv_cuda *)(void *)c.dev)->stream;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    CHECK("graph", run(&c) == NABLA_INTERNAL);
    CHECK("graph", strstr(err.text, "while its work is being recorded") != NULL);
    void *memory = NULL;
    CHECK("graph", nv_cuda_take((nv_cuda *)(void *)c.dev, 256, &memory, &err) == NABLA_INTERNAL);
    CHECK("graph", cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    cudaGraphDestroy(graph);

    CHECK("graph", run(&c) == NABLA_OK);
    download(c.dev, c.y, c.made);
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    CHECK("graph", run(&c) == NABLA_OK);
    CHECK("graph", cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    CHECK("graph", cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess);
    c.dev->ops->zero(c.dev, c.y.data, NUMBERS * sizeof(float));
    CHECK("graph", cudaGraphLaunch(exec, stream) == cudaSuccess);
    download(c.dev, c.y, again);
    CHECK("graph", memcmp(c.made, again, sizeof again) == 0);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    close_chosen(&c);
}

/* Products of a few rows take what is advised first, in every process the same. */
static void small_products_are_not_tried(void) {
    static chosen c;
    open_chosen(&c);
    c.x.rows = c.y.rows = 8;
    CHECK("small", run(&c) == NABLA_OK);
    char *text = choices_of(c.dev);
    CHECK("small", text[0] == '\0');
    free(text);
    close_chosen(&c);
}

int main(void) {
    if (nabla_device_count(NABLA_CUDA) == 0) {
        printf("check_products_cuda: no GPU here, or no driver for it\n");
        return 0;
    }
    trials_change_nothing(NABLA_FP32);
    trials_change_nothing(NABLA_BF16);
    choices_go_from_device_to_device();
    what_is_not_offered_is_chosen_anew();
    what_is_no_choice_is_refused();
    graphs_meet_no_trial();
    small_products_are_not_tried();
    printf("%d failures\n", failures);
    return failures != 0;
}

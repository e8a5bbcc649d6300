/* SPDX-License-Identifier: Apache-2.0 */
/* Our own products give the same bits for any number of threads, on every level: above all where there is much to sum
   and little to share out. oneDNN's need not: it cuts k by the number of threads where it sees fit. */
#include "device/device.h"
#include "tensor/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int32_t threads[] = {1, 2, 3, 5};
enum { COUNTS = sizeof threads / sizeof *threads };

static const int64_t shapes[][3] = {/* rows, in, out */
                                    {1, 5000, 7},  {3, 4096, 48},   {17, 1537, 33}, {40, 192, 4100},
                                    {77, 40, 200}, {130, 777, 90},  {300, 256, 16}, {5000, 24, 40},
                                    {4100, 8, 1},  {260, 600, 600}, {9001, 3, 20}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static nv_error err;
static int failures;

static void good(nabla_status status) {
    if (status == NABLA_OK) return;
    printf("%s\n", err.text);
    exit(1);
}

static void *room(nv_device *dev, int64_t count) {
    void *data;
    good(dev->ops->allocate(dev, (size_t)count * sizeof(float), &data, &err));
    return data;
}

/* Numbers of one stream each, the same on every device. */
static nv_matrix numbers(nv_device *dev, nabla_dtype dtype, int64_t rows, int64_t cols, uint64_t stream) {
    const nv_matrix from = nv_matrix_of(room(dev, rows * cols), NABLA_FP32, rows, cols),
                    to = nv_matrix_of(room(dev, rows * cols), dtype, rows, cols);
    nv_philox random = nv_philox_at(stream, 0);
    nv_philox_normal(&random, from.data, (size_t)(rows * cols));
    good(dev->ops->cast(dev, from, to, &err));
    dev->ops->release(dev, from.data);
    return to;
}

/* Keeps the first count's result, and holds the others' to it. */
static void compare(nv_device *dev, const char *what, nabla_dtype dtype, const int64_t size[3], nv_matrix y,
                    void **first) {
    const size_t bytes = (size_t)(y.rows * y.cols) * nabla_dtype_size(y.dtype);
    if (!*first) {
        *first = malloc(bytes);
        if (!*first) exit(1);
        memcpy(*first, y.data, bytes);
    } else if (memcmp(*first, y.data, bytes) != 0) {
        printf("%s of %lld x %lld x %lld, %s, %s: bits of %d threads are not those of one\n", what, (long long)size[0],
               (long long)size[1], (long long)size[2], dtype == NABLA_BF16 ? "bf16" : "fp32", dev->level,
               (int)dev->threads);
        failures++;
    }
    dev->ops->release(dev, y.data);
}

static void layer(nv_device *dev, nabla_dtype dtype, const int64_t size[3], void *first[3]) {
    const nv_device_ops *ops = dev->ops;
    const int64_t rows = size[0], in = size[1], out = size[2];
    const nv_matrix x = numbers(dev, dtype, rows, in, 1), w = numbers(dev, dtype, out, in, 2),
                    d_y = numbers(dev, dtype, rows, out, 3), y = numbers(dev, NABLA_FP32, rows, out, 4),
                    d_x = numbers(dev, NABLA_FP32, rows, in, 5), d_w = numbers(dev, NABLA_FP32, out, in, 6);
    good(ops->linear(dev, x, w, NULL, y, &err));
    good(ops->linear_backward_input(dev, d_y, w, d_x, 1, &err));
    good(ops->linear_backward_weight(dev, d_y, x, d_w.data, NULL, &err));
    compare(dev, "a layer", dtype, size, y, &first[0]);
    compare(dev, "a gradient of inputs", dtype, size, d_x, &first[1]);
    compare(dev, "a gradient of weights", dtype, size, d_w, &first[2]);
    ops->release(dev, x.data);
    ops->release(dev, w.data);
    ops->release(dev, d_y.data);
}

static void on_level(const char *level, nabla_dtype dtype) {
    void *layers[SHAPES][3] = {{NULL}};
    for (int count = 0; count < COUNTS; count++) {
        nv_device *dev;
        const nv_device_options options = {.device = NABLA_CPU, .threads = threads[count], .level = level};
        good(nv_device_create(&options, &dev, &err));
        const int own = strncmp(nv_device_products(dev, dtype), "own", 3) == 0;
        for (int i = 0; i < SHAPES && own; i++)
            layer(dev, dtype, shapes[i], layers[i]);
        if (!own && count == 0)
            printf("not compared: %s at level %s is %s\n", dtype == NABLA_BF16 ? "bf16" : "fp32", level,
                   nv_device_products(dev, dtype));
        nv_device_destroy(dev);
    }
    for (int i = 0; i < SHAPES; i++)
        for (int j = 0; j < 3; j++)
            free(layers[i][j]);
}

int main(void) {
    for (int i = 0; nabla_level_name(i); i++) {
        on_level(nabla_level_name(i), NABLA_FP32);
        on_level(nabla_level_name(i), NABLA_BF16);
    }
    printf("%d failures\n", failures);
    return failures != 0;
}

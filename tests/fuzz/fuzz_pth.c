/* SPDX-License-Identifier: Apache-2.0 */
/* The input twice: as a whole archive; and as the pickle of an archive whose storages are there, so that mutations
   get past the directory and its offsets. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weights/set.h"
#include "zip_build.h"

static volatile unsigned sink;

enum { MOST = 1 << 16 /* bytes of a tensor that are read: strides of zero make any size */ };

static void use(const nv_weights *w) {
    for (size_t i = 0; i < nv_weights_count(w); i++) {
        const nv_st_entry *e = nv_weights_at(w, i);
        if (nv_weights_find(w, e->name) != e) abort();
        if (e->bytes > MOST) continue;
        const size_t count = e->bytes / nv_st_dtype_size(e->dtype);
        unsigned char *copy = malloc(e->bytes + 1);
        float *values = malloc(count * sizeof *values + 1);
        nv_error err = {0};
        if (nv_st_read(e, copy, e->bytes, &err) != NABLA_OK) abort();
        if (nv_st_read_f32(e, values, count, &err) == NABLA_OK && count > 0) sink += values[count - 1] > 0.0f;
        if (e->bytes > 0) sink += copy[e->bytes - 1];
        free(copy);
        free(values);
    }
}

static void open_and_use(const uint8_t *data, size_t size) {
    nv_weights *w;
    nv_error err = {0};
    nabla_status status = nv_weights_open_memory(data, size, "fuzz", &w, &err);
    if (status != err.status || (status != NABLA_OK) != (err.text[0] != '\0') || (status == NABLA_OK) != (w != NULL))
        abort();
    if (w) use(w);
    nv_weights_close(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const unsigned char storage[64] = {1, 2, 3};
    const zip_item items[] = {
        {"x/data.pkl", data, size, 0}, {"x/data/0", storage, 32, 0}, {"x/data/1", storage, 64, 0}};
    size_t whole;
    open_and_use(data, size);
    unsigned char *archive = zip_build(items, 3, 0, &whole, NULL), *exact = malloc(whole);
    if (exact) {
        memcpy(exact, archive, whole); /* so that a sanitizer sees any step too far */
        open_and_use(exact, whole);
    }
    free(exact);
    free(archive);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The input twice: as a whole file; and as a header up to the first NUL with data after it, given its right length,
   so that mutations get past the first eight bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "weights/safetensors.h"

static volatile unsigned sink;

/* Touches all that a reader would: every byte, every conversion, every name. */
static void use(const nv_st_file *file) {
    unsigned sum = nv_st_metadata(file, "format") != NULL;
    for (size_t i = 0; i < nv_st_count(file); i++) {
        const nv_st_entry *e = nv_st_at(file, i);
        const unsigned char *bytes = e->data;
        for (size_t b = 0; b < e->bytes; b++) {
            sum += bytes[b];
        }
        if (nv_st_find(file, e->name) != e) abort();
        size_t count = e->bytes / nv_st_dtype_size(e->dtype);
        float *values = malloc(count * sizeof *values + 1);
        nv_error err;
        if (nv_st_read_f32(e, values, count, &err) == NABLA_OK && count > 0) sum += values[count - 1] > 0.0f;
        free(values);
    }
    sink += sum;
}

static void open_and_use(const uint8_t *data, size_t size) {
    nv_st_file *file;
    nv_error err = {0};
    nabla_status status = nv_st_open_memory(data, size, "fuzz", &file, &err);
    if (status != err.status || (status != NABLA_OK) != (err.text[0] != '\0') || (status == NABLA_OK) != (file != NULL))
        abort();
    if (file) use(file);
    nv_st_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    open_and_use(data, size);

    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    uint64_t header = end ? (uint64_t)(end - data) : size;
    size_t rest = end ? size - header - 1 : 0;
    uint8_t *whole = malloc(sizeof header + header + rest);
    if (!whole) return 0;
    memcpy(whole, &header, sizeof header);
    if (header > 0) memcpy(whole + sizeof header, data, header);
    if (rest > 0) memcpy(whole + sizeof header + header, end + 1, rest);
    open_and_use(whole, sizeof header + header + rest);
    free(whole);
    return 0;
}

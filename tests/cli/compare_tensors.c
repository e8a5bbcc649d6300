/* SPDX-License-Identifier: Apache-2.0 */
/* compare_tensors EXPECTED FOUND TOLERANCE NAME...: exit 0 if each named tensor has the same dtype and shape in both
   files and differs by at most TOLERANCE times the largest expected value (integers: not at all). NAME=OTHER where the
   found file calls it OTHER. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/safetensors.h"

static int compare(const nv_st_entry *a, const nv_st_entry *b, const char *name, double tolerance) {
    if (!a || !b || a->dtype != b->dtype || a->rank != b->rank ||
        memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) != 0) {
        printf("%s: missing, or of another dtype or shape\n", name);
        return 1;
    }
    if (a->dtype != NV_ST_F32 && a->dtype != NV_ST_BF16) {
        const int differs = memcmp(a->data, b->data, a->bytes) != 0;
        if (differs) printf("%s: differs\n", name);
        return differs;
    }
    const size_t count = a->bytes / nv_st_dtype_size(a->dtype);
    float *x = malloc(count * sizeof *x), *y = malloc(count * sizeof *y);
    double largest = 0, error = 0;
    int bad = !x || !y || nv_st_read_f32(a, x, count, NULL) || nv_st_read_f32(b, y, count, NULL);
    for (size_t i = 0; !bad && i < count; i++) {
        largest = fmax(largest, fabs((double)x[i]));
        error = fmax(error, fabs((double)x[i] - (double)y[i]));
        bad = !isfinite(y[i]);
    }
    free(x);
    free(y);
    printf("%s: error %.2e of %.2e\n", name, error, largest);
    return bad || !(error <= tolerance * largest);
}

static int compare_named(const nv_st_file *expected, const nv_st_file *found, char *name, double tolerance) {
    char *other = strchr(name, '=');
    if (other) *other++ = '\0';
    return compare(nv_st_find(expected, name), nv_st_find(found, other ? other : name), name, tolerance);
}

int main(int argc, char **argv) {
    nv_st_file *expected, *found;
    nv_error err;
    int bad = 0;
    if (argc < 5) return 2;
    if (nv_st_open(argv[1], &expected, &err) || nv_st_open(argv[2], &found, &err)) {
        printf("%s\n", err.text);
        return 2;
    }
    for (int i = 4; i < argc; i++)
        bad |= compare_named(expected, found, argv[i], strtod(argv[3], NULL));
    nv_st_close(expected);
    nv_st_close(found);
    return bad;
}

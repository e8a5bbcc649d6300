/* SPDX-License-Identifier: Apache-2.0 */
/* Replays files through a fuzzer's entry, so that CTest runs the seed corpus with any compiler. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path) {
    FILE *f = fopen(path, "rb");
    long size = -1;
    if (f && fseek(f, 0, SEEK_END) == 0) size = ftell(f);
    if (size < 0 || fseek(f, 0, SEEK_SET) != 0) {
        fprintf(stderr, "cannot read %s\n", path);
        if (f) fclose(f);
        return 1;
    }
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1); /* exact, for sanitizers */
    int failed = !data || fread(data, 1, (size_t)size, f) != (size_t)size;
    if (!failed) failed = LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    fclose(f);
    return failed;
}

int main(int argc, char **argv) {
    int failed = argc < 2;
    for (int i = 1; i < argc; i++) {
        failed |= replay(argv[i]);
    }
    return failed;
}

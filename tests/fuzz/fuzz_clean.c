/* SPDX-License-Identifier: Apache-2.0 */
/* The cleaner of prompts: what it gives is UTF-8 without control characters of ASCII or white space to collapse. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/chars.h"
#include "text/clean.h"

static void check(const char *text) {
    nv_chars c = {0};
    const size_t size = strlen(text);
    if (nv_chars_read(&c, text, size) != size || c.failed) abort();
    for (size_t i = 0; i < c.count; i++) {
        if (c.at[i] < ' ') abort();
        if (c.at[i] == ' ' && (i == 0 || i + 1 == c.count || c.at[i + 1] == ' ')) abort();
    }
    nv_chars_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1), *out;
    int misread;
    nv_error err = {0};
    if (!text) return 0;
    if (size > 0) memcpy(text, data, size);
    text[size] = '\0';
    const nabla_status status = nv_clean(text, &out, &misread, &err);
    if ((status == NABLA_OK) != (out != NULL) || (status != NABLA_OK) != (err.text[0] != '\0')) abort();
    if (out) check(out);
    free(out);
    free(text);
    return 0;
}

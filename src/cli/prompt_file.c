/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/prompt_file.h"

#include <stdlib.h>
#include <string.h>

#include "cli/report.h"
#include "weights/file.h"

enum { MOST_BYTES = 1 << 24 };

/* Without white space at both ends. */
static char *trim(char *line) {
    static const char white[] = " \t\r\v\f";
    line += strspn(line, white);
    size_t n = strlen(line);
    while (n > 0 && strchr(white, line[n - 1]))
        line[--n] = '\0';
    return line;
}

int cli_prompt_file_read(const char *verb, const char *path, cli_prompt_file *out) {
    size_t size, lines = 1;
    nv_error err = {0};
    *out = (cli_prompt_file){0};
    if (nv_file_read(path, MOST_BYTES, &out->text, &size, &err) != NABLA_OK) return cli_fail(verb, "%s", err.text);
    if (memchr(out->text, '\0', size)) return cli_fail(verb, "'%s' is no text: it holds a NUL", path);
    for (size_t i = 0; i < size; i++)
        lines += out->text[i] == '\n';
    out->prompts = calloc(lines, sizeof *out->prompts);
    if (!out->prompts) return cli_fail(verb, "no memory for the %zu lines of '%s'", lines, path);
    /* Editors of some systems begin a file with a byte order mark, which is no part of the first prompt. */
    static const char mark[] = "\xef\xbb\xbf";
    const size_t skip = strncmp(out->text, mark, sizeof mark - 1) == 0 ? sizeof mark - 1 : 0;
    for (char *line = out->text + skip, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        line = trim(line);
        if (*line) out->prompts[out->count++] = line;
    }
    return out->count ? 0 : cli_misuse(verb, "'%s' holds no prompt: write one a line", path);
}

void cli_prompt_file_free(cli_prompt_file *file) {
    free(file->text);
    free(file->prompts);
    *file = (cli_prompt_file){0};
}

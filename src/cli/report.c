/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/report.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/signals.h"

/* Bytes of the well-formed UTF-8 character at s, or 0: overlong forms, surrogates, C1 controls and the direction marks
   that can disguise a line are not let through. */
static size_t printable_length(const unsigned char *s) {
    if (s[0] < 0x80) return s[0] >= 0x20 && s[0] != 0x7f;
    const size_t n = s[0] >= 0xc2 && s[0] < 0xe0   ? 2
                     : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                     : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                                   : 0;
    if (n == 0) return 0;
    uint32_t point = s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        point = point << 6 | (s[i] & 0x3fu);
    }
    if (n == 2) return point >= 0xa0 ? 2 : 0;
    if (n == 4) return point >= 0x10000 && point <= 0x10ffff ? 4 : 0;
    if (point < 0x800 || (point >= 0xd800 && point < 0xe000)) return 0;
    return (point >= 0x200b && point <= 0x200f) || (point >= 0x2028 && point <= 0x202e) ||
                   (point >= 0x2066 && point <= 0x2069) || point == 0xfeff
               ? 0
               : 3;
}

const char *cli_escape(const char *source, char *text, size_t size) {
    const unsigned char *s = (const unsigned char *)source;
    size_t at = 0;
    while (*s) {
        const size_t n = printable_length(s);
        if (at + 8 > size) { /* room for an escape, or for the mark of a cut */
            memcpy(text + at, "...", 3);
            at += 3;
            break;
        }
        if (n) {
            memcpy(text + at, s, n);
            at += n;
            s += n;
        } else {
            at += (size_t)snprintf(text + at, size - at, "\\x%02x", *s++);
        }
    }
    text[at] = '\0';
    return text;
}

static void say(const char *verb, const char *format, va_list arguments) {
    char sentence[2048], safe[4096];
    vsnprintf(sentence, sizeof sentence, format, arguments);
    fflush(stdout);
    fprintf(stderr, "nabla%s%s: %s\n", verb ? " " : "", verb ? verb : "", cli_escape(sentence, safe, sizeof safe));
}

int cli_misuse(const char *verb, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(verb, format, arguments);
    va_end(arguments);
    return CLI_USAGE;
}

int cli_fail(const char *verb, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    say(verb, format, arguments);
    va_end(arguments);
    return CLI_FAILED;
}

int cli_fail_status(const char *verb, nabla_status status, const char *sentence) {
    if (status == NABLA_CANCELLED) return cli_interrupted(verb);
    if (!sentence || !sentence[0]) sentence = nabla_status_string(status);
    return status == NABLA_INVALID_ARGUMENT ? cli_misuse(verb, "%s", sentence) : cli_fail(verb, "%s", sentence);
}

void cli_note(const char *format, ...) {
    char sentence[2048], safe[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s\n", cli_escape(sentence, safe, sizeof safe));
}

json_t *cli_json_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

int cli_print_json(const char *verb, json_t *value) {
    if (!value) return cli_fail(verb, "the figures do not fit into memory: free some and try again");
    const int failed = json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(value);
    printf("\n");
    return failed ? cli_fail(verb, "cannot write to standard output: %s", strerror(errno)) : CLI_DONE;
}

const char *cli_format_bytes(double bytes, char *text, size_t size) {
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    int unit = 0;
    while (bytes >= 1000 && unit < 4)
        bytes /= 1000, unit++;
    snprintf(text, size, unit == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return text;
}

int cli_check_output(const char *verb, const char *path) {
    char folder[4096];
    struct stat info;
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    if (length >= sizeof folder) return cli_fail(verb, "the path '%.80s...' is too long: give a shorter one", path);
    snprintf(folder, sizeof folder, "%.*s", length ? (int)length : 1, length ? path : ".");
    if (stat(folder, &info) != 0 && errno == ENOENT)
        return cli_fail(verb, "cannot write '%s': the folder '%s' does not exist, make it first", path, folder);
    if (stat(folder, &info) != 0)
        return cli_fail(verb, "cannot write '%s': %s; choose another place", path, strerror(errno));
    if (!S_ISDIR(info.st_mode)) return cli_fail(verb, "cannot write '%s': '%s' is not a folder", path, folder);
    if (access(folder, W_OK | X_OK) != 0)
        return cli_fail(verb, "cannot write '%s': %s; choose another place", path, strerror(errno));
    return 0;
}

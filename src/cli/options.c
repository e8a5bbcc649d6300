/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"

/* ------------------------------------------------------------------ values */

int cli_read_int(const char *text, int64_t min, int64_t max, int64_t *out) {
    const char *digits = text[0] == '-' ? text + 1 : text;
    if (digits[0] == '\0' || strspn(digits, "0123456789") != strlen(digits)) return 0;
    errno = 0;
    const long long value = strtoll(text, NULL, 10);
    if (errno != 0 || value < min || value > max) return 0;
    *out = value;
    return 1;
}

int cli_read_real(const char *text, double min, double max, double *out) {
    if (text[0] == '\0' || strspn(text, "0123456789+-.eE") != strlen(text)) return 0;
    char *end;
    const double value = strtod(text, &end);
    if (*end != '\0' || !isfinite(value) || value < min || value > max) return 0;
    *out = value;
    return 1;
}

int cli_read_box(const char *text, int count, int64_t min, int64_t max, int32_t *out) {
    int32_t values[3];
    for (int i = 0; i < count; i++) {
        const size_t length = strcspn(text, "x");
        char digits[24];
        int64_t value;
        if (length >= sizeof digits || (text[length] == '\0') != (i == count - 1)) return 0;
        memcpy(digits, text, length);
        digits[length] = '\0';
        if (!cli_read_int(digits, min, max, &value)) return 0;
        values[i] = (int32_t)value;
        text += length + 1;
    }
    memcpy(out, values, (size_t)count * sizeof *out);
    return 1;
}

static int read_seed(const char *text, cli_seed *out) {
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text)) return 0;
    errno = 0;
    const unsigned long long value = strtoull(text, NULL, 10);
    if (errno != 0) return 0;
    *out = (cli_seed){value, 1};
    return 1;
}

static int is_choice(const char *choices, const char *text) {
    const size_t length = strlen(text);
    for (const char *at = choices; at != NULL; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (length == strcspn(at, "|") && strncmp(at, text, length) == 0) return length > 0;
    return 0;
}

/* Sizes that Wan2.1's models were trained for. */
static const struct {
    const char *name;
    int32_t size[2];
} presets[] = {{"480p", {832, 480}}, {"720p", {1280, 720}}, {"square", {624, 624}}, {"portrait", {480, 832}}};

static int read_size(const char *text, int64_t min, int64_t max, int32_t *out) {
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        if (strcmp(text, presets[i].name) != 0) continue;
        memcpy(out, presets[i].size, sizeof presets[i].size);
        return out[0] >= min && out[0] <= max && out[1] >= min && out[1] <= max;
    }
    return cli_read_box(text, 2, min, max, out);
}

static int add_text(cli_texts *list, const char *text) {
    if (!text[0] || list->count == CLI_MOST_TEXTS) return 0;
    list->values[list->count++] = text;
    return 1;
}

/* The long form, without the letter. */
static const char *long_name(const cli_option *o) {
    return o->name[1] == ',' ? o->name + 2 : o->name;
}

/* How help calls the value. */
static const char *value_name(const cli_option *o) {
    static const char *const names[] = {[CLI_INT32] = "N", [CLI_INT64] = "N",  [CLI_REAL] = "X",
                                        [CLI_SEED] = "N",  [CLI_SIZE] = "WxH", [CLI_BOX] = "FxHxW"};
    return o->value ? o->value : o->kind == CLI_SWITCH ? "" : names[o->kind];
}

/* What a flag takes, as the end of a sentence. */
static void describe(const cli_option *o, char *text, size_t size) {
    switch (o->kind) {
    case CLI_INT32:
    case CLI_INT64:
        snprintf(text, size, "a whole number from %.0f to %.0f", o->min, o->max);
        break;
    case CLI_REAL:
        snprintf(text, size, "a number from %g to %g", o->min, o->max);
        break;
    case CLI_SEED:
        snprintf(text, size, "a whole number from 0 to 18446744073709551615");
        break;
    case CLI_SIZE:
        snprintf(text, size, "480p, 720p, square, portrait or a size such as 192x128 (each from %.0f to %.0f)", o->min,
                 o->max);
        break;
    case CLI_BOX:
        snprintf(text, size, "frames x height x width such as 4x16x16 (each from %.0f to %.0f)", o->min, o->max);
        break;
    case CLI_CHOICE:
        snprintf(text, size, "one of %s", o->value);
        break;
    case CLI_TEXTS:
        snprintf(text, size, "%s, at most %d times", value_name(o), CLI_MOST_TEXTS);
        break;
    case CLI_TEXT:
    case CLI_PROMPT:
    case CLI_SWITCH:
        snprintf(text, size, "%s", value_name(o));
        break;
    }
}

static int store(const cli_option *o, const char *text, void *settings) {
    char *at = (char *)settings + o->offset;
    int64_t whole;
    double real;
    switch (o->kind) {
    case CLI_SWITCH:
        *(int32_t *)(void *)at = 1;
        return 1;
    case CLI_TEXT:
        *(const char **)(void *)at = text;
        return text[0] != '\0';
    case CLI_PROMPT:
        *(const char **)(void *)at = text;
        return 1;
    case CLI_CHOICE:
        *(const char **)(void *)at = text;
        return is_choice(o->value, text);
    case CLI_INT32:
        if (!cli_read_int(text, (int64_t)o->min, (int64_t)o->max, &whole)) return 0;
        *(int32_t *)(void *)at = (int32_t)whole;
        return 1;
    case CLI_INT64:
        return cli_read_int(text, (int64_t)o->min, (int64_t)o->max, (int64_t *)(void *)at);
    case CLI_REAL:
        if (!cli_read_real(text, o->min, o->max, &real)) return 0;
        *(float *)(void *)at = (float)real;
        return 1;
    case CLI_SEED:
        return read_seed(text, (cli_seed *)(void *)at);
    case CLI_TEXTS:
        return add_text((cli_texts *)(void *)at, text);
    case CLI_SIZE:
        return read_size(text, (int64_t)o->min, (int64_t)o->max, (int32_t *)(void *)at);
    case CLI_BOX:
        return cli_read_box(text, 3, (int64_t)o->min, (int64_t)o->max, (int32_t *)(void *)at);
    }
    return 0;
}

/* ------------------------------------------------------------------ suggestions */

/* Levenshtein distance, neighbours swapped counting one (Damerau's restricted form); long words are cut. */
static int spelling_distance(const char *a, const char *b) {
    enum { LONGEST = 31 };
    int row[3][LONGEST + 2];
    const int n = (int)strnlen(a, LONGEST), m = (int)strnlen(b, LONGEST);
    for (int j = 0; j <= m; j++)
        row[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = row[i % 3];
        const int *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[n % 3][m];
}

const char *cli_nearest(const char *word, const char *const *candidates, int32_t count) {
    const int length = (int)strlen(word);
    int nearest = length < 4 ? 2 : 1 + length / 3; /* a distance that is still a slip */
    const char *found = NULL;
    for (int32_t i = 0; i < count; i++) {
        int distance = spelling_distance(word, candidates[i]);
        const size_t shared = strlen(candidates[i]) < (size_t)length ? strlen(candidates[i]) : (size_t)length;
        if (shared >= 3 && strncmp(word, candidates[i], shared) == 0) distance = distance < 1 ? distance : 1;
        if (distance < nearest) nearest = distance, found = candidates[i];
    }
    return found;
}

static int unknown_flag(const cli_verb *verb, const char *flag, size_t length) {
    char word[48];
    const char *names[64];
    int32_t count = 0;
    snprintf(word, sizeof word, "%.*s", (int)length, flag);
    for (int32_t i = 0; i < verb->option_count && count < CLI_COUNT(names); i++)
        if (verb->options[i].name) names[count++] = long_name(&verb->options[i]);
    const char *near = cli_nearest(word + strspn(word, "-"), names, count);
    if (near) return cli_misuse(verb->name, "unknown flag %s: did you mean --%s?", word, near);
    return cli_misuse(verb->name, "unknown flag %s: nabla %s -H lists what it takes", word, verb->name);
}

/* The choice of o nearest to text, in `near`; 0 if none is. */
static int nearest_choice(const cli_option *o, const char *text, char *near, size_t size) {
    const char *words[16], *found;
    char copy[128], *rest = copy, *at;
    int32_t count = 0;
    if (o->kind != CLI_CHOICE || strlen(o->value) >= sizeof copy) return 0;
    snprintf(copy, sizeof copy, "%s", o->value);
    while (count < CLI_COUNT(words) && (at = strtok_r(rest, "|", &rest)))
        words[count++] = at;
    found = cli_nearest(text, words, count);
    if (found) snprintf(near, size, "%s", found);
    return found != NULL;
}

static int wrong_value(const cli_verb *verb, const cli_option *o, const char *wanted, const char *text) {
    char near[64];
    const char *name = long_name(o);
    if (nearest_choice(o, text, near, sizeof near))
        return cli_misuse(verb->name, "--%s takes %s, not '%s': did you mean %s?", name, wanted, text, near);
    return cli_misuse(verb->name, "--%s takes %s, not '%s'", name, wanted, text);
}

/* ------------------------------------------------------------------ parsing */

static const cli_option *find_option(const cli_verb *verb, const char *argument, size_t length) {
    for (int32_t i = 0; i < verb->option_count; i++) {
        const cli_option *o = &verb->options[i];
        if (!o->name) continue;
        const char *name = long_name(o);
        if (length == 2 && name != o->name && argument[1] == o->name[0]) return o;
        if (length > 2 && strlen(name) == length - 2 && strncmp(argument, "--", 2) == 0 &&
            strncmp(argument + 2, name, length - 2) == 0)
            return o;
    }
    return NULL;
}

/* One flag at argv[*i], and its value, which may be the next argument. */
static int parse_flag(const cli_verb *verb, int argc, char **argv, int *i, void *settings) {
    const char *argument = argv[*i], *value = NULL;
    const size_t length = strcspn(argument, "=");
    char wanted[160];
    const cli_option *o = find_option(verb, argument, length);
    if (!o) return unknown_flag(verb, argument, length);
    const char *name = long_name(o);
    describe(o, wanted, sizeof wanted);
    if (argument[length] == '=') value = argument + length + 1;
    if (o->kind == CLI_SWITCH) {
        if (value) return cli_misuse(verb->name, "--%s takes no value, not '%s': leave '=%s' out", name, value, value);
    } else if (!value) {
        const int textual =
            o->kind == CLI_TEXT || o->kind == CLI_TEXTS || o->kind == CLI_PROMPT || o->kind == CLI_CHOICE;
        if (*i + 1 >= argc || (textual && strncmp(argv[*i + 1], "--", 2) == 0))
            return cli_misuse(verb->name, "--%s needs a value: give %s", name, wanted);
        value = argv[++*i];
    }
    if (!store(o, value, settings)) return wrong_value(verb, o, wanted, value);
    ((cli_common *)settings)->given |= UINT64_C(1) << (o - verb->options);
    return -1;
}

int cli_given(const cli_verb *verb, const cli_common *common, const char *name) {
    for (int32_t i = 0; i < verb->option_count; i++)
        if (verb->options[i].name && strcmp(long_name(&verb->options[i]), name) == 0)
            return (int)(common->given >> i & 1);
    return 0;
}

int cli_parse(const cli_verb *verb, int argc, char **argv, void *settings) {
    cli_common *common = settings;
    int flags = 1;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (flags && strcmp(a, "--") == 0) {
            flags = 0;
        } else if (flags && (strcmp(a, "-h") == 0 || strcmp(a, "--help") == 0 || strcmp(a, "-H") == 0)) {
            cli_print_help(verb, settings, a[1] == 'H');
            return CLI_DONE;
        } else if (flags && a[0] == '-' && a[1] != '\0') {
            const int code = parse_flag(verb, argc, argv, &i, settings);
            if (code >= 0) return code;
        } else if (common->argument_count < verb->max_arguments) {
            common->arguments[common->argument_count++] = a;
        } else {
            return cli_misuse(verb->name, "unexpected argument '%s': %s", a,
                              verb->too_many ? verb->too_many : "leave it out");
        }
    }
    return -1;
}

/* ------------------------------------------------------------------ help */

static void print_default(const cli_option *o, const void *settings) {
    const char *at = (const char *)settings + o->offset;
    const int32_t *whole = (const void *)at;
    switch (o->kind) {
    case CLI_INT32:
        printf("[%d]", *whole);
        break;
    case CLI_INT64:
        printf("[%lld]", (long long)*(const int64_t *)(const void *)at);
        break;
    case CLI_REAL:
        printf("[%g]", (double)*(const float *)(const void *)at);
        break;
    case CLI_SIZE:
        printf("[%dx%d]", whole[0], whole[1]);
        break;
    case CLI_BOX:
        printf("[%dx%dx%d]", whole[0], whole[1], whole[2]);
        break;
    case CLI_TEXT:
    case CLI_PROMPT:
    case CLI_CHOICE:
        printf("[%s]", *(const char *const *)(const void *)at);
        break;
    case CLI_TEXTS:
    case CLI_SEED:
    case CLI_SWITCH:
        break;
    }
}

static void print_row(const cli_option *o, const void *settings) {
    char left[64];
    const char *value = value_name(o);
    const int letter = long_name(o) != o->name;
    snprintf(left, sizeof left, letter ? "-%.1s, --%s%s%s" : "%.0s--%s%s%s", o->name, long_name(o), *value ? " " : "",
             value);
    const size_t length = strlen(o->help), cut = length >= 2 && strcmp(o->help + length - 2, "[]") == 0 ? 2 : 0;
    printf(strlen(left) > 22 ? "  %s\n%25s%.*s" : "  %-22s%1s%.*s", left, "", (int)(length - cut), o->help);
    if (cut) print_default(o, settings);
    printf("\n");
}

void cli_print_help(const cli_verb *verb, const void *settings, int full) {
    printf("usage: nabla %s%s%s [flags]\n%s\n", verb->name, verb->arguments[0] ? " " : "", verb->arguments,
           verb->about ? verb->about : verb->summary);
    int32_t shown = 0;
    for (; shown < verb->option_count && (full || verb->options[shown].name); shown++)
        if (verb->options[shown].name) print_row(&verb->options[shown], settings);
    if (verb->example) printf("%s\n", verb->example);
    if (shown < verb->option_count) printf("%d more flags: nabla %s -H\n", verb->option_count - shown - 1, verb->name);
}

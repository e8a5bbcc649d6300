/* SPDX-License-Identifier: Apache-2.0 */
/* Flags of a verb: one table says what it takes, and parsing, checks, help and suggestions all come from that table. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "nabla/nabla.h"

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 }; /* exit codes */

typedef enum cli_kind {
    CLI_SWITCH, /* int32_t, set to 1; takes no value */
    CLI_TEXT,   /* const char *, not empty */
    CLI_PROMPT, /* const char *, which may be empty */
    CLI_TEXTS,  /* cli_texts: not empty, as often as one likes */
    CLI_CHOICE, /* const char *, one of `choices` */
    CLI_INT32,  /* int32_t in [min, max] */
    CLI_INT64,  /* int64_t in [min, max] */
    CLI_REAL,   /* float in [min, max] */
    CLI_SEED,   /* cli_seed: 0 to 2^64 - 1 */
    CLI_SIZE,   /* int32_t[2]: WxH, each in [min, max]; or a preset by name */
    CLI_BOX     /* int32_t[3]: FxHxW, each in [min, max] */
} cli_kind;

typedef struct cli_seed {
    uint64_t value;
    int32_t given;
} cli_seed;

enum { CLI_MOST_TEXTS = 16 };

typedef struct cli_texts {
    const char *values[CLI_MOST_TEXTS];
    int32_t count;
} cli_texts;

/* A row of a verb's table, made by the macros below. */
typedef struct cli_option {
    const char *name; /* without the dashes; "o,output" also has a letter; NULL: the CLI_MORE row */
    cli_kind kind;
    const char *value; /* how help calls the value: "FILE"; of a choice the choices: "fp32|bf16" */
    size_t offset;     /* of the value in the verb's settings */
    double min, max;
    const char *help; /* a trailing "[]" is filled with the default, read from the settings */
} cli_option;

/* Each verb's file calls its struct `settings`; the member comes as offsetof takes it. */
#define CLI_FLAG(name, kind, value, member, help) \
    { name, CLI_##kind, value, offsetof(settings, member), 0, 0, help }
#define CLI_RANGE(name, kind, member, min, max, help) \
    { name, CLI_##kind, NULL, offsetof(settings, member), min, max, help }
/* Rows after this one are shown by -H only, so that -h fits a screen. */
#define CLI_MORE \
    { NULL, CLI_SWITCH, NULL, 0, 0, 0, NULL }

enum { CLI_MAX_ARGUMENTS = 8 };

/* What every verb's settings begin with. */
typedef struct cli_common {
    const char *device, *level, *dtype, *policy;
    int32_t threads; /* 0: all */
    int32_t json, quiet, profile;
    const char *arguments[CLI_MAX_ARGUMENTS]; /* what is not a flag */
    int32_t argument_count;
    uint64_t given; /* a bit for each row of the verb's table whose flag was there */
} cli_common;

typedef struct cli_verb {
    const char *name;
    const char *arguments; /* for the usage line: "IN.safetensors --grid FxHxW" */
    const char *summary;   /* one line for the list of verbs */
    const char *about;     /* more for -h; may be NULL */
    const char *example;   /* may be NULL */
    const cli_option *options;
    int32_t option_count;
    int32_t max_arguments;
    const char *too_many; /* remedy when there are more arguments; may be NULL */
    int (*run)(const struct cli_verb *verb, int argc, char **argv);
} cli_verb;

#define CLI_COUNT(array) ((int32_t)(sizeof(array) / sizeof((array)[0])))

/* Rows that verbs share; the settings' first member is `cli_common common`. */
#define CLI_DEVICE CLI_FLAG("device", TEXT, "NAME", common.device, "cpu, cuda or cuda:N [cpu]")
#define CLI_THREADS CLI_RANGE("threads", INT32, common.threads, 1, 4096, "processor threads [all]")
#define CLI_LEVEL CLI_FLAG("level", TEXT, "LEVEL", common.level, "kernels, as nabla info lists them [the best]")
#define CLI_DTYPE(help) CLI_FLAG("dtype", CHOICE, "fp32|bf16", common.dtype, help)
#define CLI_POLICY(help) CLI_FLAG("policy", TEXT, "POLICY", common.policy, help)
#define CLI_JSON CLI_FLAG("json", SWITCH, NULL, common.json, "figures as JSON on stdout")
#define CLI_PROFILE CLI_FLAG("profile", SWITCH, NULL, common.profile, "where the time went, a line a part and phase")
#define CLI_QUIET CLI_FLAG("q,quiet", SWITCH, NULL, common.quiet, "no progress, errors only")

/* Reads argv[1..] into settings, which hold the defaults. Returns -1 to go on, else the exit code: 0 after help was
   asked for (printed), 2 after a mistake (said). */
int cli_parse(const cli_verb *verb, int argc, char **argv, void *settings);

/* Whether the flag of that long name was there. */
int cli_given(const cli_verb *verb, const cli_common *common, const char *name);

/* full 0: what fits a screen; 1: every flag. */
void cli_print_help(const cli_verb *verb, const void *settings, int full);

/* Numbers written in full, nothing before or after; 0 if not so or out of range. */
int cli_read_int(const char *text, int64_t min, int64_t max, int64_t *out);
int cli_read_real(const char *text, double min, double max, double *out);
/* count numbers joined by 'x', such as 21x60x104. */
int cli_read_box(const char *text, int count, int64_t min, int64_t max, int32_t *out);

/* The candidate nearest to word in spelling, or NULL if none is near. */
const char *cli_nearest(const char *word, const char *const *candidates, int32_t count);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What the command says: sentences about failures on stderr, figures on stdout. */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "cli/options.h"

/* "nabla VERB: sentence" on stderr, with whatever could upset a terminal escaped; return the exit code. verb may be
   NULL. */
int cli_misuse(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_fail(const char *verb, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a library's failure: wrong values are misuse, a cancelled call is an interruption. */
int cli_fail_status(const char *verb, nabla_status status, const char *sentence);
/* A remark that is no failure. */
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Text from a file, with control characters and broken UTF-8 written as \xNN; cut to fit. Returns text. */
const char *cli_escape(const char *source, char *text, size_t size);

/* One JSON document on stdout, a line feed after it; frees it. */
int cli_print_json(const char *verb, json_t *value);
/* null where a figure is not a number, which JSON cannot hold. */
json_t *cli_json_real(double value);

/* 1234567 -> "1.2 MB" and the like, in a buffer of the caller's. Returns text. */
const char *cli_format_bytes(double bytes, char *text, size_t size);

/* 0 unless `path` can be made or replaced: its folder exists and can be written. The sentence goes to stderr. Asked
   before long work, so that a slip in a path costs nothing. */
int cli_check_output(const char *verb, const char *path);

#endif

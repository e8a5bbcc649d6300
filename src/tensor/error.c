/* SPDX-License-Identifier: Apache-2.0 */
#include "tensor/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Names out of hostile files must not break the sentence into lines or reach a terminal as commands. */
static void hide_control_characters(char *text) {
    for (; *text; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f) *text = '?';
    }
}

nabla_status nv_fail(nv_error *err, nabla_status status, const char *format, ...) {
    if (!err) return status;
    /* Formatted aside first: an argument may be err->text itself. */
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    hide_control_characters(text);
    err->status = status;
    memcpy(err->text, text, sizeof text);
    return status;
}

nabla_status nv_fail_in(nv_error *err, const char *format, ...) {
    if (!err) return NABLA_INTERNAL; /* nothing remembers the status: callers keep their own */
    char context[sizeof err->text], cause[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(context, sizeof context, format, args);
    va_end(args);
    memcpy(cause, err->text, sizeof cause);
    return nv_fail(err, err->status, "%s: %s", context, cause);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of policies: terms joined by '_', of which int8 says how to compute and the others which blocks. Numbers
   are read and written without the locale. */
#include "policy.h"
#include "device.h"

#include <stdio.h>
#include <string.h>

#define USAGE                                                                                                          \
    "use dense, nabla-<thr>, sta-<wT>-<wH>-<wW>, or terms joined by _ such as nabla-0.7_sta-11-3-3; _int8 last for 8 " \
    "bits"
#define NO_BLOCKS "int8 says how to compute, not which blocks to keep: join it to a term that does, such as dense_int8"
#define CPU_ALONE "int8 attention runs on the CPU alone, this context is %s's: leave _int8 out"

enum { MAX_WINDOW = 1000000, MAX_FRACTION = 18, SHOWN = 80 /* characters of foreign text in a message */ };

/* A piece of the policy's text: [at, end). */
typedef struct cursor {
    const char *at, *end;
} cursor;

static bool digit(cursor c) {
    return c.at < c.end && *c.at >= '0' && *c.at <= '9';
}

static bool take(cursor *c, char expected) {
    if (c->at == c->end || *c->at != expected) return false;
    c->at++;
    return true;
}

/* digits ['.' digits], the whole of c; at most 18 digits a side, so that the integers are exact. */
static bool parse_decimal(cursor c, double *out) {
    int64_t value = 0, unit = 1;
    int digits = 0;
    for (; digit(c) && digits < MAX_FRACTION; digits++, c.at++)
        value = value * 10 + (*c.at - '0');
    if (!digits) return false;
    *out = (double)value;
    if (take(&c, '.')) {
        value = 0;
        for (digits = 0; digit(c) && digits < MAX_FRACTION; digits++, c.at++) {
            value = value * 10 + (*c.at - '0');
            unit *= 10;
        }
        *out += (double)value / (double)unit;
        if (!digits) return false;
    }
    return c.at == c.end;
}

/* digits from 1 to MAX_WINDOW; leaves the cursor after them. */
static bool parse_window(cursor *c, int32_t *out) {
    int32_t value = 0;
    if (!digit(*c)) return false;
    for (; digit(*c); c->at++) {
        value = value * 10 + (*c->at - '0');
        if (value > MAX_WINDOW) return false;
    }
    *out = value;
    return value >= 1;
}

static nabla_status bad(nabla_context *ctx, cursor term, const char *why) {
    const int length = term.end - term.at > SHOWN ? SHOWN : (int)(term.end - term.at);
    return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "policy term '%.*s' %s", length, term.at, why);
}

static bool starts(cursor c, const char *word) {
    const size_t n = strlen(word);
    return (size_t)(c.end - c.at) >= n && !memcmp(c.at, word, n);
}

static nabla_status parse_nabla(nabla_context *ctx, cursor term, nabla_policy *p) {
    double thr;
    if (p->has_nabla) return bad(ctx, term, "comes after another nabla term; give one");
    if (!parse_decimal((cursor){term.at + strlen("nabla-"), term.end}, &thr) || !(thr > 0.0 && thr <= 1.0) ||
        (float)thr == 0.0f)
        return bad(ctx, term, "needs a probability mass to keep, above 0 and at most 1, such as nabla-0.7");
    p->has_nabla = 1;
    p->thr = (float)thr;
    return NABLA_OK;
}

static nabla_status parse_sta(nabla_context *ctx, cursor term, nabla_policy *p) {
    cursor c = {term.at + strlen("sta-"), term.end};
    if (p->has_sta) return bad(ctx, term, "comes after another sta term; give one");
    if (!parse_window(&c, &p->sta_frames) || !take(&c, '-') || !parse_window(&c, &p->sta_height) || !take(&c, '-') ||
        !parse_window(&c, &p->sta_width) || c.at != c.end)
        return bad(ctx, term,
                   "needs three windows in tiles of 1 to 1000000 (frames, height, width), such as sta-11-3-3");
    p->has_sta = 1;
    return NABLA_OK;
}

static bool is(cursor c, const char *word) {
    return starts(c, word) && c.end - c.at == (ptrdiff_t)strlen(word);
}

static nabla_status parse_term(nabla_context *ctx, cursor term, nabla_policy *p) {
    if (starts(term, "nabla-")) return parse_nabla(ctx, term, p);
    if (starts(term, "sta-")) return parse_sta(ctx, term, p);
    if (is(term, "int8")) {
        if (p->int8) return bad(ctx, term, "comes after another int8 term; give one");
        p->int8 = 1;
        return NABLA_OK;
    }
    if (!is(term, "dense")) return bad(ctx, term, "is unknown; " USAGE);
    if (p->dense) return bad(ctx, term, "comes after another dense term; give one");
    p->dense = 1;
    return NABLA_OK;
}

/* What a policy must be however it was made. */
static nabla_status check_terms(nabla_context *ctx, const nabla_policy *p) {
    if (!p->dense && !p->has_nabla && !p->has_sta)
        return p->int8 ? nabla_fail(ctx, NABLA_INVALID_ARGUMENT, NO_BLOCKS)
                       : nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "the policy has no term; " USAGE);
    if (p->int8 && ctx && ctx->place.device != NABLA_CPU)
        return nabla_fail(ctx, NABLA_UNSUPPORTED, CPU_ALONE, ctx->ops->name);
    return NABLA_OK;
}

nabla_status nabla_policy_parse(nabla_context *ctx, const char *text, nabla_policy *out) {
    if (!out) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "out is NULL");
    *out = (nabla_policy){.size = sizeof *out};
    if (!text || !*text) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "the policy is empty; " USAGE);
    nabla_policy parsed = *out;
    for (cursor term = {text, text};; term.at = term.end + 1) {
        term.end = term.at + strcspn(term.at, "_");
        nabla_status status = parse_term(ctx, term, &parsed);
        if (status) return status;
        if (!*term.end) break;
    }
    if (parsed.dense && (parsed.has_nabla || parsed.has_sta))
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "policy '%.80s' joins dense with other terms; dense keeps everything and stands alone", text);
    const nabla_status status = check_terms(ctx, &parsed);
    if (!status) *out = parsed;
    return status;
}

nabla_status nabla_check_policy(nabla_context *ctx, const nabla_policy *p) {
    if (!p) return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "policy is NULL");
    nabla_status status = nabla_check_struct(ctx, "nabla_policy", p->size, sizeof *p);
    if (status) return status;
    status = check_terms(ctx, p);
    if (status) return status;
    if (p->dense && (p->has_nabla || p->has_sta))
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT,
                          "the policy joins dense with other terms; dense keeps everything and stands alone");
    if (p->has_nabla && !(p->thr > 0.0f && p->thr <= 1.0f))
        return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "policy thr is %g; it must be above 0 and at most 1",
                          (double)p->thr);
    const int32_t window[] = {p->sta_frames, p->sta_height, p->sta_width};
    for (int i = 0; p->has_sta && i < 3; i++)
        if (window[i] < 1 || window[i] > MAX_WINDOW)
            return nabla_fail(ctx, NABLA_INVALID_ARGUMENT, "policy window %d-%d-%d must lie in 1 to %d each",
                              (int)window[0], (int)window[1], (int)window[2], (int)MAX_WINDOW);
    return NABLA_OK;
}

/* The fewest decimals that read back as the same float. */
static int format_thr(float thr, char *text, size_t size) {
    int64_t unit = 1;
    int decimals = 0;
    for (; decimals < MAX_FRACTION - 1; decimals++, unit *= 10) {
        const double nearest = (double)(int64_t)((double)thr * (double)unit + 0.5);
        if ((float)(nearest / (double)unit) == thr) break;
    }
    const int64_t scaled = (int64_t)((double)thr * (double)unit + 0.5);
    if (!decimals) return snprintf(text, size, "nabla-%lld", (long long)scaled);
    return snprintf(text, size, "nabla-%lld.%0*lld", (long long)(scaled / unit), decimals, (long long)(scaled % unit));
}

int nabla_policy_format(const nabla_policy *p, char *text, size_t text_size) {
    char nabla[64] = "", sta[64] = "";
    if (!p) return snprintf(text, text_size, "%s", "");
    if (p->has_nabla) format_thr(p->thr, nabla, sizeof nabla);
    if (p->has_sta)
        snprintf(sta, sizeof sta, "sta-%d-%d-%d", (int)p->sta_frames, (int)p->sta_height, (int)p->sta_width);
    return snprintf(text, text_size, "%s%s%s%s%s", p->dense ? "dense" : "", nabla, *nabla && *sta ? "_" : "", sta,
                    p->int8 ? "_int8" : "");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Policies: what parses is within its bounds and reads back as it was written; what does not, says why. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nabla/nabla.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_parsed(nabla_context *ctx, const nabla_policy *p) {
    nabla_policy again;
    char text[128];
    if (p->has_nabla && !(p->thr > 0.0f && p->thr <= 1.0f)) abort();
    if (p->has_sta && (p->sta_frames < 1 || p->sta_height < 1 || p->sta_width < 1)) abort();
    if (!p->dense && !p->has_nabla && !p->has_sta) abort();
    const int length = nabla_policy_format(p, text, sizeof text);
    if (length < 1 || (size_t)length >= sizeof text || nabla_policy_parse(ctx, text, &again)) abort();
    if (memcmp(p, &again, sizeof again)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static nabla_context *ctx;
    if (!ctx && nabla_context_create(NULL, &ctx, NULL, 0)) abort();
    char *text = malloc(size + 1); /* exact, for sanitizers */
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    nabla_policy policy;
    memset(&policy, 0x5a, sizeof policy);
    if (!nabla_policy_parse(ctx, text, &policy))
        check_parsed(ctx, &policy);
    else if (!*nabla_context_message(ctx))
        abort();
    free(text);
    return 0;
}

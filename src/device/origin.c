/* SPDX-License-Identifier: Apache-2.0 */
#include "device/origin.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void describe(const nv_device *dev, char *text, size_t size) {
    const char *fp32 = nv_device_products(dev, NABLA_FP32), *bf16 = nv_device_products(dev, NABLA_BF16);
    const int same = strcmp(fp32, bf16) == 0;
    char place[160];
    if (dev->name[0]) /* a GPU, where threads change no bits */
        snprintf(place, sizeof place, "%s, level %s", dev->name, dev->level);
    else
        snprintf(place, sizeof place, "level %s, %d threads", dev->level, (int)dev->threads);
    snprintf(text, size, "%s, %s, products by %s%s%s", dev->kind, place, fp32, same ? "" : " and ", same ? "" : bf16);
}

nabla_status nv_origin_open(nv_device *dev, nv_origin *out, nv_error *err) {
    describe(dev, out->machine, sizeof out->machine);
    return dev->ops->choices(dev, &out->choices, err);
}

void nv_origin_close(nv_origin *o) {
    free(o->choices);
    o->choices = NULL;
}

/* Text of a file, as far as it fits, in ASCII that can be printed. */
static void copy_clean(char *out, size_t size, const char *text) {
    snprintf(out, size, "%s", text);
    for (; *out; out++)
        if ((unsigned char)*out < 0x20 || (unsigned char)*out > 0x7e) *out = '?';
}

nabla_status nv_origin_go_on(nv_device *dev, const char *machine, const char *choices, char note[NV_ORIGIN_NOTE],
                             nv_error *err) {
    char here[320], there[200];
    int32_t lost = 0;
    note[0] = '\0';
    describe(dev, here, sizeof here);
    if (machine && choices && strcmp(machine, here) == 0) {
        NV_TRY(dev->ops->choose(dev, choices, &lost, err));
        if (lost > 0)
            snprintf(note, NV_ORIGIN_NOTE,
                     "%d of the algorithms that the run's products took are not offered here any more and others are "
                     "chosen: bits may differ from those of a run left alone",
                     (int)lost);
        return NABLA_OK;
    }
    copy_clean(there, sizeof there, machine ? machine : "a machine that its file does not name");
    snprintf(note, NV_ORIGIN_NOTE,
             "the run so far was made on %s; this is %.200s: bits may differ from those of a run left alone", there,
             here);
    return NABLA_OK;
}

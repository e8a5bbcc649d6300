/* SPDX-License-Identifier: Apache-2.0 */
/* Where a run's state was made, for the file that keeps it: bits depend on the machine, and on what its device chose by
   the clock. */
#ifndef NV_ORIGIN_H
#define NV_ORIGIN_H

#include "device/device.h"

enum { NV_ORIGIN_NOTE = 512 /* room for a note */ };

typedef struct nv_origin {
    char machine[320]; /* "cpu, level amx, 16 threads, products by oneDNN 3.1", "cuda, NVIDIA H100 ..., level sm90, ..."
                        */
    char *choices;     /* nv_device_ops.choices; freed by nv_origin_close */
} nv_origin;

nabla_status nv_origin_open(nv_device *dev, nv_origin *out, nv_error *err);
void nv_origin_close(nv_origin *o);

/* A run goes on here from a state that was made there (NULL: the file does not say). On the same machine the device
   takes its choices. note: a sentence where bits may differ from those of a run left alone, else "". */
nabla_status nv_origin_go_on(nv_device *dev, const char *machine, const char *choices, char note[NV_ORIGIN_NOTE],
                             nv_error *err);

#endif

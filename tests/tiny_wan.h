/* SPDX-License-Identifier: Apache-2.0 */
/* The transformer of data/wan (make_wan.py): its sizes, a device for a test group, and loading it. */
#ifndef NABLA_TINY_WAN_H
#define NABLA_TINY_WAN_H

#include "dit/dit.h"

extern const nv_dit_config tiny_wan_config;
extern nv_device *tiny_wan_device; /* between the two below */

int tiny_wan_setup(void **state);    /* group setup: a scratch folder too */
int tiny_wan_teardown(void **state); /* group teardown */

/* names NULL: as found. Fails the test where it does not load. */
nv_dit *tiny_wan_load(const char *path, const nv_dit_names *names);

#endif

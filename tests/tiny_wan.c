/* SPDX-License-Identifier: Apache-2.0 */
#include "tiny_wan.h"

#include "check.h"
#include "scratch.h"

const nv_dit_config tiny_wan_config = {.patch = {1, 2, 1},
                                       .in_channels = 3,
                                       .out_channels = 4,
                                       .heads = 2,
                                       .head_dim = 16,
                                       .layers = 1,
                                       .ffn_dim = 40,
                                       .freq_dim = 32,
                                       .text_dim = 20,
                                       .cross_attn_norm = 1,
                                       .rope_max = 64,
                                       .eps = 1e-6f};

nv_device *tiny_wan_device;

int tiny_wan_setup(void **state) {
    const nv_device_options options = {.threads = 2};
    return scratch_make(state) || nv_device_create(&options, &tiny_wan_device, NULL) != NABLA_OK;
}

int tiny_wan_teardown(void **state) {
    nv_device_destroy(tiny_wan_device);
    return scratch_remove(state);
}

nv_dit *tiny_wan_load(const char *path, const nv_dit_names *names) {
    nv_weights *w;
    nv_dit *m;
    GOOD(nv_weights_open(path, &w, why));
    GOOD(nv_dit_create(tiny_wan_device, &tiny_wan_config, NABLA_FP32, NV_DIT_INFER, &m, why));
    GOOD(nv_dit_load(m, w, names, NULL, NULL, why));
    nv_weights_close(w);
    return m;
}

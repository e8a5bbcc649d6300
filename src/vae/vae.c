/* SPDX-License-Identifier: Apache-2.0 */
#include "vae/vae.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vae/layers.h"

/* ------------------------------------------------------------------ sizes from shapes */

/* Wan2.1's, for files without a configuration. */
static const float wan_mean[16] = {-0.7571f, -0.7089f, -0.9113f, 0.1075f,  -0.1745f, 0.9653f,  -0.1517f, 1.5508f,
                                   0.4134f,  -0.0715f, 0.5517f,  -0.3632f, -0.1922f, -0.9497f, 0.2503f,  -0.2921f};
static const float wan_std[16] = {2.8184f, 1.4541f, 2.3275f, 2.6558f, 1.2196f, 1.7708f, 2.6052f, 2.0743f,
                                  3.2687f, 2.1526f, 2.8652f, 1.5579f, 1.6382f, 1.1253f, 2.8251f, 1.9160f};

/* shape[axis] of the tensor "<a>.<i><b>"; 0 where there is none or it is beyond any model's. i < 0: "<a><b>". */
static int32_t size_of(const nv_weights *file, const char *a, int32_t i, const char *b, int axis) {
    char name[96], number[16] = "";
    if (i >= 0) snprintf(number, sizeof number, ".%d", i);
    snprintf(name, sizeof name, "%s%s%s", a, number, b);
    const nv_st_entry *e = nv_weights_find(file, name);
    return e && e->rank > axis && e->shape[axis] <= NV_VAE_MOST_CHANNELS ? (int32_t)e->shape[axis] : 0;
}

/* Walks the encoder's one list of blocks and resamplings. */
static int read_levels(const nv_weights *file, int original, nv_vae_config *c) {
    const char *list = original ? "encoder.downsamples" : "encoder.down_blocks";
    const char *conv = original ? ".residual.2.weight" : ".conv1.weight";
    int32_t blocks = 0, dim = c->base_dim;
    c->levels = 1;
    for (int32_t i = 0;; i++) {
        const int32_t out = size_of(file, list, i, conv, 0);
        const int resample = size_of(file, list, i, ".resample.1.weight", 0) > 0;
        if (out > 0) {
            if (out % c->base_dim || ++blocks > NV_VAE_MOST_BLOCKS) return 0;
            dim = out;
            continue;
        }
        if (blocks == 0 || (c->levels > 1 && blocks != c->res_blocks)) return 0;
        c->res_blocks = blocks;
        c->dim_mult[c->levels - 1] = dim / c->base_dim;
        if (!resample) return 1;
        if (c->levels == NV_VAE_MOST_LEVELS) return 0;
        c->temporal[c->levels++ - 1] = size_of(file, list, i, ".time_conv.weight", 0) > 0;
        blocks = 0;
    }
}

nabla_status nv_vae_config_from(const nv_weights *file, nv_vae_config *out, nv_error *err) {
    const int original = !nv_weights_find(file, "decoder.conv_in.weight");
    nv_vae_config c = {0};
    c.base_dim = size_of(file, original ? "encoder.conv1" : "encoder.conv_in", -1, ".weight", 0);
    c.z_dim = size_of(file, original ? "decoder.conv1" : "decoder.conv_in", -1, ".weight", 1);
    const int32_t widest = size_of(file, original ? "decoder.conv1" : "decoder.conv_in", -1, ".weight", 0);
    if (c.base_dim < 1 || c.z_dim < 1 || widest < 1)
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "the file holds no Wan2.1 VAE: neither decoder.conv_in.weight nor decoder.conv1.weight is there "
                       "with an encoder beside it");
    if (!read_levels(file, original, &c) || widest % c.dim_mult[c.levels - 1])
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "the sizes of the VAE's tensors are not those of Wan2.1's (Wan2.2's is another kind)");
    c.decoder_base_dim = widest / c.dim_mult[c.levels - 1];
    if (c.z_dim != 16)
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "the VAE has %d latent channels and no config.json that gives their mean and deviation",
                       c.z_dim);
    memcpy(c.mean, wan_mean, sizeof wan_mean);
    memcpy(c.std, wan_std, sizeof wan_std);
    *out = c;
    return NABLA_OK;
}

/* ------------------------------------------------------------------ life */

static void describe(nv_vae *vae, nv_device *device, const nv_vae_config *config, nabla_dtype compute) {
    *vae = (nv_vae){.device = device, .config = *config, .compute = compute};
    nv_vae_build_decoder(config, &vae->decoder);
    nv_vae_build_encoder(config, &vae->encoder);
    vae->post_quant = (nv_vae_linear){.in = config->z_dim, .out = config->z_dim};
    vae->quant = (nv_vae_linear){.in = 2 * config->z_dim, .out = 2 * config->z_dim};
}

static size_t conv_bytes(const nv_device *dev, const nv_vae_conv *c, nabla_dtype compute) {
    const size_t parts = (size_t)c->parts;
    if (!c->taps) return 0;
    return parts * (size_t)c->taps * dev->ops->conv_weights_bytes(dev, &c->shape, compute) +
           parts * (size_t)c->shape.out * sizeof(float);
}

nabla_status nv_vae_estimate(nv_device *device, const nv_vae_config *config, nabla_dtype compute,
                             const nv_vae_decode_options *o, size_t *weights, size_t *decoding, nv_error *err) {
    nv_vae *vae = malloc(sizeof *vae);
    if (!vae) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a VAE");
    describe(vae, device, config, compute);
    *weights = 0;
    for (int32_t i = 0; i < vae->decoder.count; i++)
        for (int k = 0; k < 2; k++) {
            const nv_vae_layer *l = &vae->decoder.layers[i];
            *weights += conv_bytes(device, &l->conv[k], compute) +
                        ((size_t)l->linear[k].in + 1) * (size_t)l->linear[k].out * sizeof(float);
        }
    const nabla_status status = nv_vae_decode_memory(vae, o, decoding, err);
    free(vae);
    return status;
}

nabla_status nv_vae_create(nv_device *device, const nv_vae_config *config, nabla_dtype compute, int parts,
                           const nv_weights *file, nv_vae **out, nv_error *err) {
    *out = NULL;
    nv_vae *vae = calloc(1, sizeof *vae);
    if (!vae) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a VAE");
    describe(vae, device, config, compute);
    const nabla_status status = nv_vae_load(vae, parts, file, err);
    if (status != NABLA_OK) {
        nv_vae_destroy(vae);
        return status;
    }
    *out = vae;
    return NABLA_OK;
}

static void release_linear(nv_device *dev, nv_vae_linear *l) {
    dev->ops->release(dev, l->weight);
    dev->ops->release(dev, l->bias);
}

static void release_stack(nv_device *dev, nv_vae_stack *s) {
    for (int32_t i = 0; i < s->count; i++)
        for (int k = 0; k < 2; k++) {
            nv_vae_layer *l = &s->layers[i];
            dev->ops->release(dev, l->gamma[k]);
            dev->ops->release(dev, l->conv[k].bias);
            release_linear(dev, &l->linear[k]);
            for (int j = 0; j < 2 * NV_VAE_TAPS; j++)
                dev->ops->conv_weights_release(dev, l->conv[k].weights[j / NV_VAE_TAPS][j % NV_VAE_TAPS]);
        }
}

void nv_vae_destroy(nv_vae *vae) {
    if (!vae) return;
    release_stack(vae->device, &vae->decoder);
    release_stack(vae->device, &vae->encoder);
    release_linear(vae->device, &vae->quant);
    release_linear(vae->device, &vae->post_quant);
    free(vae);
}

const nv_vae_config *nv_vae_get_config(const nv_vae *vae) {
    return &vae->config;
}

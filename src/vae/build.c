/* SPDX-License-Identifier: Apache-2.0 */
/* The two stacks of layers that a configuration describes, each layer with its name in diffusers' layout and in the
   original's, whose encoder and decoder count their blocks and resamplings in one list. */
#include "vae/layers.h"

#include <stdio.h>
#include <string.h>

static nv_vae_layer *append(nv_vae_stack *s, nv_vae_kind kind, int32_t in, int32_t out) {
    nv_vae_layer *l = &s->layers[s->count++];
    *l = (nv_vae_layer){.kind = kind, .in = in, .out = out};
    return l;
}

static void name(nv_vae_layer *l, const char *diffusers, const char *original) {
    snprintf(l->name[0], sizeof l->name[0], "%s", diffusers);
    snprintf(l->name[1], sizeof l->name[1], "%s", original);
}

/* A convolution in space, or in time where taps says so; parts share out `out`. */
static nv_vae_conv convolution(int32_t in, int32_t out, int32_t taps, int32_t kernel, int32_t parts) {
    return (nv_vae_conv){.shape = {in, out, kernel, 1, kernel / 2, kernel / 2}, .taps = taps, .parts = parts};
}

static void append_conv_in(nv_vae_stack *s, const char *part, int32_t in, int32_t out) {
    char diffusers[48], original[48];
    nv_vae_layer *l = append(s, NV_VAE_CONV, in, out);
    snprintf(diffusers, sizeof diffusers, "%s.conv_in", part);
    snprintf(original, sizeof original, "%s.conv1", part);
    name(l, diffusers, original);
    l->conv[0] = convolution(in, out, NV_VAE_TAPS, 3, 1);
}

static nv_vae_layer *append_residual(nv_vae_stack *s, int32_t in, int32_t out) {
    nv_vae_layer *l = append(s, NV_VAE_RESIDUAL, in, out);
    l->conv[0] = convolution(in, out, NV_VAE_TAPS, 3, 1);
    l->conv[1] = convolution(out, out, NV_VAE_TAPS, 3, 1);
    if (in != out) l->linear[0] = (nv_vae_linear){.in = in, .out = out};
    return l;
}

static void append_middle(nv_vae_stack *s, const char *part, int32_t dim) {
    static const char *const places[3] = {"resnets.0", "attentions.0", "resnets.1"};
    char diffusers[48], original[48];
    for (int32_t i = 0; i < 3; i++) {
        nv_vae_layer *l = i == 1 ? append(s, NV_VAE_ATTENTION, dim, dim) : append_residual(s, dim, dim);
        if (i == 1) {
            l->linear[0] = (nv_vae_linear){.in = dim, .out = 3 * dim};
            l->linear[1] = (nv_vae_linear){.in = dim, .out = dim};
        }
        snprintf(diffusers, sizeof diffusers, "%s.mid_block.%s", part, places[i]);
        snprintf(original, sizeof original, "%s.middle.%d", part, i);
        name(l, diffusers, original);
    }
}

static void append_head(nv_vae_stack *s, const char *part, int32_t in, int32_t out) {
    nv_vae_layer *l = append(s, NV_VAE_HEAD, in, out);
    name(l, part, part);
    l->conv[0] = convolution(in, out, NV_VAE_TAPS, 3, 1);
}

void nv_vae_build_decoder(const nv_vae_config *c, nv_vae_stack *out) {
    char diffusers[48], original[48];
    int32_t in = c->decoder_base_dim * c->dim_mult[c->levels - 1], flat = 0;
    out->count = 0;
    append_conv_in(out, "decoder", c->z_dim, in);
    append_middle(out, "decoder", in);
    for (int32_t level = 0; level < c->levels; level++) {
        const int32_t dim = c->decoder_base_dim * c->dim_mult[c->levels - 1 - level];
        for (int32_t i = 0; i <= c->res_blocks; i++, in = dim) {
            snprintf(diffusers, sizeof diffusers, "decoder.up_blocks.%d.resnets.%d", level, i);
            snprintf(original, sizeof original, "decoder.upsamples.%d", flat++);
            name(append_residual(out, in, dim), diffusers, original);
        }
        if (level == c->levels - 1) break;
        nv_vae_layer *l = append(out, NV_VAE_UP, dim, dim / 2);
        snprintf(diffusers, sizeof diffusers, "decoder.up_blocks.%d.upsamplers.0", level);
        snprintf(original, sizeof original, "decoder.upsamples.%d", flat++);
        name(l, diffusers, original);
        l->time = c->temporal[c->levels - 2 - level];
        l->conv[0] = convolution(dim, dim / 2, 1, 3, 1);
        if (l->time) l->conv[1] = convolution(dim, dim, NV_VAE_TAPS, 1, 2);
        in = dim / 2;
    }
    append_head(out, "decoder", in, 3);
}

void nv_vae_build_encoder(const nv_vae_config *c, nv_vae_stack *out) {
    char diffusers[48], original[48];
    int32_t in = c->base_dim, flat = 0;
    out->count = 0;
    append_conv_in(out, "encoder", 3, in);
    for (int32_t level = 0; level < c->levels; level++) {
        const int32_t dim = c->base_dim * c->dim_mult[level];
        for (int32_t i = 0; i <= c->res_blocks; i++, flat++) {
            snprintf(diffusers, sizeof diffusers, "encoder.down_blocks.%d", flat);
            snprintf(original, sizeof original, "encoder.downsamples.%d", flat);
            if (i < c->res_blocks) {
                name(append_residual(out, in, dim), diffusers, original);
                in = dim;
            } else if (level < c->levels - 1) {
                nv_vae_layer *l = append(out, NV_VAE_DOWN, dim, dim);
                name(l, diffusers, original);
                l->time = c->temporal[level];
                l->conv[0] = convolution(dim, dim, 1, 3, 1);
                l->conv[0].shape.stride = 2;
                l->conv[0].shape.pad_before = 0;
                if (l->time) l->conv[1] = convolution(dim, dim, NV_VAE_TAPS, 1, 1);
            }
        }
    }
    append_middle(out, "encoder", in);
    append_head(out, "encoder", in, 2 * c->z_dim);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/latent_rgb.h"

#include <stddef.h>

/* Least squares of frames in [-1, 1] on latents; the figures are those that ComfyUI published for Wan2.1
   (comfy/latent_formats.py, Wan21.latent_rgb_factors). */
static const float factors[NV_LATENT_RGB_CHANNELS][3] = {
    {-0.1299f, -0.1692f, 0.2932f},  {0.0671f, 0.0406f, 0.0442f},  {0.3568f, 0.2548f, 0.1747f},
    {0.0372f, 0.2344f, 0.1420f},    {0.0313f, 0.0189f, -0.0328f}, {0.0296f, -0.0956f, -0.0665f},
    {-0.3477f, -0.4059f, -0.2925f}, {0.0166f, 0.1902f, 0.1975f},  {-0.0412f, 0.0267f, -0.1364f},
    {-0.1293f, 0.0740f, 0.1636f},   {0.0680f, 0.3019f, 0.1128f},  {0.0032f, 0.0581f, 0.0639f},
    {-0.1251f, 0.0927f, 0.1699f},   {0.0060f, -0.0633f, 0.0005f}, {0.3477f, 0.2275f, 0.2950f},
    {0.1984f, 0.0913f, 0.1861f},
};
static const float offsets[3] = {-0.1835f, -0.0868f, -0.3360f};

void nv_latent_rgb(const nv_dit_shape *s, const float *latent, int32_t frame, uint8_t *rgb) {
    const size_t area = (size_t)s->height * (size_t)s->width, plane = area * (size_t)s->frames;
    const float *from = latent + (size_t)frame * area;
    for (size_t i = 0; i < area; i++)
        for (size_t c = 0; c < 3; c++) {
            float v = offsets[c];
            for (size_t z = 0; z < NV_LATENT_RGB_CHANNELS; z++)
                v += from[z * plane + i] * factors[z][c];
            v = v * 127.5f + 128.0f; /* rounds to nearest */
            rgb[i * 3 + c] = v > 0.0f ? v < 255.0f ? (uint8_t)v : 255 : 0;
        }
}

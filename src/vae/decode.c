/* SPDX-License-Identifier: Apache-2.0 */
/* Latents to frames. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vae/layers.h"

enum { MOST_SIDE = 2048 /* latent pixels */, MOST_FRAMES = 1 << 14 };

typedef struct decoding {
    nv_vae *vae;
    const nv_vae_decode_options *o;
    const float *latent;
    nv_vae_frame give;
    nv_vae_run run;
    nv_vae_tiles tiles;  /* down 0: none */
    int32_t row, column; /* of the tile */
    int32_t top, left;   /* of the tile, in latent pixels */
    int32_t frame;       /* that comes next */
    int64_t done;        /* frames, of all tiles */
    float *rows, *mixed; /* host: a latent frame, pixel by pixel; device: the same before post_quant */
    float *pixels, *planes;
} decoding;

static nabla_status check(const nv_vae *v, const nv_vae_decode_options *o, nv_error *err) {
    const int32_t factor = nv_vae_space_factor(&v->config);
    if (o->frames < 1 || o->height < 1 || o->width < 1 || o->frames > MOST_FRAMES || o->height > MOST_SIDE ||
        o->width > MOST_SIDE)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "a latent of %d frames of %d x %d: choose 1 to %d frames of sides up to %d", o->frames,
                       o->height, o->width, MOST_FRAMES, MOST_SIDE);
    if (o->tile && (o->tile < 2 * factor || o->tile % factor))
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "tiles of %d pixels: choose a multiple of %d from %d on", o->tile,
                       factor, 2 * factor);
    return NABLA_OK;
}

/* Tiles where the frame is larger than one. */
static nv_vae_tiles tiles_of(const nv_vae *v, const nv_vae_decode_options *o) {
    const int32_t factor = nv_vae_space_factor(&v->config);
    nv_vae_tiles t = {.frames = nv_vae_frames(&v->config, o->frames),
                      .height = o->height * factor,
                      .width = o->width * factor,
                      .side = o->tile,
                      .step = o->tile * 3 / 4 / factor * factor};
    if (!o->tile || (t.height <= t.side && t.width <= t.side)) return t;
    t.down = (t.height + t.step - 1) / t.step;
    t.across = (t.width + t.step - 1) / t.step;
    return t;
}

static int32_t run_side(const decoding *d, int32_t first, int32_t all) {
    const int32_t factor = nv_vae_space_factor(&d->vae->config);
    return d->tiles.down ? nv_vae_tile_side(first, d->tiles.side / factor, all) : all;
}

static size_t frame_bytes(const decoding *d, int32_t height, int32_t width) {
    const nv_vae_config *c = &d->vae->config;
    const size_t area = (size_t)height * (size_t)width, factor = (size_t)nv_vae_space_factor(c);
    return area * ((size_t)c->z_dim * 2 + factor * factor * 6) * sizeof(float);
}

nabla_status nv_vae_decode_memory(nv_vae *vae, const nv_vae_decode_options *o, size_t *bytes, nv_error *err) {
    NV_TRY(check(vae, o, err));
    decoding d = {.vae = vae, .o = o, .tiles = tiles_of(vae, o)};
    const int32_t height = run_side(&d, 0, o->height), width = run_side(&d, 0, o->width);
    NV_TRY(nv_vae_run_open(vae, &vae->decoder, height, width, 0, &d.run, err));
    *bytes = d.run.bytes + frame_bytes(&d, height, width) + (d.tiles.down ? nv_vae_tiles_bytes(&d.tiles) : 0);
    return NABLA_OK;
}

/* ------------------------------------------------------------------ a frame out */

static nabla_status give(decoding *d, int32_t frame, float *planes, size_t count, nv_error *err) {
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(planes[i]))
            return nv_fail(err, NABLA_INTERNAL, "the VAE made a frame %d with values that are no numbers", frame);
        planes[i] = planes[i] < -1.0f ? -1.0f : planes[i] > 1.0f ? 1.0f : planes[i];
    }
    return d->give(d->o->user, frame, planes, err);
}

static nabla_status deliver(void *user, float *y, nv_error *err) {
    decoding *d = user;
    nv_device *dev = d->vae->device;
    const nv_vae_tiles *t = &d->tiles;
    const size_t area = (size_t)d->run.out_height * (size_t)d->run.out_width,
                 whole = (size_t)t->height * (size_t)t->width;
    const int32_t frame = d->frame++;
    nabla_status status = NABLA_OK;
    NV_TRY(dev->ops->download(dev, d->pixels, y, 3 * area * sizeof(float), err));
    for (size_t i = 0; i < area; i++)
        for (size_t c = 0; c < 3; c++)
            d->planes[c * area + i] = d->pixels[i * 3 + c];
    if (t->down) nv_vae_tiles_put(&d->tiles, d->row, d->column, frame, d->planes);
    if (!t->down)
        status = give(d, frame, d->planes, 3 * area, err);
    else if (d->row == t->down - 1 && d->column == t->across - 1)
        status = give(d, frame, t->whole + 3 * whole * (size_t)frame, 3 * whole, err);
    if (status != NABLA_OK) return status;
    d->done++;
    if (d->o->progress) d->o->progress(d->o->user, d->done, (int64_t)t->frames * (t->down ? t->down * t->across : 1));
    return NABLA_OK;
}

/* ------------------------------------------------------------------ a latent frame in */

static nabla_status take(decoding *d, int32_t frame, nv_error *err) {
    const nv_vae_config *c = &d->vae->config;
    const size_t plane = (size_t)d->o->height * (size_t)d->o->width,
                 count = (size_t)d->run.height * (size_t)d->run.width;
    float *out = d->rows;
    for (int32_t y = d->top; y < d->top + d->run.height; y++)
        for (int32_t x = d->left; x < d->left + d->run.width; x++)
            for (int32_t z = 0; z < c->z_dim; z++) {
                const size_t at = ((size_t)z * (size_t)d->o->frames + (size_t)frame) * plane;
                *out++ = d->latent[at + (size_t)y * (size_t)d->o->width + (size_t)x] * c->std[z] + c->mean[z];
            }
    d->vae->device->ops->upload(d->vae->device, d->mixed, d->rows, count * (size_t)c->z_dim * sizeof(float));
    NV_TRY(nv_vae_linear_apply(d->vae, &d->vae->post_quant, d->mixed, (int64_t)count, d->run.x, err));
    return nv_vae_run_frame(&d->run, err);
}

static nabla_status decode_run(decoding *d, nv_error *err) {
    nv_device *dev = d->vae->device;
    const size_t latent = (size_t)d->run.height * (size_t)d->run.width * (size_t)d->vae->config.z_dim * sizeof(float);
    const size_t planes = 3 * (size_t)d->run.out_height * (size_t)d->run.out_width * sizeof(float);
    nabla_status status = dev->ops->allocate(dev, latent, (void **)&d->mixed, err);
    d->rows = malloc(latent);
    d->pixels = malloc(planes);
    d->planes = malloc(planes);
    if (!d->rows || !d->pixels || !d->planes) status = nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a frame");
    d->frame = 0;
    for (int32_t i = 0; i < d->o->frames && status == NABLA_OK; i++)
        status = take(d, i, err);
    dev->ops->release(dev, d->mixed);
    free(d->rows);
    free(d->pixels);
    free(d->planes);
    d->mixed = NULL;
    return status;
}

/* All frames of the whole, or of one tile. */
static nabla_status decode_part(decoding *d, nv_error *err) {
    const int32_t step = d->tiles.down ? d->tiles.step / nv_vae_space_factor(&d->vae->config) : 0;
    d->top = d->row * step;
    d->left = d->column * step;
    nabla_status status = nv_vae_run_open(d->vae, &d->vae->decoder, run_side(d, d->top, d->o->height),
                                          run_side(d, d->left, d->o->width), 1, &d->run, err);
    d->run.deliver = deliver;
    d->run.user = d;
    d->run.stop = d->o->stop;
    d->run.stop_user = d->o->user;
    if (status == NABLA_OK) status = decode_run(d, err);
    nv_vae_run_close(&d->run);
    return status;
}

nabla_status nv_vae_decode(nv_vae *vae, const nv_vae_decode_options *o, const float *latent, nv_vae_frame frame,
                           nv_error *err) {
    NV_TRY(check(vae, o, err));
    decoding d = {.vae = vae, .o = o, .latent = latent, .give = frame, .tiles = tiles_of(vae, o)};
    if (!d.tiles.down) return decode_part(&d, err);
    NV_TRY(nv_vae_tiles_open(&d.tiles, err));
    nabla_status status = NABLA_OK;
    for (d.row = 0; d.row < d.tiles.down && status == NABLA_OK; d.row++)
        for (d.column = 0; d.column < d.tiles.across && status == NABLA_OK; d.column++)
            status = decode_part(&d, err);
    nv_vae_tiles_close(&d.tiles);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* An endless GIF with one palette for all frames. FFmpeg codes the frames and leaves out what did not change, for which
   it needs a transparent entry. */
#include <stdlib.h>
#include <string.h>

#include "media/encoder.h"
#include "media/ffmpeg.h"
#include "media/palette.h"
#include "media/writer.h"

enum { TICKS = 100 /* a second: GIF's own unit */, CLEAR = NV_PALETTE_MOST - 1 };

typedef struct gif {
    nv_media_writer base;
    nv_encoder encoder;
    nv_palette *palette;
    uint8_t *rgb; /* all frames so far: the palette needs them */
    size_t room;  /* frames that fit */
} gif;

static nabla_status check(const char *path, const nv_media_options *o, nv_error *err) {
    if (!avcodec_find_encoder(AV_CODEC_ID_GIF))
        return nv_fail(err, NABLA_UNSUPPORTED, "%s: FFmpeg's libraries here have no GIF encoder; write .png", path);
    if (o->fps > TICKS / 2)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "%s: a GIF shows at most %d frames a second, not %d", path,
                       TICKS / 2, o->fps);
    return NABLA_OK;
}

static nabla_status open_gif(nv_media_writer *w, nv_error *err) {
    gif *g = (gif *)w;
    NV_TRY(nv_encoder_open(&g->encoder, w->path, "gif", avcodec_find_encoder(AV_CODEC_ID_GIF), &w->options, err));
    AVCodecContext *c = g->encoder.codec;
    c->pix_fmt = AV_PIX_FMT_PAL8;
    c->time_base = (AVRational){1, TICKS};
    c->framerate = (AVRational){w->options.fps, 1};
    g->palette = malloc(sizeof *g->palette);
    if (!g->palette) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to write %s", w->path);
    return nv_encoder_start(&g->encoder, NULL, err);
}

static size_t frame_size(const nv_media_writer *w) {
    return (size_t)w->options.width * (size_t)w->options.height * 3;
}

static nabla_status frame(nv_media_writer *w, const uint8_t *rgb, nv_error *err) {
    gif *g = (gif *)w;
    size_t size = frame_size(w), count = (size_t)w->count;
    if (count == g->room) {
        /* All that were announced at once, so that nothing is held twice. */
        const size_t announced = w->options.frames > 0 ? (size_t)w->options.frames : 16;
        const size_t room = g->room ? 2 * g->room : announced;
        uint8_t *more = room <= SIZE_MAX / size ? realloc(g->rgb, room * size) : NULL;
        if (!more)
            return nv_fail(err, NABLA_OUT_OF_MEMORY,
                           "%s: no memory to hold %zu frames for a GIF; write .mp4 or a folder of .png", w->path, room);
        g->rgb = more;
        g->room = room;
    }
    memcpy(g->rgb + count * size, rgb, size);
    return NABLA_OK;
}

/* Pixels and, as FFmpeg wants it beside every frame, the palette as 0xAARRGGBB. */
static void paint(gif *g, const uint8_t *rgb, AVFrame *f) {
    uint32_t colours[NV_PALETTE_MOST] = {0};
    for (int i = 0; i < g->palette->count; i++) {
        const uint8_t *c = g->palette->rgb[i];
        colours[i] = 0xFF000000u | (uint32_t)c[0] << 16 | (uint32_t)c[1] << 8 | (uint32_t)c[2];
    }
    for (int i = g->palette->count; i < CLEAR; i++) {
        colours[i] = 0xFF000000u;
    }
    memcpy(f->data[1], colours, sizeof colours);
    for (int y = 0; y < f->height; y++) {
        uint8_t *row = f->data[0] + (ptrdiff_t)y * f->linesize[0];
        for (int x = 0; x < f->width; x++, rgb += 3) {
            row[x] = (uint8_t)nv_palette_find(g->palette, rgb);
        }
    }
}

static nabla_status finish(nv_media_writer *w, nv_error *err) {
    gif *g = (gif *)w;
    size_t size = frame_size(w);
    AVFrame *f = g->encoder.frame;
    if (!nv_palette_make(g->rgb, size / 3 * (size_t)w->count, CLEAR, g->palette))
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the palette of %s", w->path);
    for (int32_t i = 0; i < w->count; i++) {
        int code = av_frame_make_writable(f);
        if (code < 0) return nv_ffmpeg_fail(err, w->path, "write a frame", code);
        paint(g, g->rgb + (size_t)i * size, f);
        f->pts = ((int64_t)i * TICKS + w->options.fps / 2) / w->options.fps;
        NV_TRY(nv_encoder_send(&g->encoder, f, err));
    }
    return nv_encoder_finish(&g->encoder, err);
}

static void abandon(nv_media_writer *w) {
    gif *g = (gif *)w;
    nv_encoder_drop(&g->encoder);
    free(g->palette);
    free(g->rgb);
}

static size_t memory(const nv_media_options *o) {
    return 3 * (size_t)o->width * (size_t)o->height * (size_t)o->frames + nv_palette_memory();
}

const nv_media_kind nv_media_gif = {sizeof(gif), check, open_gif, frame, finish, abandon, memory};

/* SPDX-License-Identifier: Apache-2.0 */
#include "media/read.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    const char *path;
    int32_t width, height, max_frames;
    AVFormatContext *format;
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame;
    struct SwsContext *scale;
    int stream;
    int32_t scaled_width, scaled_height; /* covers width x height, aspect kept */
    uint8_t *scaled;                     /* [scaled_height, scaled_width, 3] */
    uint8_t *rgb;
    int32_t frames, room; /* decoded; allocated */
} reader;

static nabla_status fail_av(const reader *r, int code, const char *what, nv_error *err) {
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(code, text, sizeof text);
    return nv_fail(err, code == AVERROR(ENOMEM) ? NABLA_OUT_OF_MEMORY : NABLA_CORRUPT, "%s: cannot %s: %s", r->path,
                   what, text);
}

static nabla_status open_stream(reader *r, nv_error *err) {
    const AVCodec *decoder;
    int code = avformat_open_input(&r->format, r->path, NULL, NULL);
    if (code < 0) return fail_av(r, code, "open it as a video", err);
    code = avformat_find_stream_info(r->format, NULL);
    if (code < 0) return fail_av(r, code, "find its streams", err);
    r->stream = av_find_best_stream(r->format, AVMEDIA_TYPE_VIDEO, -1, -1, &decoder, 0);
    if (r->stream < 0) return fail_av(r, r->stream, "find a video stream", err);
    r->codec = avcodec_alloc_context3(decoder);
    r->packet = av_packet_alloc();
    r->frame = av_frame_alloc();
    if (!r->codec || !r->packet || !r->frame) return fail_av(r, AVERROR(ENOMEM), "decode it", err);
    code = avcodec_parameters_to_context(r->codec, r->format->streams[r->stream]->codecpar);
    r->codec->thread_count = 1; /* callers read several files at once */
    if (code >= 0) code = avcodec_open2(r->codec, decoder, NULL);
    return code < 0 ? fail_av(r, code, "decode it", err) : NABLA_OK;
}

/* The scaler for frames of the first one's size; a stream that changes size half-way is refused by scale_frame. */
static nabla_status open_scaler(reader *r, nv_error *err) {
    const AVFrame *f = r->frame;
    if (f->width < 1 || f->height < 1) return fail_av(r, AVERROR_INVALIDDATA, "use its frame size", err);
    double x = (double)r->width / (double)f->width, y = (double)r->height / (double)f->height;
    double cover = x > y ? x : y;
    r->scaled_width = (int32_t)((double)f->width * cover + 0.5);
    r->scaled_height = (int32_t)((double)f->height * cover + 0.5);
    if (r->scaled_width < r->width) r->scaled_width = r->width;
    if (r->scaled_height < r->height) r->scaled_height = r->height;
    if ((double)r->scaled_width * (double)r->scaled_height > 1e8)
        return fail_av(r, AVERROR_INVALIDDATA, "scale a frame so long and thin", err);
    r->scale = sws_getContext(f->width, f->height, (enum AVPixelFormat)f->format, r->scaled_width, r->scaled_height,
                              AV_PIX_FMT_RGB24, SWS_AREA, NULL, NULL, NULL);
    /* swscale may write a little past a row's end. */
    r->scaled = malloc((size_t)r->scaled_width * (size_t)r->scaled_height * 3 + 64);
    return r->scale && r->scaled ? NABLA_OK : fail_av(r, AVERROR(ENOMEM), "scale its frames", err);
}

static nabla_status grow(reader *r, nv_error *err) {
    if (r->frames < r->room) return NABLA_OK;
    int32_t room = r->room ? 2 * r->room : 16;
    if (room > r->max_frames) room = r->max_frames;
    uint8_t *rgb = realloc(r->rgb, (size_t)room * (size_t)r->height * (size_t)r->width * 3);
    if (!rgb) return nv_fail(err, NABLA_OUT_OF_MEMORY, "%s: no memory for %d frames", r->path, room);
    r->rgb = rgb;
    r->room = room;
    return NABLA_OK;
}

/* Scales the current frame and appends its middle. */
static nabla_status take_frame(reader *r, nv_error *err) {
    if (!r->scale) NV_TRY(open_scaler(r, err));
    NV_TRY(grow(r, err));
    const AVFrame *f = r->frame;
    if (f->width != r->codec->width || f->height != r->codec->height || f->format != (int)r->codec->pix_fmt)
        return fail_av(r, AVERROR_INVALIDDATA, "go on where its frame size changes", err);
    uint8_t *planes[1] = {r->scaled};
    int stride[1] = {r->scaled_width * 3};
    int rows = sws_scale(r->scale, (const uint8_t *const *)f->data, f->linesize, 0, f->height, planes, stride);
    if (rows != r->scaled_height) return fail_av(r, AVERROR_INVALIDDATA, "scale a frame", err);
    size_t top = (size_t)(r->scaled_height - r->height) / 2, left = (size_t)(r->scaled_width - r->width) / 2;
    size_t row = (size_t)r->width * 3;
    uint8_t *to = r->rgb + (size_t)r->frames * (size_t)r->height * row;
    for (size_t y = 0; y < (size_t)r->height; y++)
        memcpy(to + y * row, r->scaled + ((top + y) * (size_t)r->scaled_width + left) * 3, row);
    r->frames++;
    return NABLA_OK;
}

static nabla_status take_frames(reader *r, nv_error *err) {
    int code = 0;
    while (r->frames < r->max_frames && (code = avcodec_receive_frame(r->codec, r->frame)) >= 0) {
        nabla_status status = take_frame(r, err);
        av_frame_unref(r->frame);
        if (status != NABLA_OK) return status;
    }
    if (code < 0 && code != AVERROR(EAGAIN) && code != AVERROR_EOF) return fail_av(r, code, "decode a frame", err);
    return NABLA_OK;
}

static nabla_status decode(reader *r, nv_error *err) {
    int code;
    while (r->frames < r->max_frames && (code = av_read_frame(r->format, r->packet)) >= 0) {
        if (r->packet->stream_index == r->stream) code = avcodec_send_packet(r->codec, r->packet);
        av_packet_unref(r->packet);
        if (code < 0) return fail_av(r, code, "decode a packet", err);
        NV_TRY(take_frames(r, err));
    }
    if (r->frames < r->max_frames && avcodec_send_packet(r->codec, NULL) >= 0) NV_TRY(take_frames(r, err));
    if (r->frames == 0) return fail_av(r, AVERROR_INVALIDDATA, "find a frame in it", err);
    return NABLA_OK;
}

nabla_status nv_media_read(const char *path, int32_t width, int32_t height, int32_t max_frames, uint8_t **rgb,
                           int32_t *frames, nv_error *err) {
    reader r = {.path = path, .width = width, .height = height, .max_frames = max_frames};
    nabla_status status = open_stream(&r, err);
    if (status == NABLA_OK) status = decode(&r, err);
    sws_freeContext(r.scale);
    free(r.scaled);
    av_frame_free(&r.frame);
    av_packet_free(&r.packet);
    avcodec_free_context(&r.codec);
    avformat_close_input(&r.format);
    if (status != NABLA_OK) {
        free(r.rgb);
        return status;
    }
    *rgb = r.rgb;
    *frames = r.frames;
    return NABLA_OK;
}

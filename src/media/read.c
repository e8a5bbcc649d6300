/* SPDX-License-Identifier: Apache-2.0 */
#include "media/read.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "media/ffmpeg.h"

typedef struct reader {
    const char *path;
    int32_t width, height, max_frames;
    AVFormatContext *format;
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame;
    struct SwsContext *scale;
    int stream;
    int32_t from_width, from_height, from_format; /* what the scaler takes */
    int32_t scaled_width, scaled_height;          /* covers width x height, aspect kept */
    uint8_t *scaled;                              /* [scaled_height, scaled_width, 3] */
    uint8_t *rgb;
    int32_t frames, room; /* decoded; allocated */
} reader;

static nabla_status fail_av(const reader *r, int code, const char *what, nv_error *err) {
    return nv_ffmpeg_fail(err, r->path, what, code);
}

static nabla_status open_stream(reader *r, nv_error *err) {
    const AVCodec *decoder;
    AVDictionary *options = NULL;
    char *url = nv_ffmpeg_url(r->path);
    /* a playlist must not lead elsewhere */
    int code = url ? av_dict_set(&options, "protocol_whitelist", "file", 0) : AVERROR(ENOMEM);
    if (code >= 0) code = avformat_open_input(&r->format, url, NULL, &options);
    av_dict_free(&options);
    free(url);
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

/* Most decoders say by which coefficients YUV was made; where one does not, swscale's default is the usual guess. */
static void use_colours_of(struct SwsContext *scale, const AVFrame *f) {
    const int *rgb = sws_getCoefficients(SWS_CS_DEFAULT), unity = 1 << 16;
    if (f->colorspace == AVCOL_SPC_RGB || f->colorspace == AVCOL_SPC_UNSPECIFIED) return;
    sws_setColorspaceDetails(scale, sws_getCoefficients((int)f->colorspace), f->color_range == AVCOL_RANGE_JPEG, rgb, 1,
                             0, unity, unity);
}

/* The scaler for frames of the first one's size; take_frame refuses a stream that changes size half-way. */
static nabla_status open_scaler(reader *r, nv_error *err) {
    const AVFrame *f = r->frame;
    if (f->width < 1 || f->height < 1) return fail_av(r, AVERROR_INVALIDDATA, "use its frame size", err);
    double x = (double)r->width / (double)f->width, y = (double)r->height / (double)f->height;
    double cover = x > y ? x : y, width = (double)f->width * cover + 0.5, height = (double)f->height * cover + 0.5;
    if (width * height > 1e8) return fail_av(r, AVERROR_INVALIDDATA, "scale a frame so long and thin", err);
    r->from_width = f->width;
    r->from_height = f->height;
    r->from_format = f->format;
    r->scaled_width = (int32_t)width > r->width ? (int32_t)width : r->width;
    r->scaled_height = (int32_t)height > r->height ? (int32_t)height : r->height;
    r->scale = sws_getContext(f->width, f->height, (enum AVPixelFormat)f->format, r->scaled_width, r->scaled_height,
                              AV_PIX_FMT_RGB24, SWS_AREA | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT, NULL, NULL, NULL);
    /* swscale may write a little past a row's end. */
    r->scaled = malloc((size_t)r->scaled_width * (size_t)r->scaled_height * 3 + 64);
    if (!r->scale || !r->scaled) return fail_av(r, AVERROR(ENOMEM), "scale its frames", err);
    use_colours_of(r->scale, f);
    return NABLA_OK;
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
    if (f->width != r->from_width || f->height != r->from_height || f->format != r->from_format)
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
    int32_t before = r->frames;
    int code = 0;
    while (r->frames < r->max_frames && (code = av_read_frame(r->format, r->packet)) >= 0) {
        if (r->packet->stream_index == r->stream) code = avcodec_send_packet(r->codec, r->packet);
        av_packet_unref(r->packet);
        if (code < 0) return fail_av(r, code, "decode a packet", err);
        NV_TRY(take_frames(r, err));
    }
    if (code < 0 && code != AVERROR_EOF) return fail_av(r, code, "read it to its end", err);
    if (r->frames < r->max_frames && avcodec_send_packet(r->codec, NULL) >= 0) NV_TRY(take_frames(r, err));
    if (r->frames == before) return fail_av(r, AVERROR_INVALIDDATA, "find a frame in it", err);
    return NABLA_OK;
}

static nabla_status read_file(reader *r, const char *path, nv_error *err) {
    r->path = path;
    nabla_status status = open_stream(r, err);
    if (status == NABLA_OK) status = decode(r, err);
    sws_freeContext(r->scale);
    free(r->scaled);
    r->scale = NULL;
    r->scaled = NULL;
    av_frame_free(&r->frame);
    av_packet_free(&r->packet);
    avcodec_free_context(&r->codec);
    avformat_close_input(&r->format);
    return status;
}

/* frame-0001.png and on, until one is missing. */
static nabla_status read_folder(reader *r, const char *path, nv_error *err) {
    size_t size = strlen(path) + 32;
    char *name = malloc(size);
    if (!name) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to read %s", path);
    nabla_status status = NABLA_OK;
    struct stat info;
    while (status == NABLA_OK && r->frames < r->max_frames) {
        snprintf(name, size, "%s/frame-%04d.png", path, r->frames + 1);
        if (stat(name, &info) != 0) break;
        status = read_file(r, name, err);
    }
    if (status == NABLA_OK && r->frames == 0)
        status = nv_fail(err, NABLA_INVALID_ARGUMENT, "%s holds no frame-0001.png to read", path);
    free(name);
    return status;
}

nabla_status nv_media_read(const char *path, int32_t width, int32_t height, int32_t max_frames, uint8_t **rgb,
                           int32_t *frames, nv_error *err) {
    reader r = {.width = width, .height = height, .max_frames = max_frames};
    struct stat info;
    *rgb = NULL;
    *frames = 0;
    nv_ffmpeg_quiet();
    int is_folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    nabla_status status = is_folder ? read_folder(&r, path, err) : read_file(&r, path, err);
    if (status != NABLA_OK) {
        free(r.rgb);
        return status;
    }
    *rgb = r.rgb;
    *frames = r.frames;
    return NABLA_OK;
}

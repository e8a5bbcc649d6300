/* SPDX-License-Identifier: Apache-2.0 */
#include "media/encoder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "media/ffmpeg.h"

static nabla_status no_memory(const nv_encoder *e, nv_error *err) {
    return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to write %s", e->path);
}

/* Opens it too, so that what is removed later is ours. */
static nabla_status open_file(nv_encoder *e, nv_error *err) {
    size_t size = strlen(e->path) + 32;
    char *name = malloc(size);
    if (!name) return no_memory(e, err);
    snprintf(name, size, "%s.tmp-%ld", e->path, (long)getpid());
    char *url = nv_ffmpeg_url(name);
    int code = url ? avio_open(&e->format->pb, url, AVIO_FLAG_WRITE) : AVERROR(ENOMEM);
    if (code < 0) {
        free(name);
        free(url);
        return nv_ffmpeg_fail(err, e->path, "write it", code);
    }
    e->temporary = name;
    /* the muxer opens the file again by this when it moves the index to the front */
    e->format->url = av_strdup(url);
    free(url);
    return e->format->url ? NABLA_OK : no_memory(e, err);
}

nabla_status nv_encoder_open(nv_encoder *e, const char *path, const char *muxer, const AVCodec *codec,
                             const nv_media_options *options, nv_error *err) {
    nv_ffmpeg_quiet();
    *e = (nv_encoder){.path = path};
    int code = avformat_alloc_output_context2(&e->format, NULL, muxer, NULL);
    if (code == AVERROR(EINVAL))
        return nv_fail(err, NABLA_UNSUPPORTED, "%s: this FFmpeg cannot write %s files; install a full one", path,
                       muxer);
    e->codec = avcodec_alloc_context3(codec);
    e->packet = av_packet_alloc();
    e->frame = av_frame_alloc();
    if (code < 0 || !e->codec || !e->packet || !e->frame) return no_memory(e, err);
    e->codec->width = options->width;
    e->codec->height = options->height;
    if (e->format->oformat->flags & AVFMT_GLOBALHEADER) e->codec->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    if (options->title) code = av_dict_set(&e->format->metadata, "title", options->title, 0);
    if (options->comment && code >= 0) code = av_dict_set(&e->format->metadata, "comment", options->comment, 0);
    return code < 0 ? no_memory(e, err) : open_file(e, err);
}

nabla_status nv_encoder_start(nv_encoder *e, AVDictionary **muxer_options, nv_error *err) {
    int code = avcodec_open2(e->codec, e->codec->codec, NULL);
    if (code < 0) return nv_ffmpeg_fail(err, e->path, "start its encoder", code);
    AVStream *stream = avformat_new_stream(e->format, NULL);
    if (!stream) return no_memory(e, err);
    stream->time_base = e->codec->time_base;
    stream->avg_frame_rate = e->codec->framerate;
    code = avcodec_parameters_from_context(stream->codecpar, e->codec);
    if (code >= 0) code = avformat_write_header(e->format, muxer_options);
    if (code < 0) return nv_ffmpeg_fail(err, e->path, "write its header", code);
    e->header = 1;
    e->frame->format = e->codec->pix_fmt;
    e->frame->width = e->codec->width;
    e->frame->height = e->codec->height;
    return av_frame_get_buffer(e->frame, 0) < 0 ? no_memory(e, err) : NABLA_OK;
}

nabla_status nv_encoder_send(nv_encoder *e, AVFrame *frame, nv_error *err) {
    const AVStream *stream = e->format->streams[0];
    int code = avcodec_send_frame(e->codec, frame);
    while (code >= 0) {
        code = avcodec_receive_packet(e->codec, e->packet);
        if (code < 0) break;
        av_packet_rescale_ts(e->packet, e->codec->time_base, stream->time_base);
        e->packet->stream_index = stream->index;
        code = av_interleaved_write_frame(e->format, e->packet);
    }
    if (code != AVERROR(EAGAIN) && code != AVERROR_EOF) return nv_ffmpeg_fail(err, e->path, "write a frame", code);
    return NABLA_OK;
}

/* A rename may reach the disk before the content does, unless the content is sent there first. */
static nabla_status name_file(nv_encoder *e, nv_error *err) {
    int fd = open(e->temporary, O_RDONLY | O_CLOEXEC), synced = fd >= 0 && fsync(fd) == 0, code = errno;
    if (fd >= 0) close(fd);
    if (!synced || rename(e->temporary, e->path) != 0)
        return nv_fail(err, NABLA_IO, "cannot write %s: %s", e->path, strerror(synced ? errno : code));
    free(e->temporary);
    e->temporary = NULL;
    return NABLA_OK;
}

nabla_status nv_encoder_finish(nv_encoder *e, nv_error *err) {
    NV_TRY(nv_encoder_send(e, NULL, err));
    e->header = 0; /* the trailer frees the muxer's state, whatever it returns */
    int code = av_write_trailer(e->format), kept = e->format->pb->error, closed = avio_closep(&e->format->pb);
    if (code >= 0) code = kept < 0 ? kept : closed;
    if (code < 0) return nv_ffmpeg_fail(err, e->path, "write it to its end", code);
    return name_file(e, err);
}

void nv_encoder_drop(nv_encoder *e) {
    if (e->format) avio_closep(&e->format->pb);
    avformat_free_context(e->format);
    avcodec_free_context(&e->codec);
    av_packet_free(&e->packet);
    av_frame_free(&e->frame);
    if (e->temporary) unlink(e->temporary);
    free(e->temporary);
    *e = (nv_encoder){0};
}

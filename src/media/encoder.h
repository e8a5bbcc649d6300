/* SPDX-License-Identifier: Apache-2.0 */
/* The part of writing through FFmpeg that MP4 and GIF share: one video stream into a temporary file. */
#ifndef NV_ENCODER_H
#define NV_ENCODER_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>

#include "media/media.h"

/* All zero is fine to drop. */
typedef struct nv_encoder {
    const char *path; /* the writer's */
    char *temporary;  /* NULL once renamed */
    AVFormatContext *format;
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame; /* the caller's to fill: format and size of codec */
    int header;     /* written */
} nv_encoder;

/* Opens the temporary file and the encoder's context; the caller sets what the format asks for in e->codec, then
   starts. muxer: FFmpeg's name of the container. */
nabla_status nv_encoder_open(nv_encoder *e, const char *path, const char *muxer, const AVCodec *codec,
                             const nv_media_options *options, nv_error *err);
nabla_status nv_encoder_start(nv_encoder *e, AVDictionary **muxer_options, nv_error *err);
/* frame NULL: no more will come. */
nabla_status nv_encoder_send(nv_encoder *e, AVFrame *frame, nv_error *err);
/* Flushes, and gives the file its name. */
nabla_status nv_encoder_finish(nv_encoder *e, nv_error *err);
/* Frees everything, and removes a file that has no name yet. */
void nv_encoder_drop(nv_encoder *e);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* H.264 in MP4, made to open in any player: yuv420p, BT.709 colours said so in the stream, index in front. */
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
#include <math.h>

#include "media/encoder.h"
#include "media/ffmpeg.h"
#include "media/writer.h"

typedef struct mp4 {
    nv_media_writer base;
    nv_encoder encoder;
    struct SwsContext *scale; /* RGB to YUV */
} mp4;

static const AVCodec *find_codec(void) {
    const AVCodec *codec = avcodec_find_encoder_by_name("libx264");
    return codec ? codec : avcodec_find_encoder(AV_CODEC_ID_H264);
}

static nabla_status check(const char *path, const nv_media_options *o, nv_error *err) {
    if (o->width % 2 || o->height % 2)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "%s: H.264 needs even sides, not %d x %d; choose an even size, or write .gif or .png", path,
                       o->width, o->height);
    if (!find_codec())
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "%s: FFmpeg's libraries here have no H.264 encoder; install them with libx264, or write .gif or "
                       ".png",
                       path);
    return NABLA_OK;
}

/* libx264 takes the quality as it is. Other encoders are given a bit rate instead, from the rule of thumb that it
   halves every 6 steps; 0.1 bits a pixel at 23. */
static int set_quality(AVCodecContext *codec, const nv_media_options *o) {
    if (av_opt_find(codec->priv_data, "crf", NULL, 0, 0)) return av_opt_set_int(codec->priv_data, "crf", o->crf, 0);
    double pixels = (double)o->width * (double)o->height * (double)o->fps;
    codec->bit_rate = (int64_t)(0.1 * pixels * exp2((23.0 - (double)o->crf) / 6.0)) + 1000;
    return 0;
}

static nabla_status start(mp4 *m, nv_error *err) {
    const nv_media_options *o = &m->base.options;
    AVCodecContext *c = m->encoder.codec;
    c->pix_fmt = AV_PIX_FMT_YUV420P;
    c->time_base = (AVRational){1, o->fps};
    c->framerate = (AVRational){o->fps, 1};
    c->colorspace = AVCOL_SPC_BT709;
    c->color_primaries = AVCOL_PRI_BT709;
    c->color_trc = AVCOL_TRC_BT709;
    c->color_range = AVCOL_RANGE_MPEG;
    c->thread_count = 1; /* the same clip makes the same file on any machine */
    int code = set_quality(c, o);
    if (code < 0) return nv_ffmpeg_fail(err, m->base.path, "set its quality", code);
    AVDictionary *options = NULL;
    code = av_dict_set(&options, "movflags", "+faststart", 0);
    nabla_status status = code < 0 ? nv_ffmpeg_fail(err, m->base.path, "set its options", code)
                                   : nv_encoder_start(&m->encoder, &options, err);
    av_dict_free(&options);
    return status;
}

static nabla_status open_mp4(nv_media_writer *w, nv_error *err) {
    mp4 *m = (mp4 *)w;
    const nv_media_options *o = &w->options;
    NV_TRY(nv_encoder_open(&m->encoder, w->path, "mp4", find_codec(), o, err));
    NV_TRY(start(m, err));
    m->scale = sws_getContext(o->width, o->height, AV_PIX_FMT_RGB24, o->width, o->height, AV_PIX_FMT_YUV420P,
                              SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP, NULL, NULL, NULL);
    const int *bt709 = sws_getCoefficients(SWS_CS_ITU709);
    const int unity = 1 << 16;
    if (!m->scale || sws_setColorspaceDetails(m->scale, bt709, 1, bt709, 0, 0, unity, unity) < 0)
        return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory to write %s", w->path);
    return NABLA_OK;
}

static nabla_status frame(nv_media_writer *w, const uint8_t *rgb, nv_error *err) {
    mp4 *m = (mp4 *)w;
    AVFrame *f = m->encoder.frame;
    int code = av_frame_make_writable(f); /* the encoder may still hold the last one */
    if (code < 0) return nv_ffmpeg_fail(err, w->path, "write a frame", code);
    const int stride = w->options.width * 3;
    sws_scale(m->scale, &rgb, &stride, 0, w->options.height, f->data, f->linesize);
    f->pts = w->count;
    return nv_encoder_send(&m->encoder, f, err);
}

static nabla_status finish(nv_media_writer *w, nv_error *err) {
    return nv_encoder_finish(&((mp4 *)w)->encoder, err);
}

static void abandon(nv_media_writer *w) {
    mp4 *m = (mp4 *)w;
    nv_encoder_drop(&m->encoder);
    sws_freeContext(m->scale);
}

/* x264 looks 40 frames ahead and keeps some to predict from, each with smaller and shifted copies: 87 MB were measured
   for 832 x 480 and 186 for 1280 x 720, from about fifty frames on. */
static size_t memory(const nv_media_options *o) {
    const int32_t most = 50;
    const double bytes = 4.2; /* a pixel */
    return (size_t)(bytes * o->width * o->height) * (size_t)(o->frames < most ? o->frames : most);
}

const nv_media_kind nv_media_mp4 = {sizeof(mp4), check, open_mp4, frame, finish, abandon, memory};

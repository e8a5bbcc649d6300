/* SPDX-License-Identifier: Apache-2.0 */
/* Weights by name and shape, of diffusers' layout or the original's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vae/layers.h"

/* What follows a layer's own name. */
typedef enum suffix { CONV_0, CONV_1, GAMMA_0, GAMMA_1, LINEAR_0, LINEAR_1, SUFFIXES } suffix;

static const char *const suffixes[NV_VAE_HEAD + 1][SUFFIXES][2] = {
    [NV_VAE_CONV] = {[CONV_0] = {"", ""}},
    [NV_VAE_RESIDUAL] = {[GAMMA_0] = {".norm1", ".residual.0"},
                         [CONV_0] = {".conv1", ".residual.2"},
                         [GAMMA_1] = {".norm2", ".residual.3"},
                         [CONV_1] = {".conv2", ".residual.6"},
                         [LINEAR_0] = {".conv_shortcut", ".shortcut"}},
    [NV_VAE_ATTENTION] =
        {[GAMMA_0] = {".norm", ".norm"}, [LINEAR_0] = {".to_qkv", ".to_qkv"}, [LINEAR_1] = {".proj", ".proj"}},
    [NV_VAE_UP] = {[CONV_0] = {".resample.1", ".resample.1"}, [CONV_1] = {".time_conv", ".time_conv"}},
    [NV_VAE_DOWN] = {[CONV_0] = {".resample.1", ".resample.1"}, [CONV_1] = {".time_conv", ".time_conv"}},
    [NV_VAE_HEAD] = {[GAMMA_0] = {".norm_out", ".head.0"}, [CONV_0] = {".conv_out", ".head.2"}},
};

/* Memory that one tensor after the other uses: taken for each of them it leaves holes between the weights. */
typedef struct room {
    float *data;
    size_t count;
} room;

typedef struct loader {
    nv_vae *vae;
    const nv_weights *file;
    int layout;
    int keep;             /* 0: names and shapes are checked, values left where they are */
    unsigned char *known; /* of the file's tensors */
    room tensor, part;    /* as in the file; as the device gets it */
    nv_error *err;
} loader;

static nabla_status no_memory(const loader *l, size_t count) {
    return nv_fail(l->err, NABLA_OUT_OF_MEMORY, "no memory for %zu weights of the VAE", count);
}

/* The tensor, which must have `count` numbers and begin with the given sizes; what follows in its shape is ones. */
static nabla_status find(loader *l, const char *name, const char *what, const int64_t *sizes, int rank,
                         const nv_st_entry **out) {
    char full[128], want[128] = "";
    int at = 0;
    snprintf(full, sizeof full, "%s.%s", name, what);
    const nv_st_entry *e = *out = nv_weights_find(l->file, full);
    if (!e) return nv_fail(l->err, NABLA_CORRUPT, "the VAE's file lacks the tensor \"%s\"", full);
    int good = e->rank >= rank;
    for (int i = 0; i < e->rank && good; i++)
        good = e->shape[i] == (i < rank ? sizes[i] : 1);
    for (int i = 0; i < rank; i++)
        at += snprintf(want + at, sizeof want - (size_t)at, "%s%lld", i ? ", " : "", (long long)sizes[i]);
    if (!good)
        return nv_fail(l->err, NABLA_CORRUPT, "tensor \"%s\" of the VAE must be [%s] by its configuration", full, want);
    l->known[nv_weights_index(l->file, e)] = 1;
    return NABLA_OK;
}

static nabla_status reserve(const loader *l, room *r, size_t count) {
    if (count <= r->count) return NABLA_OK;
    free(r->data);
    r->data = malloc(count * sizeof *r->data);
    r->count = r->data ? count : 0;
    return r->data ? NABLA_OK : no_memory(l, count);
}

/* *out is good until the next tensor is read. */
static nabla_status read(loader *l, const char *name, const char *what, const int64_t *sizes, int rank, float **out) {
    const nv_st_entry *e;
    size_t count = 1;
    *out = NULL;
    NV_TRY(find(l, name, what, sizes, rank, &e));
    for (int i = 0; i < rank; i++)
        count *= (size_t)sizes[i];
    if (!l->keep) return NABLA_OK;
    NV_TRY(reserve(l, &l->tensor, count));
    *out = l->tensor.data;
    const nabla_status status = nv_st_read_f32(e, *out, count, l->err);
    nv_weights_forget(l->file, e); /* else the file's pages pile up in this process */
    return status == NABLA_OK ? NABLA_OK : nv_fail_in(l->err, "%s.%s", name, what);
}

/* The same, into the device's memory. */
static nabla_status upload(loader *l, const char *name, const char *what, const int64_t *sizes, int rank, float **out) {
    float *host;
    nv_device *dev = l->vae->device;
    size_t bytes = sizeof(float);
    NV_TRY(read(l, name, what, sizes, rank, &host));
    if (!l->keep) return NABLA_OK;
    for (int i = 0; i < rank; i++)
        bytes *= (size_t)sizes[i];
    const nabla_status status = dev->ops->allocate(dev, bytes, (void **)out, l->err);
    if (status == NABLA_OK) dev->ops->upload(dev, *out, host, bytes);
    return status;
}

static nabla_status load_linear(loader *l, const char *name, nv_vae_linear *linear) {
    const int64_t sizes[2] = {linear->out, linear->in};
    NV_TRY(upload(l, name, "weight", sizes, 2, &linear->weight));
    return upload(l, name, "bias", sizes, 1, &linear->bias);
}

/* One tap of one part: torch's [parts * out, in, taps, kernel, kernel] -> [out, kernel, kernel, in]. */
static void pick(const nv_vae_conv *c, const float *all, int32_t part, int32_t tap, float *out) {
    const nv_conv_shape *s = &c->shape;
    const int64_t area = (int64_t)s->kernel * s->kernel;
    for (int64_t o = 0; o < s->out; o++)
        for (int64_t at = 0; at < area; at++)
            for (int64_t i = 0; i < s->in; i++, out++)
                *out = all[(((part * s->out + o) * s->in + i) * c->taps + tap) * area + at];
}

static nabla_status load_conv(loader *l, const char *name, nv_vae_conv *c) {
    const nv_conv_shape *s = &c->shape;
    const int64_t solid[5] = {(int64_t)c->parts * s->out, s->in, c->taps, s->kernel, s->kernel},
                  flat[4] = {solid[0], s->in, s->kernel, s->kernel};
    const size_t count = (size_t)s->out * (size_t)s->in * (size_t)s->kernel * (size_t)s->kernel;
    nv_device *dev = l->vae->device;
    float *all;
    NV_TRY(upload(l, name, "bias", solid, 1, &c->bias));
    NV_TRY(c->taps > 1 ? read(l, name, "weight", solid, 5, &all) : read(l, name, "weight", flat, 4, &all));
    if (!l->keep) return NABLA_OK;
    NV_TRY(reserve(l, &l->part, count));
    for (int32_t i = 0; i < c->parts * c->taps; i++) {
        pick(c, all, i / c->taps, i % c->taps, l->part.data);
        NV_TRY(dev->ops->conv_weights(dev, s, l->vae->compute, l->part.data, &c->weights[i / c->taps][i % c->taps],
                                      l->err));
    }
    return NABLA_OK;
}

static nabla_status load_layer(loader *l, nv_vae_layer *layer) {
    const int64_t dims[2] = {layer->in, layer->out};
    char name[2 * sizeof layer->name[0]];
    for (int i = 0; i < SUFFIXES; i++) {
        const char *tail = suffixes[layer->kind][i][l->layout];
        if (!tail) continue;
        snprintf(name, sizeof name, "%s%s", layer->name[l->layout], tail);
        nv_vae_conv *conv = &layer->conv[i == CONV_1];
        nv_vae_linear *linear = &layer->linear[i == LINEAR_1];
        if (i == CONV_0 || i == CONV_1) {
            if (conv->taps) NV_TRY(load_conv(l, name, conv));
        } else if (i == GAMMA_0 || i == GAMMA_1) {
            NV_TRY(upload(l, name, "gamma", &dims[i == GAMMA_1], 1, &layer->gamma[i == GAMMA_1]));
        } else if (linear->out) {
            NV_TRY(load_linear(l, name, linear));
        }
    }
    return NABLA_OK;
}

static nabla_status load_part(loader *l, int keep, nv_vae_stack *stack, nv_vae_linear *linear, const char *name) {
    l->keep = keep;
    NV_TRY(load_linear(l, name, linear));
    for (int32_t i = 0; i < stack->count; i++)
        NV_TRY(load_layer(l, &stack->layers[i]));
    return NABLA_OK;
}

static nabla_status load_all(loader *l, int parts) {
    nv_vae *v = l->vae;
    NV_TRY(load_part(l, parts & NV_VAE_DECODER, &v->decoder, &v->post_quant, l->layout ? "conv2" : "post_quant_conv"));
    NV_TRY(load_part(l, parts & NV_VAE_ENCODER, &v->encoder, &v->quant, l->layout ? "conv1" : "quant_conv"));
    for (size_t i = 0; i < nv_weights_count(l->file); i++)
        if (!l->known[i])
            return nv_fail(l->err, NABLA_UNSUPPORTED,
                           "the VAE's file holds the tensor \"%.100s\", which a Wan2.1 VAE of its sizes does not have",
                           nv_weights_at(l->file, i)->name);
    return NABLA_OK;
}

nabla_status nv_vae_load(nv_vae *vae, int parts, const nv_weights *file, nv_error *err) {
    loader l = {.vae = vae, .file = file, .err = err};
    l.layout = !nv_weights_find(file, "decoder.conv_in.weight");
    l.known = calloc(nv_weights_count(file) + 1, 1);
    if (!l.known) return no_memory(&l, nv_weights_count(file));
    const nabla_status status = load_all(&l, parts);
    free(l.known);
    free(l.tensor.data);
    free(l.part.data);
    return status;
}

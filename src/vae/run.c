/* SPDX-License-Identifier: Apache-2.0 */
/* One frame after the other through a stack of layers. A layer keeps what it must remember and hands its output on at
   once, so that of each resolution one frame is in memory however many frames the layers above made of it. */
#include <math.h>
#include <string.h>

#include "vae/layers.h"

static nabla_status push(nv_vae_run *run, int32_t i, float *x, nv_error *err);

/* ------------------------------------------------------------------ memory */

enum { SCORES = 1 << 22 /* numbers of a strip of attention's scores */ };

static int64_t pixels(const nv_vae_state *s) {
    return (int64_t)s->height * s->width;
}

/* Rows of scores in one go: not all queries against all keys, which at 720p were 830 MB. */
static int64_t strip_of(int64_t count) {
    const int64_t strip = SCORES / count;
    return strip < 1 ? 1 : strip < count ? strip : count;
}

/* Where a layer's passing data lie in the scratch memory; counted and taken by the same code. */
typedef struct passing {
    float *hidden, *qkv, *scores;
    void *wide;
} passing;

static passing lay_out(const nv_vae_layer *l, const nv_vae_state *s, size_t type, nv_arena *a) {
    const int64_t count = pixels(s);
    passing p = {0};
    if (l->kind == NV_VAE_RESIDUAL) p.hidden = nv_arena_take(a, count * l->out, sizeof(float));
    if (l->kind == NV_VAE_UP) p.wide = nv_arena_take(a, 4 * count * l->in, type);
    if (l->kind == NV_VAE_DOWN) {
        p.wide = nv_arena_take(a, count * l->in, type);
        p.hidden = nv_arena_take(a, (count + 3) / 4 * l->out, sizeof(float));
    }
    if (l->kind == NV_VAE_ATTENTION) {
        p.hidden = nv_arena_take(a, count * l->in, sizeof(float));
        p.qkv = nv_arena_take(a, 3 * count * l->in, sizeof(float));
        p.scores = nv_arena_take(a, strip_of(count) * count, sizeof(float));
    }
    return p;
}

static passing scratch_of(const nv_vae_run *run, int32_t i) {
    nv_arena a = {.base = run->scratch, .size = run->scratch_bytes};
    return lay_out(&run->stack->layers[i], &run->states[i], nabla_dtype_size(run->vae->compute), &a);
}

/* The spare frame of `count` numbers. */
static int32_t spare_of(nv_vae_run *run, int64_t count, size_t type, nv_arena *a) {
    int32_t i = 0;
    while (i < run->spare_count && run->spares[i].count != count)
        i++;
    if (i == run->spare_count) run->spares[run->spare_count++] = (nv_vae_spare){count, nv_arena_take(a, count, type)};
    return i;
}

/* What a layer remembers, and its output where that has another size than its input. */
static void lay_out_state(nv_vae_run *run, int32_t i, int64_t outputs, size_t type, nv_arena *a) {
    const nv_vae_layer *l = &run->stack->layers[i];
    nv_vae_state *s = &run->states[i];
    for (int k = 0; k < 2; k++) {
        const nv_vae_conv *c = &l->conv[k];
        const int down = l->kind == NV_VAE_DOWN; /* remembers one frame, of the smaller size */
        for (int slot = 0; slot < 2 && c->taps > 1; slot++)
            if (!down || slot == 0)
                s->slots[k][slot] = nv_arena_take(a, (down ? outputs : pixels(s)) * c->shape.in, type);
        if (c->taps > 1 && !down) s->spare[k] = spare_of(run, pixels(s) * c->shape.in, type, a);
    }
    if (outputs != pixels(s) || l->in != l->out || l->kind == NV_VAE_CONV || l->kind == NV_VAE_HEAD)
        s->y = nv_arena_take(a, outputs * l->out, sizeof(float));
    for (int k = 0; k < 2 && l->kind == NV_VAE_UP && l->time; k++)
        s->halves[k] = nv_arena_take(a, pixels(s) * l->in, sizeof(float));
}

static void lay_out_run(nv_vae_run *run, nv_arena *a) {
    const size_t type = nabla_dtype_size(run->vae->compute);
    int32_t height = run->height, width = run->width;
    run->scratch_bytes = 0;
    run->spare_count = 0;
    run->x = nv_arena_take(a, (int64_t)height * width * run->stack->layers[0].in, sizeof(float));
    for (int32_t i = 0; i < run->stack->count; i++) {
        const nv_vae_layer *l = &run->stack->layers[i];
        nv_vae_state *s = &run->states[i];
        s->height = height;
        s->width = width;
        if (l->kind == NV_VAE_UP) {
            height *= 2;
            width *= 2;
        } else if (l->kind == NV_VAE_DOWN) {
            height = nv_conv_side(&l->conv[0].shape, height);
            width = nv_conv_side(&l->conv[0].shape, width);
        }
        lay_out_state(run, i, (int64_t)height * width, type, a);
        nv_arena passing_by = {0};
        lay_out(l, s, type, &passing_by);
        a->overflow |= passing_by.overflow;
        if (passing_by.used > run->scratch_bytes) run->scratch_bytes = passing_by.used;
    }
    run->scratch = nv_arena_take(a, (int64_t)run->scratch_bytes, 1);
    run->out_height = height;
    run->out_width = width;
}

nabla_status nv_vae_run_open(nv_vae *vae, const nv_vae_stack *stack, int32_t height, int32_t width, int take,
                             nv_vae_run *run, nv_error *err) {
    *run = (nv_vae_run){.vae = vae, .stack = stack, .height = height, .width = width};
    nv_arena a = {0};
    lay_out_run(run, &a);
    run->bytes = a.used;
    if (a.overflow) return nv_fail(err, NABLA_OVERFLOW, "frames of %d x %d are too large for the VAE", height, width);
    if (!take) return NABLA_OK;
    NV_TRY(vae->device->ops->allocate(vae->device, a.used, &run->memory, err));
    a = (nv_arena){.base = run->memory, .size = run->bytes};
    lay_out_run(run, &a);
    return NABLA_OK;
}

void nv_vae_run_close(nv_vae_run *run) {
    if (run->memory) run->vae->device->ops->release(run->vae->device, run->memory);
    run->memory = NULL;
}

void nv_vae_run_restart(nv_vae_run *run) {
    for (int32_t i = 0; i < run->stack->count; i++)
        memset(run->states[i].seen, 0, sizeof run->states[i].seen);
}

/* ------------------------------------------------------------------ convolutions in time */

/* y = one tap of a convolution alone, with its bias; or, without, added to y. */
static nabla_status tap(nv_vae_run *run, const nv_vae_conv *c, int index, const nv_vae_state *s, const void *x,
                        float *y, int add, nv_error *err) {
    nv_device *dev = run->vae->device;
    const nv_conv a = {.frames = 1,
                       .weights = {c->weights[0][index]},
                       .x = {x},
                       .height = s->height,
                       .width = s->width,
                       .bias = add ? NULL : c->bias,
                       .y = y,
                       .add = add};
    return dev->ops->conv(dev, &a, err);
}

/* x in the compute dtype, through norm and SiLU where gamma is given. */
static nabla_status take_in(nv_vae_run *run, const float *x, int64_t rows, int64_t cols, const float *gamma, void *to,
                            nv_error *err) {
    nv_device *dev = run->vae->device;
    const nv_matrix from = nv_matrix_of(x, NABLA_FP32, rows, cols),
                    into = nv_matrix_of(to, run->vae->compute, rows, cols);
    const nv_channel_norm norm = {from, into, gamma, 1};
    return gamma ? dev->ops->channel_norm(dev, &norm, err) : dev->ops->cast(dev, from, into, err);
}

/* y[part] = conv k of layer i over this frame and the two before; those before the clip are zeros and left out. */
static nabla_status in_time(nv_vae_run *run, int32_t i, int k, const float *x, const float *gamma, float *const y[2],
                            int add, nv_error *err) {
    const nv_vae_conv *c = &run->stack->layers[i].conv[k];
    nv_device *dev = run->vae->device;
    nv_vae_state *s = &run->states[i];
    void **slots = s->slots[k], **spare = &run->spares[s->spare[k]].frame;
    const void *const frames[NV_VAE_TAPS] = {slots[0], slots[1], *spare};
    const int32_t count = s->seen[k] < NV_VAE_TAPS ? (int32_t)++s->seen[k] : NV_VAE_TAPS, first = NV_VAE_TAPS - count;
    NV_TRY(take_in(run, x, pixels(s), c->shape.in, gamma, *spare, err));
    for (int part = 0; part < c->parts; part++) {
        nv_conv a = {.frames = count,
                     .height = s->height,
                     .width = s->width,
                     .bias = c->bias + (int64_t)part * c->shape.out,
                     .y = y[part],
                     .add = add};
        for (int32_t t = 0; t < count; t++) {
            a.weights[t] = c->weights[part][first + t];
            a.x[t] = frames[first + t];
        }
        NV_TRY(dev->ops->conv(dev, &a, err));
    }
    slots[0] = slots[1];
    slots[1] = *spare;
    *spare = (void *)(uintptr_t)frames[0];
    return NABLA_OK;
}

/* ------------------------------------------------------------------ layers */

nabla_status nv_vae_linear_apply(nv_vae *vae, const nv_vae_linear *l, const float *x, int64_t rows, float *y,
                                 nv_error *err) {
    nv_device *dev = vae->device;
    return dev->ops->linear(dev, nv_matrix_of(x, NABLA_FP32, rows, l->in),
                            nv_matrix_of(l->weight, NABLA_FP32, l->out, l->in), l->bias,
                            nv_matrix_of(y, NABLA_FP32, rows, l->out), err);
}

static nabla_status residual(nv_vae_run *run, int32_t i, float *x, nv_error *err) {
    const nv_vae_layer *l = &run->stack->layers[i];
    nv_vae_state *s = &run->states[i];
    float *const hidden[2] = {scratch_of(run, i).hidden};
    float *const y[2] = {s->y ? s->y : x};
    NV_TRY(in_time(run, i, 0, x, l->gamma[0], hidden, 0, err));
    if (s->y) NV_TRY(nv_vae_linear_apply(run->vae, &l->linear[0], x, pixels(s), s->y, err));
    NV_TRY(in_time(run, i, 1, hidden[0], l->gamma[1], y, 1, err));
    return push(run, i + 1, y[0], err);
}

static nabla_status attention(nv_vae_run *run, int32_t i, float *x, nv_error *err) {
    const nv_vae_layer *l = &run->stack->layers[i];
    nv_device *dev = run->vae->device;
    const int64_t count = pixels(&run->states[i]), dim = l->in, strip = strip_of(count);
    const passing p = scratch_of(run, i);
    const nv_matrix hidden = nv_matrix_of(p.hidden, NABLA_FP32, count, dim),
                    qkv = nv_matrix_of(p.qkv, NABLA_FP32, count, 3 * dim);
    const nv_channel_norm norm = {nv_matrix_of(x, NABLA_FP32, count, dim), hidden, l->gamma[0], 0};
    NV_TRY(dev->ops->channel_norm(dev, &norm, err));
    NV_TRY(nv_vae_linear_apply(run->vae, &l->linear[0], p.hidden, count, p.qkv, err));
    for (int64_t first = 0; first < count; first += strip) {
        const int64_t rows = count - first < strip ? count - first : strip;
        const nv_matrix scores = nv_matrix_of(p.scores, NABLA_FP32, rows, count),
                        q = nv_matrix_rows(nv_matrix_cols(qkv, 0, dim), first, rows);
        NV_TRY(dev->ops->linear(dev, q, nv_matrix_cols(qkv, dim, dim), NULL, scores, err));
        NV_TRY(dev->ops->softmax(dev, scores, 1.0f / sqrtf((float)dim), NULL, scores, err));
        NV_TRY(dev->ops->linear_backward_input(dev, scores, nv_matrix_cols(qkv, 2 * dim, dim),
                                               nv_matrix_rows(hidden, first, rows), 0, err));
    }
    NV_TRY(nv_vae_linear_apply(run->vae, &l->linear[1], p.hidden, count, p.qkv, err));
    NV_TRY(dev->ops->add(dev, x, p.qkv, count * dim, err));
    return push(run, i + 1, x, err);
}

static nabla_status widen(nv_vae_run *run, int32_t i, const float *x, nv_error *err) {
    const nv_vae_layer *l = &run->stack->layers[i];
    nv_vae_state *s = &run->states[i];
    nv_device *dev = run->vae->device;
    const nv_vae_state wide = {.height = 2 * s->height, .width = 2 * s->width};
    void *to = scratch_of(run, i).wide;
    NV_TRY(dev->ops->upsample(dev, x, s->height, s->width, nv_matrix_of(to, run->vae->compute, pixels(&wide), l->in),
                              err));
    NV_TRY(tap(run, &l->conv[0], 0, &wide, to, s->y, 0, err));
    return push(run, i + 1, s->y, err);
}

/* A clip's first frame is not doubled, and the convolution in time does not come to know it. */
static nabla_status up(nv_vae_run *run, int32_t i, float *x, nv_error *err) {
    nv_vae_state *s = &run->states[i];
    if (!run->stack->layers[i].time || s->seen[0]++ == 0) return widen(run, i, x, err);
    NV_TRY(in_time(run, i, 1, x, NULL, s->halves, 0, err));
    NV_TRY(widen(run, i, s->halves[0], err));
    return widen(run, i, s->halves[1], err);
}

/* Frame 0 passes; then a frame leaves for every two that come, made of them and the one before. The middle one is added
   when it comes, so that one place is enough for what must be remembered. */
static nabla_status down(nv_vae_run *run, int32_t i, const float *x, nv_error *err) {
    const nv_vae_layer *l = &run->stack->layers[i];
    nv_vae_state *s = &run->states[i];
    nv_device *dev = run->vae->device;
    const nv_vae_state small = {.height = nv_conv_side(&l->conv[0].shape, s->height),
                                .width = nv_conv_side(&l->conv[0].shape, s->width)};
    const passing p = scratch_of(run, i);
    const int64_t n = s->seen[1]++;
    float *to = l->time && n > 0 ? p.hidden : s->y;
    NV_TRY(take_in(run, x, pixels(s), l->in, NULL, p.wide, err));
    NV_TRY(tap(run, &l->conv[0], 0, s, p.wide, to, 0, err));
    if (!l->time) return push(run, i + 1, s->y, err);
    if (n % 2) NV_TRY(tap(run, &l->conv[1], 0, &small, s->slots[1][0], s->y, 0, err));
    NV_TRY(dev->ops->cast(dev, nv_matrix_of(to, NABLA_FP32, pixels(&small), l->out),
                          nv_matrix_of(s->slots[1][0], run->vae->compute, pixels(&small), l->out), err));
    if (n > 0) NV_TRY(tap(run, &l->conv[1], n % 2 ? 1 : 2, &small, s->slots[1][0], s->y, 1, err));
    return n % 2 ? NABLA_OK : push(run, i + 1, s->y, err);
}

static nabla_status plain(nv_vae_run *run, int32_t i, const float *x, nv_error *err) {
    nv_vae_state *s = &run->states[i];
    float *const y[2] = {s->y};
    NV_TRY(in_time(run, i, 0, x, run->stack->layers[i].gamma[0], y, 0, err));
    return push(run, i + 1, s->y, err);
}

static nabla_status push(nv_vae_run *run, int32_t i, float *x, nv_error *err) {
    if (i == run->stack->count) return run->deliver(run->user, x, err);
    if (run->stop && run->stop(run->stop_user)) return nv_fail(err, NABLA_CANCELLED, "stopped");
    switch (run->stack->layers[i].kind) {
    case NV_VAE_RESIDUAL:
        return residual(run, i, x, err);
    case NV_VAE_ATTENTION:
        return attention(run, i, x, err);
    case NV_VAE_UP:
        return up(run, i, x, err);
    case NV_VAE_DOWN:
        return down(run, i, x, err);
    case NV_VAE_CONV:
    case NV_VAE_HEAD:
        break;
    }
    return plain(run, i, x, err);
}

nabla_status nv_vae_run_frame(nv_vae_run *run, nv_error *err) {
    return push(run, 0, run->x, err);
}

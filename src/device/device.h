/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device: where the engine's tensors live and what can be done to them. The layers (nn/) and the models are written
 * once over this table; only what lies under device/ knows which device it is.
 *
 * Conventions. M rows (tokens of all samples), row b * S + s for token s of sample b. "Compute dtype" is fp32 or bf16;
 * sums and statistics are fp32 always. Gradients of parameters are fp32 and *added to*; gradients of activations are
 * written unless said otherwise. Each operation names what a backward pass needs from the forward and what it computes
 * again. Results depend on shapes, threads, libraries and the device's choices only: reductions go through partial sums
 * of fixed rows that are added in order. Operations fail on lack of memory only, or where a size is refused.
 */
#ifndef NV_DEVICE_H
#define NV_DEVICE_H

#include "nabla/nabla.h"
#include "tensor/clock.h"
#include "tensor/error.h"
#include "tensor/matrix.h"

typedef struct nv_device nv_device;

typedef enum nv_activation { NV_GELU_TANH, NV_SILU } nv_activation;

/* x += y * gate, then n = norm(x) * (gain_offset + gain) + shift, in one pass over the rows: the seam between two
   branches of a transformer block. Each part may be left out. Rows come in groups (samples) of group_rows that share
   gate, gain and shift; `*_stride` is the distance between groups, 0 where all share one. norm(x) = (x - mean) * rstd,
   rstd = 1 / sqrt(var + eps). Saves for the backward pass: xhat = norm(x) and rstd. */
typedef struct nv_seam {
    int64_t rows, dim, group_rows;
    float *x;          /* [rows, dim] residual stream, in and out */
    nv_matrix y;       /* [rows, dim] what the branch before gave; y.data NULL: nothing is added */
    const float *gate; /* [dim] a group; NULL: 1 */
    int64_t gate_stride;
    int32_t normalise; /* 0: n is x in n's dtype; eps, gain, shift, xhat, rstd are not used */
    float eps;
    float gain_offset; /* 1 for scales of a modulation, 0 for an affine norm's weights */
    const float *gain, *shift;
    int64_t gain_stride; /* of both */
    nv_matrix n;         /* [rows, dim] output; may be y where both are of one dtype */
    void *xhat;          /* [rows, dim] of n's dtype, contiguous; NULL: not saved */
    float *rstd;         /* [rows]; NULL: not saved */
} nv_seam;

/* The seam backwards: with the gradient d_n of n and the stream's gradient d_x from further on (both of the *new* x),
   d_x becomes that of the old x, and d_y = d_x * gate the branch's. Computes nothing again. */
typedef struct nv_seam_grad {
    nv_matrix d_n; /* n's dtype */
    float *d_x;    /* [rows, dim], in and out */
    int32_t first; /* 1: nothing came from further on; d_x is written without being read */
    nv_matrix d_y; /* of the dtype of y; data NULL: left out */
    float *d_gain, *d_shift;
    int64_t d_gain_stride; /* of both; groups that share (0) are added up */
    float *d_gate;         /* needs y */
    int64_t d_gate_stride;
    float *d_bias; /* [dim]: column sums of d_y, the gradient of the bias that y was made with; may be NULL */
} nv_seam_grad;

/* y = rope(x * rstd * weight), rstd = 1 / sqrt(mean(x^2) + eps) over all dim columns (all heads together), then pairs
   (2i, 2i + 1) of every head turned by the token's angles. x and y may be one matrix only without a backward pass.
   Saves rstd; the backward pass computes the rest again from x. */
typedef struct nv_qk_norm {
    nv_matrix x, y; /* [rows, dim] */
    int32_t heads;
    float eps;
    const float *weight; /* [dim] */
    const float *rope;   /* [tokens, head_dim] as (cos, sin) a pair; row r uses token r % tokens; NULL: not turned */
    int64_t tokens;
    float *rstd; /* [rows] or NULL */
} nv_qk_norm;

/* Latent [batch, channels, F, H, W] fp32 <-> rows of patches in tile order. raster[i] is the raster index of token i;
   columns are (channel, pf, ph, pw), or (pf, ph, pw, channel) with channels_last. */
typedef struct nv_patches {
    int64_t batch, channels;
    int32_t size[3];  /* F, H, W of the latent */
    int32_t patch[3]; /* divides size */
    const int32_t *raster;
    int32_t channels_last;
} nv_patches;

/* Clips as training sees them, made where they are used: sample b's noise is nv_philox_normal of nv_philox_at(seed,
 *stream + b), the same bits on every device; x = (1 - sigma) clean + sigma noise. */
typedef struct nv_noising {
    int64_t batch, n; /* samples, numbers of each */
    uint64_t seed;
    const uint64_t *stream; /* in the device's memory: where it changes, what was recorded stays good */
    const float *sigma;     /* [batch] */
    float *x;               /* [batch, n] out */
    float *clean;           /* [batch, n] in; with velocity it becomes noise - clean */
    int32_t velocity;
} nv_noising;

/* A part of a tensor that training changes: `count` numbers, at most NV_PIECE, and what goes with them. */
enum { NV_PIECE = 1 << 14 };
typedef struct nv_piece {
    float *value, *grad, *m, *v, *ema;
    int32_t count;
    float weight_decay;
} nv_piece;

/* The numbers of one update, in the device's memory: where they change, what was recorded stays good. */
typedef struct nv_adamw_numbers {
    float lr, ema_decay;
    float m_scale, v_scale; /* 1 / (1 - beta1^step), 1 / (1 - beta2^step); step from 1 */
} nv_adamw_numbers;

/* AdamW with decoupled decay, in one pass: g = grad * grad_scale * min(1, clip / norm), norm = grad_scale *
   sqrt(squares); m, v moments; value -= lr * (m * m_scale / (sqrt(v * v_scale) + eps) + weight_decay * value); ema +=
   (1
   - ema_decay) * (value - ema). Gradients are zeroed. Where squares is not finite nothing changes. */
typedef struct nv_adamw {
    float beta1, beta2, eps;
    float grad_scale; /* 1 / accumulation */
    float clip;       /* 0: not clipped */
    const nv_adamw_numbers *numbers;
    const double *squares; /* of all gradients, in the device's memory: what sum_squares left there */
} nv_adamw;

/* The numbers of one step of a sampler, in the device's memory: where they change, what was recorded stays good. */
typedef struct nv_solve_numbers {
    int32_t step; /* from 1: what is left in `failed` */
    float guidance;
    float scale; /* 0: the model gives velocities; else clean samples, and a velocity is (x - it) * scale */
    float sigma;
    struct {
        float x, clean, last, before, corrected;
    } here; /* weights of what the step starts from */
    struct {
        float here, clean, last, velocity;
    } next; /* weights of what it leaves */
} nv_solve_numbers;

/* A sampler's step from the noise level sigma to the next, over the latents of a batch; sample/ has the weights.
       v = output, or guided: without + guidance (with - without), as a velocity
       clean = x - sigma v
       here = sum of here.x x + here.clean clean + here.last last + ...
       x = next.here here + next.clean clean + next.last last + next.velocity v
   then before = last, last = clean, corrected = here. A weight of 0 takes its array out of the sum only where that
   holds finite numbers. */
typedef struct nv_solve {
    int64_t n;
    int32_t guided;
    const float *output;       /* [n]; guided: [2n], with caption, then without */
    float *x, *last;           /* [n] */
    float *before, *corrected; /* [n] or both NULL: no such terms */
    const nv_solve_numbers *numbers;
    int32_t *failed; /* 0 until a step leaves NaN or infinity in x: that step's number */
} nv_solve;

/* Rows scaled to length sqrt(cols), times gamma, through SiLU where asked: the VAE's norm. y = act(x * sqrt(cols) /
   max(|x|, 1e-12) * gamma). Forward only. */
typedef struct nv_channel_norm {
    nv_matrix x;        /* fp32 */
    nv_matrix y;        /* of x's shape, fp32 or bf16; may be x */
    const float *gamma; /* [cols] */
    int32_t silu;
} nv_channel_norm;

/* 2-D convolutions over up to three frames, channels last, summed: a causal 3-D convolution, whose frames need not lie
   side by side and of which those before the clip, zeros, are left out. Weights are [out, kernel, kernel, in] of the
   input's dtype and of one shape; pads are zeros. */
enum { NV_CONV_FRAMES = 3 };

typedef struct nv_conv_shape {
    int32_t in, out, kernel, stride;
    int32_t pad_before, pad_after; /* above and to the left; below and to the right */
} nv_conv_shape;

static inline int32_t nv_conv_side(const nv_conv_shape *s, int32_t side) {
    return (side + s->pad_before + s->pad_after - s->kernel) / s->stride + 1;
}

typedef struct nv_conv_weights nv_conv_weights; /* in whatever order the device likes them */

typedef struct nv_conv {
    int32_t frames;                           /* 1 to NV_CONV_FRAMES */
    nv_conv_weights *weights[NV_CONV_FRAMES]; /* may be put into another order by the call: one call at a time */
    const void *x[NV_CONV_FRAMES];            /* each [height * width, in] of the weights' dtype */
    int32_t height, width;                    /* of each x */
    const float *bias;                        /* [out]; NULL: none */
    float *y;                                 /* [nv_conv_side(height) * nv_conv_side(width), out] */
    int32_t add;                              /* y += instead of y = */
} nv_conv;

/* Frame i of a, for a device that takes one after the other: the first brings the bias, the later ones are added. */
static inline nv_conv nv_conv_frame(const nv_conv *a, int32_t i) {
    nv_conv one = *a;
    one.frames = 1;
    one.weights[0] = a->weights[i];
    one.x[0] = a->x[i];
    if (i > 0) one.bias = NULL;
    if (i > 0) one.add = 1;
    return one;
}

/* Work that is queued again and again at the same places in memory, recorded to be queued whole. */
typedef struct nv_recording nv_recording;
typedef nabla_status (*nv_work)(void *user, nv_error *err);

/* What a device's time goes to. */
typedef enum nv_phase {
    NV_OTHER,
    NV_PRODUCTS,
    NV_ATTENTION,
    NV_PLAN,
    NV_WEIGHTS, /* waiting for weights that the host holds */
    NV_UPDATE,  /* what a model's passes are for: a sampler's step; the loss, an optimizer's step */
    NV_PHASES
} nv_phase;

/* Where a device's time and its products' work went. */
typedef struct nv_clock {
    double seconds[NV_PHASES];
    double product_flop; /* 2 a multiply-add */
} nv_clock;

/* Memory of the device, in bytes; 0 where it cannot be found out. */
typedef struct nv_device_memory {
    double total;
    double available; /* for its users: less what the device may yet take for itself */
    double held;      /* the most that this process held; of a GPU with what others have now */
} nv_device_memory;

enum { NV_FETCH_LANES = 2 };

typedef struct nv_device_ops {
    void (*destroy)(nv_device *dev);
    const char *(*products)(const nv_device *dev, nabla_dtype dtype); /* nv_device_products() */
    /* Waits for the work that was queued; what of it failed, copies too, surfaces here. */
    nabla_status (*wait)(nv_device *dev, nv_error *err);

    /* ------------------------------------------------------------ choices (see origin.h, which keeps them) */
    /* What the device chose by the clock and results depend on, as lines of text that another process can be given: the
       caller's to free(). "" where it chooses nothing so, as on the CPU. */
    nabla_status (*choices)(nv_device *dev, char **out, nv_error *err);
    /* Takes another's choices, before the work that they are for. *lost: how many this device's libraries do not offer;
       it chooses anew there. NABLA_CORRUPT where the text is none of this device's. */
    nabla_status (*choose)(nv_device *dev, const char *text, int32_t *lost, nv_error *err);

    /* ------------------------------------------------------------ time */
    /* What follows is of that phase; returns the phase so far, to go back to. Costs next to nothing: waits only once in
       thousands of changes. */
    nv_phase (*phase)(nv_device *dev, nv_phase phase);
    void (*clock_reset)(nv_device *dev);
    void (*clock_read)(nv_device *dev, nv_clock *out); /* since the reset; waits */

    /* ------------------------------------------------------------ work that repeats (repeat.h decides when) */
    /* Records what work(user) queues instead of doing it. It was done before, just so: taking memory, waiting, and
       copies from or to the host fail it. `like`, may be NULL: its clock then, by whose shares the time of a replay is
       told. NULL in the table of a device that does its work when it is asked to and has nothing to record: the CPU. */
    nabla_status (*record)(nv_device *dev, nv_work work, void *user, const nv_clock *like, nv_recording **out,
                           nv_error *err);
    /* Queues it whole: the same operations in the same order, on what is in memory then. */
    nabla_status (*replay)(nv_device *dev, nv_recording *recording, nv_error *err);
    /* 0: memory of the device's own that it uses has moved since, so that it must be recorded anew. */
    int (*replays)(const nv_device *dev, const nv_recording *recording);
    void (*recording_release)(nv_device *dev, nv_recording *recording); /* NULL is fine; waits */

    /* ------------------------------------------------------------ memory */
    void (*memory)(nv_device *dev, nv_device_memory *out);
    nabla_status (*allocate)(nv_device *dev, size_t bytes, void **out, nv_error *err); /* 64-byte aligned, zeroed */
    void (*release)(nv_device *dev, void *data);
    void (*zero)(nv_device *dev, void *data, size_t bytes);
    void (*copy)(nv_device *dev, void *dst, const void *src, size_t bytes); /* within the device */
    void (*upload)(nv_device *dev, void *dst, const void *src,
                   size_t bytes); /* from the host, which may then reuse src */
    /* To the host; waits. Where it or what was queued before it failed, dst is not to be used; wait() tells it again.
     */
    nabla_status (*download)(nv_device *dev, void *dst, const void *src, size_t bytes, nv_error *err);

    /* ------------------------------------------------------------ copies beside the queue */
    /* Gives back what the device holds for itself, libnabla's scratch included; it comes back when it is needed. */
    void (*trim)(nv_device *dev);
    /* Host memory that copies reach at once; not zeroed. */
    nabla_status (*host_allocate)(nv_device *dev, size_t bytes, void **out, nv_error *err);
    void (*host_release)(nv_device *dev, void *data); /* once no copy uses it; NULL is fine */
    /* dst = src (of host_allocate), beside the work that is queued from now on and behind what was queued before. src
       stays as it is until fetched. What failed is told by wait(). */
    void (*fetch)(nv_device *dev, int32_t lane, void *dst, const void *src, size_t bytes);
    void (*await)(nv_device *dev, int32_t lane);   /* what is queued from now on finds the lane's last copy done */
    void (*fetched)(nv_device *dev, int32_t lane); /* the host waits for it */
    /* dst (of host_allocate) = src, behind the work queued before and ahead of what is fetched later. NULL on a device
       whose memory is the host's: weights have nowhere to go from there. */
    void (*stow)(nv_device *dev, void *dst, const void *src, size_t bytes);

    /* ------------------------------------------------------------ products; w is [out, in] as torch keeps it */
    /* y = x w^T + bias (NULL: none; it may be rounded to y's dtype). x and w of one dtype; y of that or fp32. */
    nabla_status (*linear)(nv_device *dev, nv_matrix x, nv_matrix w, const float *bias, nv_matrix y, nv_error *err);
    /* y = act(x w^T + bias). No backward pass. On GPUs act may be of the unrounded sum; on the CPU it is of what linear
       gives, so that the bits are those of a pass that keeps it. */
    nabla_status (*linear_activate)(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix w, const float *bias,
                                    nv_matrix y, nv_error *err);
    /* d_x = d_y w, or d_x += d_y w (add; fp32 d_x). */
    nabla_status (*linear_backward_input)(nv_device *dev, nv_matrix d_y, nv_matrix w, nv_matrix d_x, int add,
                                          nv_error *err);
    /* d_w += d_y^T x; d_bias (NULL: left out) += column sums of d_y. d_w is [out, in] contiguous. */
    nabla_status (*linear_backward_weight)(nv_device *dev, nv_matrix d_y, nv_matrix x, float *d_w, float *d_bias,
                                           nv_error *err);
    /* The device's own memory that the products of a layer of these sizes grow to at most, forward alone or backward
       too. NULL on a device whose products' memory does not depend on them. */
    size_t (*linear_memory)(const nv_device *dev, nabla_dtype dtype, int64_t rows, int64_t in, int64_t out,
                            int backward);

    /* ------------------------------------------------------------ rows */
    nabla_status (*seam)(nv_device *dev, const nv_seam *a, nv_error *err);
    nabla_status (*seam_backward)(nv_device *dev, const nv_seam *a, const nv_seam_grad *g, nv_error *err);
    nabla_status (*qk_norm)(nv_device *dev, const nv_qk_norm *a, nv_error *err);
    /* d_y -> d_x (may be the same matrix); d_weight[dim] +=; d_bias[dim] (NULL: left out) += column sums of d_x. */
    nabla_status (*qk_norm_backward)(nv_device *dev, const nv_qk_norm *a, nv_matrix d_y, nv_matrix d_x, float *d_weight,
                                     float *d_bias, nv_error *err);
    /* y = act(x), of one dtype; y may be x. */
    nabla_status (*activate)(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix y, nv_error *err);
    /* d_x = d_y * act'(x), all of one dtype; d_x may be d_y. again (data NULL: left out) gets act(x) once more, so that
       a forward pass need not keep it; it may be x itself. d_bias[cols] (NULL: left out) += column sums of d_x. */
    nabla_status (*activate_backward)(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix d_y, nv_matrix d_x,
                                      nv_matrix again, float *d_bias, nv_error *err);
    /* y = act(x) * z, all of one dtype; y may be x or z. No backward pass: what uses it (the text encoder) is not
     * trained.
     */
    nabla_status (*gate)(nv_device *dev, nv_activation act, nv_matrix x, nv_matrix z, nv_matrix y, nv_error *err);
    /* p[i, j] = softmax over j of scale * s[i, j] + bias[j - i + rows - 1]: attention as a text encoder (a bias by the
       distance of two tokens) and a VAE (none) have it. s fp32 [rows, cols], written over; bias [rows + cols - 1],
       NULL: none; p of either dtype, may be s. No backward pass either. */
    nabla_status (*softmax)(nv_device *dev, nv_matrix s, float scale, const float *bias, nv_matrix p, nv_error *err);
    nabla_status (*cast)(nv_device *dev, nv_matrix src, nv_matrix dst, nv_error *err);
    /* sums[cols] += column sums of x. */
    nabla_status (*column_sums)(nv_device *dev, nv_matrix x, float *sums, nv_error *err);

    nabla_status (*add)(nv_device *dev, float *sum, const float *x, int64_t n, nv_error *err); /* sum += x */

    /* ------------------------------------------------------------ frames; forward only */
    nabla_status (*channel_norm)(nv_device *dev, const nv_channel_norm *a, nv_error *err);
    /* x fp32 [height * width, cols of y] -> y [2 height * 2 width, cols], each pixel four times; y fp32 or bf16. */
    nabla_status (*upsample)(nv_device *dev, const float *x, int32_t height, int32_t width, nv_matrix y, nv_error *err);
    /* values: [out, kernel, kernel, in] in the host's memory, not needed afterwards. */
    nabla_status (*conv_weights)(nv_device *dev, const nv_conv_shape *shape, nabla_dtype dtype, const float *values,
                                 nv_conv_weights **out, nv_error *err);
    size_t (*conv_weights_bytes)(const nv_device *dev, const nv_conv_shape *shape,
                                 nabla_dtype dtype);                        /* what they take */
    void (*conv_weights_release)(nv_device *dev, nv_conv_weights *weights); /* NULL is fine */
    nabla_status (*conv)(nv_device *dev, const nv_conv *a, nv_error *err);

    /* ------------------------------------------------------------ in and out of the model */
    nabla_status (*patchify)(nv_device *dev, const nv_patches *p, const float *latent, nv_matrix rows, nv_error *err);
    nabla_status (*unpatchify)(nv_device *dev, const nv_patches *p, nv_matrix rows, float *latent, nv_error *err);
    /* out[rows, dim] fp32: cosines then sines of time * 10000^(-i / (dim / 2)). dim even. */
    nabla_status (*sinusoid)(nv_device *dev, const float *time, int64_t rows, int64_t dim, float *out, nv_error *err);
    /* out[b, i, :] = table[i, :] + e[b, i % e_chunks, :] for i < chunks: learned table plus what time says. */
    nabla_status (*modulation)(nv_device *dev, const float *table, const float *e, int64_t batch, int64_t chunks,
                               int64_t e_chunks, int64_t dim, float *out, nv_error *err);
    /* d_table += sum over b of d_out; d_e += d_out (summed over the chunks that shared it). */
    nabla_status (*modulation_backward)(nv_device *dev, const float *d_out, int64_t batch, int64_t chunks,
                                        int64_t e_chunks, int64_t dim, float *d_table, float *d_e, nv_error *err);
    /* out[i, :] = table[ids[i], :]; ids in [0, table_rows) is the caller's promise. */
    nabla_status (*embed)(nv_device *dev, const float *table, const int32_t *ids, int64_t count, int64_t dim,
                          float *out, nv_error *err);
    /* d_table[ids[i], :] += d_out[i, :], in ascending i. */
    nabla_status (*embed_backward)(nv_device *dev, const float *d_out, const int32_t *ids, int64_t count, int64_t dim,
                                   float *d_table, nv_error *err);

    /* ------------------------------------------------------------ sampling */
    nabla_status (*solve)(nv_device *dev, const nv_solve *a, nv_error *err);

    /* ------------------------------------------------------------ loss, optimizer */
    nabla_status (*noise)(nv_device *dev, const nv_noising *a, nv_error *err);
    /* *loss, in the device's memory, = mean over batch and n of weight[b] (output - target)^2; output becomes its
       gradient. output and target are [batch, n], weight [batch]. */
    nabla_status (*mse)(nv_device *dev, int64_t batch, int64_t n, const float *weight, const float *target,
                        float *output, double *loss, nv_error *err);
    /* pieces[count], in the device's memory as what they point to. *sum, there too, = sum of the squares of all their
       gradients, in fp64. */
    nabla_status (*sum_squares)(nv_device *dev, const nv_piece *pieces, int64_t count, double *sum, nv_error *err);
    nabla_status (*adamw)(nv_device *dev, const nv_adamw *a, const nv_piece *pieces, int64_t count, nv_error *err);
} nv_device_ops;

struct nv_device {
    const nv_device_ops *ops;
    nabla_context *context; /* attention, on the same threads */
    int32_t threads;
    const char *level;
    const char *kind; /* "cpu", "cuda" */
    char name[128];   /* of a GPU, "NVIDIA H100 80GB HBM3"; "" on the CPU */
};

typedef struct nv_device_options {
    nabla_device device; /* NABLA_CPU */
    int32_t ordinal;     /* which GPU; 0. It becomes the calling thread's current one, and must be that of any thread
                            whenever it uses the device or destroys it */
    int32_t threads;     /* 0: every processor this process may use */
    const char *level;   /* NULL: the best. Chooses our own kernels; oneDNN's products choose for themselves */
} nv_device_options;

/* options may be NULL for the defaults. */
nabla_status nv_device_create(const nv_device_options *options, nv_device **out, nv_error *err);
void nv_device_destroy(nv_device *dev); /* NULL is fine */

/* What makes the products of a dtype, in words: "oneDNN 2.6.3 brg:avx512_core_bf16", "own", "own, bf16 as fp32",
   "cuBLASLt 13.1.0". */
const char *nv_device_products(const nv_device *dev, nabla_dtype dtype);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libnabla: Neighborhood Adaptive Block-Level Attention (arXiv 2507.13546).
 *
 * The idea in one paragraph. A video is a grid of tokens. Reordered so that every tile (8 x 8 tokens of one
 * frame) is a block of consecutive tokens, attention becomes a matrix of block pairs, most of which hold next to
 * no probability. NABLA finds those that matter from the means of the blocks' queries and keys, and attends only
 * there. So a call has three steps: put tokens in tile order (once a model), build a *plan* (which key blocks each
 * query block keeps), run attention over the plan.
 *
 *     nabla_context *ctx;            nabla_context_create(NULL, &ctx, NULL, 0);
 *     nabla_order *order;            nabla_order_create(ctx, &grid, &order);
 *     nabla_plan *plan;              nabla_plan_create(ctx, &desc, &plan);
 *     nabla_policy policy;           nabla_policy_parse(ctx, "nabla-0.7_sta-11-3-3", &policy);
 *     nabla_plan_build(ctx, plan, &policy, &inputs);
 *     nabla_attention_forward(ctx, plan, &params, &q, &k, &v, &o, &lse);
 *
 * Everywhere: B batch, S tokens, H heads, D head dim; tensors are [B, S, H, D] with any strides as long as D is
 * contiguous; the caller owns every tensor's data. Functions return a status; nabla_context_message() explains the
 * last failure in a sentence. Nothing here exits, prints or reads an environment variable, but for NABLA_CPU, which
 * forces a lower CPU level (see nabla_context_options). A context may be used by one thread at a time; different
 * contexts by different threads at once. Plans and orders are read-only while attention runs and may be shared then.
 *
 * On a GPU. A context made with device NABLA_CUDA is one stream of one GPU, and the same three steps run there: every
 * tensor's data must be memory of that GPU (cudaMalloc's, cudaMallocManaged's, PyTorch's, nabla_memory_allocate's; host
 * memory is refused by name). Calls check their arguments, queue their work on the stream and return; what goes wrong
 * later surfaces at nabla_context_synchronize(). The calls that wait are those that make contexts, orders and plans or
 * bring figures or memory to the host, and say so. Everything that only queues can be captured in a CUDA graph once the
 * context has its scratch (nabla_context_reserve); what it used must then outlive the graph. Attention takes up to
 * 65,535 heads over all batches.
 *
 * Who outlives whom. Plans and orders serve every context of the device they were made for, and are destroyed before
 * the context that made them, by its thread: on a GPU their memory goes back in the order of that context's stream, not
 * while it is being captured. Between streams the order is the caller's: let one wait for the other (an event, or
 * nabla_context_synchronize()) before it uses a plan that was built there, and before the plan is built again or
 * destroyed.
 */
#ifndef NABLA_H
#define NABLA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NABLA_API __attribute__((visibility("default")))
#else
#define NABLA_API
#endif

#define NABLA_VERSION_MAJOR 0
#define NABLA_VERSION_MINOR 1
#define NABLA_VERSION_PATCH 0

/* "0.1.0" of the library that runs, which may differ from the header's. */
NABLA_API const char *nabla_version(void);

/* ---------------------------------------------------------------------------------------------- status */

typedef enum nabla_status {
    NABLA_OK = 0,
    NABLA_INVALID_ARGUMENT = 1, /* a value that can never work: the message names it */
    NABLA_UNSUPPORTED = 2,      /* fine in itself, not by this build or machine */
    NABLA_OUT_OF_MEMORY = 3,
    NABLA_OVERFLOW = 4,  /* sizes whose product does not fit */
    NABLA_CANCELLED = 5, /* a progress callback asked to stop */
    NABLA_IO = 6,        /* reading or writing a file failed */
    NABLA_CORRUPT = 7,   /* a file's content is not what its format promises */
    NABLA_INTERNAL = 8
} nabla_status;

/* A few words for a status; never NULL, never freed. */
NABLA_API const char *nabla_status_string(nabla_status status);

/* ---------------------------------------------------------------------------------------------- tensors */

typedef enum nabla_dtype { NABLA_FP32 = 0, NABLA_BF16 = 1, NABLA_FP16 = 2 /* GPUs only */ } nabla_dtype;

#define NABLA_MAX_RANK 5

/* A view of the caller's data. Strides are in elements. */
typedef struct nabla_tensor {
    void *data;
    nabla_dtype dtype;
    int32_t rank;
    int64_t shape[NABLA_MAX_RANK];
    int64_t stride[NABLA_MAX_RANK];
} nabla_tensor;

NABLA_API size_t nabla_dtype_size(nabla_dtype dtype);

/* A contiguous (row-major) view of `data`. rank <= NABLA_MAX_RANK. */
NABLA_API nabla_tensor nabla_tensor_contiguous(void *data, nabla_dtype dtype, int32_t rank, const int64_t *shape);

/* ---------------------------------------------------------------------------------------------- context */

typedef struct nabla_context nabla_context;

typedef enum nabla_device { NABLA_CPU = 0, NABLA_CUDA = 1 } nabla_device;

typedef struct nabla_context_options {
    size_t size;         /* sizeof(nabla_context_options) */
    nabla_device device; /* default NABLA_CPU */
    int32_t threads;     /* CPU: 0 (default): every processor this process may use */
    const char *level;   /* NULL (default): the best this machine has; else on the CPU "generic", "avx2", "avx512" ...,
                            on a GPU "sm80" (compute capability 8.0 and later) or "sm90" (9.0 alone); a level that the
                            machine lacks is NABLA_UNSUPPORTED. sm90 is of 16-bit types and D to 128, its q, k, v and
                            d_o of one type with rows, heads and batches on 16-byte boundaries, none shared by a stride
                            of 0; sm80's kernels do the rest there. The environment variable NABLA_CPU does the same
                            for the CPU where this is NULL. */
    /* The rest is for NABLA_CUDA; on the CPU memory_reserve alone counts. */
    int32_t ordinal;       /* default 0: which GPU, as cudaSetDevice counts; every call leaves the thread's current
                              device as it was */
    void *stream;          /* the caller's cudaStream_t on that GPU, which must outlive the context (for CUDA's default
                              stream give cudaStreamLegacy); NULL (default): the context makes one of its own, which
                              waits for no other stream and none for it */
    void *memory_pool;     /* the caller's cudaMemPool_t of that GPU, which must outlive the context, its plans and its
                              orders: scratch, plans and orders are taken from it, and where it has too little it is
                              trimmed first; NULL (default): the context makes one of its own */
    size_t memory_limit;   /* the most bytes that the context, its plans and its orders may hold on the GPU together;
                              0 (default): no limit. What nabla_memory_allocate() gives does not count. */
    size_t memory_reserve; /* default 0: bytes of scratch taken at once, see nabla_context_reserve() */
} nabla_context_options;

NABLA_API nabla_context_options nabla_context_options_default(void);

/* options may be NULL for the defaults. On failure *out is NULL and, there being no context to ask, the reason is
   copied to `message` (may be NULL) of message_size bytes. On a GPU waits for the stream. */
NABLA_API nabla_status nabla_context_create(const nabla_context_options *options, nabla_context **out, char *message,
                                            size_t message_size);
/* NULL is fine. On a GPU waits for a stream of the context's own; work queued on the caller's stream goes on. */
NABLA_API void nabla_context_destroy(nabla_context *ctx);

/* The sentence behind the last failure on this context; "" if none. Valid until the next call on it. */
NABLA_API const char *nabla_context_message(const nabla_context *ctx);
NABLA_API const char *nabla_context_level(const nabla_context *ctx);
NABLA_API int32_t nabla_context_threads(const nabla_context *ctx); /* 1 on a GPU */
NABLA_API nabla_device nabla_context_device(const nabla_context *ctx);

/* Waits until all that was queued on the context is done. Its failures surface here: a kernel's as NABLA_INTERNAL, a
   bad entry of an import from GPU memory as NABLA_INVALID_ARGUMENT. On the CPU there is nothing to wait for. */
NABLA_API nabla_status nabla_context_synchronize(nabla_context *ctx);

/* Makes the context's scratch at least that large, so that no later call that needs no more (nabla_attention_memory()
   tells) takes memory: before capturing a CUDA graph, where taking memory is an error, or before timing. Scratch grows
   on demand otherwise, and shrinks in nabla_context_trim() alone; a graph captured before it grew must be captured
   again. */
NABLA_API nabla_status nabla_context_reserve(nabla_context *ctx, size_t bytes);
/* Gives all scratch back: between two pieces of work of which the next needs less. Later calls take what they need; a
   graph must be captured again, and during a capture this is an error. Waits for nothing: on a GPU work that was queued
   has its scratch to its end. There it goes back to the pool that it came from: to others only where these share the
   `memory_pool` of the context's options. */
NABLA_API nabla_status nabla_context_trim(nabla_context *ctx);
/* The bytes of scratch that the context holds, 0 for NULL: a captured graph stays good as long as they do not change,
   nabla_context_trim() is not called and no call fails with NABLA_OUT_OF_MEMORY. */
NABLA_API size_t nabla_context_reserved(const nabla_context *ctx);

/* The i-th level that this machine's CPU can run, from "generic" upwards; NULL past the last. */
NABLA_API const char *nabla_level_name(int32_t i);

/* How many devices of a kind there are: 1 for NABLA_CPU; for NABLA_CUDA 0 where the build has no CUDA or the machine
   no driver or GPU. */
NABLA_API int32_t nabla_device_count(nabla_device device);

typedef struct nabla_device_info {
    size_t size;                      /* sizeof(nabla_device_info), set by the caller */
    char name[128];                   /* "NVIDIA H100 80GB HBM3"; "" for the CPU */
    const char *level;                /* the best it runs, never freed; "" for a GPU that is too old for any */
    size_t memory_total, memory_free; /* bytes */
    int32_t multiprocessors;          /* CPU: processors this process may use */
    int32_t capability_major, capability_minor; /* CUDA's compute capability; 0 for the CPU */
} nabla_device_info;

/* On failure the reason is copied to `message` (may be NULL) of message_size bytes; there is no context to ask. Asking
   for a GPU's free memory makes CUDA set it up for this process, which takes a moment. */
NABLA_API nabla_status nabla_device_describe(nabla_device device, int32_t ordinal, nabla_device_info *info,
                                             char *message, size_t message_size);

/* ---------------------------------------------------------------------------------------------- memory */

/* Memory of the context's device, for callers that have none of their own: of the GPU on 256-byte boundaries, of the
   CPU on 64-byte ones; contents undefined. It may be used on every stream. Free it before the context; NULL is fine.
   Freeing GPU memory waits for the GPU. */
NABLA_API nabla_status nabla_memory_allocate(nabla_context *ctx, size_t bytes, void **out);
NABLA_API void nabla_memory_free(nabla_context *ctx, void *memory);
/* Copies from the host to the device and back, in the order of the context's other work, and waits: when they return,
   the host's memory may be reused, or read. On the CPU both are memcpy(). */
NABLA_API nabla_status nabla_memory_upload(nabla_context *ctx, void *to, const void *from_host, size_t bytes);
NABLA_API nabla_status nabla_memory_download(nabla_context *ctx, void *to_host, const void *from, size_t bytes);

/* ---------------------------------------------------------------------------------------------- grid, order */

/* Tokens as frames x height x width, cut into tiles; where a tile does not divide, edge tiles are smaller. */
typedef struct nabla_grid {
    int32_t frames, height, width;
    int32_t tile_frames, tile_height, tile_width; /* nabla_grid_default: 1, 8, 8 */
} nabla_grid;

NABLA_API nabla_grid nabla_grid_default(int32_t frames, int32_t height, int32_t width);

/* The permutation between raster order (frame, row, column) and tile order: tiles in raster order of tiles, tokens
   row-major within a tile. Blocks are the tiles: block b is tokens [offsets[b], offsets[b + 1]) of tile order. */
typedef struct nabla_order nabla_order;

/* On a GPU keeps a copy of the permutation there as well; waits. What the functions below return is on the host. */
NABLA_API nabla_status nabla_order_create(nabla_context *ctx, const nabla_grid *grid, nabla_order **out);
NABLA_API void nabla_order_destroy(nabla_order *order);
NABLA_API const nabla_grid *nabla_order_grid(const nabla_order *order);
NABLA_API int64_t nabla_order_tokens(const nabla_order *order);
NABLA_API int64_t nabla_order_blocks(const nabla_order *order);
NABLA_API const int32_t *nabla_order_offsets(const nabla_order *order); /* [blocks + 1] */
/* raster[i]: raster index of the token at position i of tile order. [tokens] */
NABLA_API const int32_t *nabla_order_raster(const nabla_order *order);

/* src, dst: [B, S, ...] of one dtype and shape, everything after S contiguous; must not overlap.
   apply: raster -> tile order. undo: tile -> raster order. */
NABLA_API nabla_status nabla_order_apply(nabla_context *ctx, const nabla_order *order, const nabla_tensor *src,
                                         const nabla_tensor *dst);
NABLA_API nabla_status nabla_order_undo(nabla_context *ctx, const nabla_order *order, const nabla_tensor *src,
                                        const nabla_tensor *dst);

/* ---------------------------------------------------------------------------------------------- policy */

/* A rule that chooses blocks: the union of what its terms keep. A plain value; copy it freely. */
typedef struct nabla_policy {
    size_t size;
    int32_t dense;     /* keep everything */
    int32_t has_nabla; /* adaptive: the blocks that hold the top `thr` of each row's probability */
    float thr;         /* in (0, 1]; probability mass kept */
    int32_t has_sta;   /* sliding tile window around the query's tile */
    int32_t sta_frames, sta_height, sta_width; /* window in tiles: |df| <= sta_frames / 2 (integer division) ... */
    int32_t int8; /* attention over its plans computes in 8 bits, see nabla_attention_forward; CPU, forward only */
} nabla_policy;

/* Terms joined by '_': "dense", "nabla-<thr>", "sta-<wT>-<wH>-<wW>", the grammar of the reference
   (gen-ai-team/Wan2.1-NABLA, --sparse_algo). Each kind at most once; of terms that choose blocks dense stands alone.
   "int8" is joined to these: "nabla-0.7_sta-11-3-3_int8". */
NABLA_API nabla_status nabla_policy_parse(nabla_context *ctx, const char *text, nabla_policy *out);
/* The canonical text; returns the length it needs without the NUL, as snprintf does. */
NABLA_API int nabla_policy_format(const nabla_policy *policy, char *text, size_t text_size);

/* ---------------------------------------------------------------------------------------------- plan */

/* What a policy chose: for every (batch, head) and query block a set of key blocks, as a bitmap and, for the
   backward pass, its transpose. Memory: B * H * nq * nk / 4 bits-in-bytes, known before it is built. */
typedef struct nabla_plan nabla_plan;

typedef struct nabla_plan_desc {
    size_t size;
    int64_t batch, heads;
    const nabla_order *q_order; /* blocks of the queries; NULL: q_tokens cut into blocks of 64 */
    const nabla_order *k_order; /* blocks of the keys; NULL: k_tokens cut into blocks of 64 */
    int64_t q_tokens, k_tokens; /* used where the order is NULL */
    /* Packed samples that must not see each other: the first frame of each document, ascending from 0; NULL: one.
       Needs both orders, on grids of equal frames; each must begin at a tile's edge. */
    const int32_t *documents;
    int64_t document_count;
    int32_t backward; /* default 1: also keep the transpose */
} nabla_plan_desc;

NABLA_API nabla_plan_desc nabla_plan_desc_default(void);

/* Bytes that nabla_plan_create() will take; for a context of a GPU, of that GPU's memory. ctx NULL: on the CPU. */
NABLA_API nabla_status nabla_plan_memory(nabla_context *ctx, const nabla_plan_desc *desc, size_t *bytes);
/* Copies what it needs of desc, documents and orders included. The plan starts empty: no block kept. On a GPU this is
   where all of a plan's memory is taken, and it waits; it cannot be captured in a graph. */
NABLA_API nabla_status nabla_plan_create(nabla_context *ctx, const nabla_plan_desc *desc, nabla_plan **out);
NABLA_API void nabla_plan_destroy(nabla_plan *plan);

typedef struct nabla_plan_inputs {
    size_t size;
    const nabla_tensor *q, *k; /* [B, S, H, D] in the order of the plan's blocks, after QK-norm and RoPE. May both be
                                  NULL for policies that look at nothing (dense, sta). */
    const nabla_tensor *q_mean, *k_mean; /* or the block means, fp32 [B, H, blocks, D], in place of q, k; on a GPU
                                            contiguous and on a 16-byte boundary */
    float scale;                         /* 0 (default): 1 / sqrt(D) */
} nabla_plan_inputs;

NABLA_API nabla_plan_inputs nabla_plan_inputs_default(void);

/* Fills the plan in place; may be called again and again. The rule (paper section 3, reference `nablaT_v2`):
   A = softmax over key blocks of mean(Q) mean(K)^T * scale, fp32; a block is kept when the inclusive cumulative sum
   of its row's ascending probabilities reaches 1 - thr there; of equal probabilities the lower index is kept first.
   A row whose probabilities hold a NaN keeps every block. q and k are fp32 or bf16, on a GPU also fp16. On a GPU the
   plan is built without a visit to the host. */
NABLA_API nabla_status nabla_plan_build(nabla_context *ctx, nabla_plan *plan, const nabla_policy *policy,
                                        const nabla_plan_inputs *inputs);

typedef struct nabla_plan_stats {
    size_t size; /* sizeof(nabla_plan_stats), set by the caller */
    int64_t q_blocks, k_blocks, q_tokens, k_tokens;
    int64_t kept_blocks; /* over all batches and heads */
    double density;      /* kept token pairs / all token pairs */
    double kept_mass;    /* mean over rows of the block probability kept; 1 for dense, NaN where nothing was scored (sta
                            alone, imports) */
} nabla_plan_stats;

/* On a GPU waits for the plan to be built. */
NABLA_API nabla_status nabla_plan_get_stats(nabla_context *ctx, const nabla_plan *plan, nabla_plan_stats *stats);
/* Density of every (batch, head): out[B * H], on the host. On a GPU waits for the plan to be built. */
NABLA_API nabla_status nabla_plan_densities(nabla_context *ctx, const nabla_plan *plan, double *out);
/* The same without waiting: kept token pairs of every (batch, head) to pairs[B * H], in the context's memory; their
   density is that over q_tokens * k_tokens. On a GPU it only queues. */
NABLA_API nabla_status nabla_plan_count(nabla_context *ctx, const nabla_plan *plan, int64_t *pairs);

/* Lists in FlexAttention's BlockMask layout: num int32 [B, H, nq], indices int32 [B, H, nq, nk], ascending, -1 after
   the last. (Our blocks are whole: its full_kv_num_blocks and full_kv_indices.) Either may be NULL in export. On a GPU
   the pointers of one call may all be host memory (the call waits) or all GPU memory (it only queues). */
NABLA_API nabla_status nabla_plan_export_lists(nabla_context *ctx, const nabla_plan *plan, int32_t *num,
                                               int32_t *indices);
/* Indices in any order; entries past num are ignored; a repeated or out-of-range index is an error. What is imported
   is taken as it is: documents are not applied to it. An error leaves the plan as it was; but in lists that lie in GPU
   memory it surfaces at nabla_context_synchronize(), and the plan then holds the entries that were good. (Up to 16 such
   imports are watched at a time; the next one waits for the first ones.) A plan of an int8 policy is one of the plain
   precision after either import. */
NABLA_API nabla_status nabla_plan_import_lists(nabla_context *ctx, nabla_plan *plan, const int32_t *num,
                                               const int32_t *indices);
/* One byte a block pair, 0 or 1: [B, H, nq, nk]. Host or GPU memory, as for lists. */
NABLA_API nabla_status nabla_plan_export_bitmap(nabla_context *ctx, const nabla_plan *plan, uint8_t *bytes);
NABLA_API nabla_status nabla_plan_import_bitmap(nabla_context *ctx, nabla_plan *plan, const uint8_t *bytes);

/* ---------------------------------------------------------------------------------------------- attention */

typedef struct nabla_attention_params {
    size_t size;
    float scale;           /* 0 (default): 1 / sqrt(D) */
    float alpha, beta;     /* O = beta O + alpha attention; defaults 1 and 0 (O is then only written) */
    int32_t deterministic; /* default 1: the backward pass gives the same bits in every run, on the CPU for any thread
                              count (forward always). 0: it may sum in any order, which is faster on the CPU where
                              heads are fewer than threads; on a GPU it changes nothing */
} nabla_attention_params;

NABLA_API nabla_attention_params nabla_attention_params_default(void);

/* Scratch that a forward (backward: or backward) call over a plan of this desc with these params (NULL: the defaults),
   or building the plan, may allocate inside the context (on a GPU: in its memory), kept there for the next; what
   nabla_context_reserve() takes. Forward it is enough for plans with and without int8. */
NABLA_API nabla_status nabla_attention_memory(nabla_context *ctx, const nabla_plan_desc *desc,
                                              const nabla_attention_params *params, nabla_dtype dtype, int64_t head_dim,
                                              int32_t backward, size_t *bytes);

/* q, o: [B, Sq, H, D]; k, v: [B, Sk, H, D]; q, k, v of one dtype (fp32 or bf16, on a GPU also fp16), o that or fp32;
   lse: fp32 [B, H, Sq] contiguous, natural logarithm, may be NULL. D is 16 to 256 in steps of 8. Tokens in the order of
   the plan's blocks. A query block that keeps nothing gives O = 0 (times alpha, plus beta O) and LSE = -inf.
   Over a plan that was built of a policy with int8, q, k and v of either type are rounded to 8 bits for the products
   (the head's mean key is taken off first; scales are of a query, of a block of keys, of a block's channel of values),
   and the probabilities of a block to 8 bits of its largest: faster where the processor has AVX512_VNNI, correct and
   slow elsewhere. The error of O is about 1 % of its size on random tensors, and grows where single channels of q or k
   are far larger than the others: measure it on your own. A NaN or infinity in a block of keys makes the output of
   every query that keeps it NaN. */
NABLA_API nabla_status nabla_attention_forward(nabla_context *ctx, const nabla_plan *plan,
                                               const nabla_attention_params *params, const nabla_tensor *q,
                                               const nabla_tensor *k, const nabla_tensor *v, const nabla_tensor *o,
                                               const nabla_tensor *lse);

/* From q, k, v, the o and lse of a forward with alpha 1 and beta 0, and the gradient d_o (dtype of q, or fp32) to d_q,
   d_k, d_v, each fp32 or the dtype of q and overwritten; any of the three may be NULL to leave it out. d_k and d_v need
   a plan with backward = 1, and none of them is to be had over a plan of a policy with int8 (NABLA_UNSUPPORTED). alpha
   scales d_o; beta is not used. A key block that no query block keeps gets d_k = d_v = 0. */
NABLA_API nabla_status nabla_attention_backward(nabla_context *ctx, const nabla_plan *plan,
                                                const nabla_attention_params *params, const nabla_tensor *q,
                                                const nabla_tensor *k, const nabla_tensor *v, const nabla_tensor *o,
                                                const nabla_tensor *lse, const nabla_tensor *d_o,
                                                const nabla_tensor *d_q, const nabla_tensor *d_k,
                                                const nabla_tensor *d_v);

/* Merges two partial results over disjoint sets of keys, (o_a, lse_a) and (o_b, lse_b), into (o_a, lse_a).
   o_*: [B, S, H, D], fp32 or bf16, on a GPU also fp16, each of its own dtype; lse_*: fp32 [B, H, S]. */
NABLA_API nabla_status nabla_attention_merge(nabla_context *ctx, const nabla_tensor *o_a, const nabla_tensor *lse_a,
                                             const nabla_tensor *o_b, const nabla_tensor *lse_b);

#ifdef __cplusplus
}
#endif
#endif

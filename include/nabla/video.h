/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libnabla-video: text to video with NABLA attention, and the training of such models. Pipelines here join the engine's
 * rooms; the command line is a thin skin over them. Every long call reports progress and can be cancelled.
 */
#ifndef NABLA_VIDEO_H
#define NABLA_VIDEO_H

#include "nabla/nabla.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A sentence about the last failure; every fallible function takes one (may be NULL). */
typedef struct nabla_video_error {
    nabla_status status;
    char text[512];
} nabla_video_error;

/* Structs begin with their size. Options and machines come from their _default() functions; a result is the caller's,
   made with {.size = sizeof(nabla_..._result)}, and may be NULL. Another size is NABLA_INVALID_ARGUMENT. */

/* Called now and then from the calling thread. phase: "text", "load", "sample", "decode", "train" ...; done of total
   units (layers, tensors, steps, frames; the same again while a long one is under way); note: a few words such as "loss
   0.123, 12.3 clips/s". Return non-zero to cancel: the call ends with NABLA_CANCELLED, having saved what can be
   resumed. */
typedef int (*nabla_video_progress)(void *user, const char *phase, int64_t done, int64_t total, const char *note);

/* Where the time of a call goes. Its parts take turns on the calling thread, so that their seconds add up to the
   call's. A GPU's work counts for the part that waits for it. */
typedef enum nabla_video_part {
    NABLA_PART_OTHER,       /* what is none of the below */
    NABLA_PART_LOAD,        /* configurations and weights read, memory taken */
    NABLA_PART_TEXT,        /* the text encoder */
    NABLA_PART_TRANSFORMER, /* forward and backward */
    NABLA_PART_SAMPLER,     /* the solver and what lies between it and the transformer */
    NABLA_PART_OPTIMIZER,   /* the loss and the optimizer */
    NABLA_PART_VAE,
    NABLA_PART_DATA,  /* clips and captions drawn for training, and noise; or checked */
    NABLA_PART_MEDIA, /* frames, pictures and other results written */
    NABLA_PART_FILES, /* checkpoints and latents */
    NABLA_PART_WAIT,  /* for the thread that draws clips, or for weights that are offloaded */
    NABLA_PARTS
} nabla_video_part;

typedef struct nabla_video_part_time {
    double seconds;
    /* Of these, by the clock of the device; the rest is norms and all else. */
    double products_s, attention_s, plan_s; /* matrix products and convolutions; kept blocks; choosing them */
    double product_flop, attention_flop;    /* 2 a multiply-add; of attention kept pairs only */
    nabla_dtype compute;                    /* of these products; of no meaning where there are none */
} nabla_video_part_time;

/* Calls add to it: begin with {.size = sizeof(nabla_video_profile)}. Not for two calls at once. */
typedef struct nabla_video_profile {
    size_t size;
    nabla_video_part_time part[NABLA_PARTS];
    nabla_video_part now; /* of the call under way, and since when: the library's own */
    double since;
} nabla_video_profile;
NABLA_API const char *nabla_video_part_name(nabla_video_part part); /* "text encoder"; NULL: no such part */

typedef struct nabla_video_machine {
    size_t size;
    nabla_device device;           /* default NABLA_CPU */
    int32_t ordinal;               /* NABLA_CUDA: which GPU; 0. It becomes the calling thread's current one and must be
                                      it whenever the machine is used: progress may not leave another current */
    int32_t threads;               /* of the processor; 0: all */
    const char *level;             /* NULL: best */
    nabla_dtype compute;           /* default NABLA_BF16 */
    nabla_video_progress progress; /* may be NULL */
    void *user;
    nabla_video_profile *profile; /* NULL: nobody asks. A GPU is waited for a few times more where somebody does */
} nabla_video_machine;
NABLA_API nabla_video_machine nabla_video_machine_default(void);

/* ---------------------------------------------------------------------------------------------- generate */

typedef struct nabla_generate_result nabla_generate_result;

enum { NABLA_VIDEO_MOST_STEPS = 1000 };

/* Changes of a Wan2.1 transformer's weights, added before it runs. */
typedef struct nabla_lora {
    const char *file;
    float strength; /* 1: as its authors mean it */
} nabla_lora;

typedef struct nabla_generate_options {
    size_t size;
    const char *model; /* a folder: one that `nabla train` wrote, or a Wan2.1 text-to-video model's; or the file of such
                          a model's transformer. Required, but where `transformer` names one */
    /* A Wan2.1 model's parts in files of their own, in place of the folder's; NULL: the folder's. */
    const char *transformer, *text_encoder, *vae;
    const nabla_lora *loras;
    int32_t lora_count;
    const char *prompt;         /* required, but for `prompts` and `resume` */
    const char *const *prompts; /* several, in place of `prompt`: the model is loaded once. The i-th has seed + i, and
                                   its number in the names of its files, "cat-0001.mp4" */
    int32_t prompt_count;
    const char *negative;          /* NULL: the model's default (empty for the demo) */
    const char *policy;            /* NULL: the model's own */
    const char *solver;            /* "unipc", "dpm++" or "euler"; NULL: the model's own */
    int32_t width, height, frames; /* 0: the model's own, frames too */
    int32_t steps;                 /* 0: the model's own */
    float guidance, shift;         /* negative: the model's own; guidance <= 1 skips the second branch */
    uint64_t seed;
    /* On a GPU, of a Wan2.1 model: the weights of the transformer's blocks stay in the host's memory, two blocks at a
       time come to the GPU; the same bits. 0: where they do not fit otherwise. */
    int32_t offload;
    int32_t dense_steps; /* first steps with dense attention; negative: none, but 12 on a Wan2.1 model whose policy is
                            windows alone, as its reference does */
    const char *init_noise; /* file with tensor `noise` fp32 [C, F, h, w]; NULL: from the seed */
    const char *save_latent;
    const char *output;   /* .mp4, .gif, .png, folder of .png, .safetensors (tensor `frames`); NULL: none */
    int32_t fps, crf;     /* 0: the model's own; negative crf: 18 */
    const char *mask_png; /* draws the kept blocks of the last step, middle layer; NULL: none */
    const char *preview;  /* folder for a PNG every preview_every steps; NULL: none */
    int32_t preview_every;
    /* A file that gets all that is needed to go on from, anew after every step (of short ones, after some, the last and
       where the call is cancelled); NULL: none, or that of `resume`. One that keeps a run stopped in its middle is not
       replaced but by resuming. */
    const char *checkpoint;
    /* Such a file to go on from: on the same device, level and threads to the bits of a run left alone, on others as
       near as they compute, which the result's warning tells. What is left open above (NULL, 0, negative) is then as it
       was there; what is given must be the same, the seed, the model and the machine's compute type too. Files to
       write, fps, crf and previews are free. NULL: from the beginning. */
    const char *resume;
    /* Called once all is settled and the memory is there, before anything large is loaded: the result says what will
       run. Non-zero ends the call with NABLA_CANCELLED. NULL: nobody asks. */
    int (*begin)(void *user, const nabla_generate_result *settled);
    void *begin_user;
} nabla_generate_options;
NABLA_API nabla_generate_options nabla_generate_options_default(void);

struct nabla_generate_result {
    size_t size;
    double sparsity; /* mean over steps and layers, and prompts */
    double load_s, text_s, sample_s, decode_s,
        write_s;                                     /* write_s: what writing, done beside decoding, kept it waiting */
    double plan_s, attention_s, products_s, other_s; /* shares of sample_s ... */
    double weights_s;                                /* ... and the wait for offloaded weights */
    int32_t width, height, frames, fps, steps;
    int32_t resumed_steps; /* of these, done before: where `resume` went on */
    int32_t dense_steps;
    char policy[96], policy_from[64], solver[16]; /* policy_from: where the policy was told */
    float guidance, shift;
    /* Bytes, as estimated before the run: of the text encoder, of transformer and sampling, of the decoder; each with
       what is held beside it. One is freed before the next is loaded, so the largest is the run's. */
    double text_memory, sample_memory, decode_memory;
    double offloaded_memory; /* of the host, for blocks' weights; 0: they are on the device */
    double peak_memory; /* bytes: the most that was held in truth, of the machine's device; 0 where that is not known */
    char warning[512];  /* words of prompt and negative that it does not know, `resume` of a run that was made
                           elsewhere ...; "" if none */
    /* What a run that did not end leaves behind: a file for `resume`, the first latent for nabla_decode; "" if none. */
    char kept_state[4096], kept_latent[4096];
    /* The caller's buffer or NULL: kept share of all pairs of tokens in each step of the last prompt; negative for
       steps done before a resumed run. */
    float *densities; /* [NABLA_VIDEO_MOST_STEPS] */
};

/* A Wan2.1 model's latents are kept in a file beside the output (or as save_latent) until they are decoded: a call that
   is cancelled, or dies, while it decodes leaves that. One cancelled while it samples leaves a file for `resume` there,
   where `checkpoint` names no other. */
NABLA_API nabla_status nabla_generate(const nabla_generate_options *options, const nabla_video_machine *machine,
                                      nabla_generate_result *result, nabla_video_error *err);

/* ---------------------------------------------------------------------------------------------- encode */

typedef struct nabla_encode_options {
    size_t size;
    const char *model;        /* a Wan model's folder; may be NULL where text_encoder carries its tokenizer */
    const char *text_encoder; /* its weights alone, in place of the folder's: .safetensors or an index; NULL: none */
    const char *prompt;       /* required; may be empty */
    const char *output;       /* .safetensors with tensor `context` fp32 [tokens, dim]; required */
} nabla_encode_options;
NABLA_API nabla_encode_options nabla_encode_options_default(void);

typedef struct nabla_encode_result {
    size_t size;
    int32_t tokens; /* the true ones, the end's included */
    int32_t dim, layers;
    int64_t cut;   /* tokens that did not fit into the 512 */
    double memory; /* bytes it took, mapped files not counted */
    double load_s, encode_s;
    char warning[256]; /* a prompt that was cut, or looks wrongly decoded; "" if none */
} nabla_encode_result;

/* What a Wan model's text encoder (UMT5) makes of a prompt. NABLA_UNSUPPORTED in a build without SentencePiece. */
NABLA_API nabla_status nabla_encode(const nabla_encode_options *options, const nabla_video_machine *machine,
                                    nabla_encode_result *result, nabla_video_error *err);

/* ---------------------------------------------------------------------------------------------- decode */

typedef struct nabla_decode_options {
    size_t size;
    const char
        *model; /* a Wan2.1 folder, of diffusers' layout or the original's, or its VAE's folder or file; required */
    const char *latent; /* file with tensor `latent` fp32 [C, F, h, w], as the sampler leaves it; required */
    const char *output; /* .mp4, .gif, .png, a folder of .png; or .safetensors: `frames` fp32 [3, T, H, W] in [-1, 1] */
    nabla_dtype compute; /* of the convolutions; default NABLA_FP32, the reference's. The machine's is not used */
    int32_t tile;        /* side of tiles in pixels, blended where they overlap; 0: whole frames, tiles of 256 where the
                            memory asks for them */
    int32_t fps, crf;    /* 0: as the latent's file says, else 16; negative crf: 18 */
} nabla_decode_options;
NABLA_API nabla_decode_options nabla_decode_options_default(void);

typedef struct nabla_decode_result {
    size_t size;
    double load_s, decode_s, write_s;
    double memory; /* bytes that decoding took beside the weights */
    int32_t width, height, frames, fps;
    int32_t tile;      /* 0: whole frames */
    char warning[256]; /* tiles that the memory asked for; "" if none */
} nabla_decode_result;

/* Frames are written as they are decoded (with tiles: while the last tile is). Nothing is left of a cancelled call. */
NABLA_API nabla_status nabla_decode(const nabla_decode_options *options, const nabla_video_machine *machine,
                                    nabla_decode_result *result, nabla_video_error *err);

/* ---------------------------------------------------------------------------------------------- train */

typedef struct nabla_train_options {
    size_t size;
    const char *output;  /* folder: model as it will be used (EMA weights), state for --resume, log.csv; required */
    const char *model;   /* start from this folder's weights (its averaged ones) as a new run; NULL: from scratch */
    const char *teacher; /* this folder's model, with dense attention, says at every clip, noise and caption what to
                            learn (distillation); NULL: the clip itself is that */
    const char *data;   /* "clips" (default): made up, an object each; "scenes": one or two objects, told to each other;
                           or   a folder of videos with .txt captions beside them */
    const char *policy; /* default "dense" */
    int32_t width, height, frames; /* pixels of a clip; defaults 192, 192, 8 */
    /* The next three lines say what a model from scratch is; of `model`, they must be its own or the defaults. */
    int32_t patch;                       /* pixels a side of a token, from scratch; default 8 */
    int32_t dim, heads, layers, ffn_dim; /* from scratch; defaults 192, 3, 6, 768 */
    int32_t position_grid;               /* from scratch: tokens a side that positions are scaled to; 24; 0: unscaled */
    int64_t steps;                       /* steps in all, a resumed run's earlier ones included; default 1000 */
    int32_t batch;                       /* clips a step, unless it accumulates; default 16 */
    float lr, weight_decay, beta1, beta2, clip; /* 1e-3, 0.01, 0.9, 0.95, 1.0 */
    int64_t warmup;                             /* steps; default 100 */
    float final_lr;                             /* cosine decay ends at lr * this; default 0.1 */
    float ema;                                  /* default 0.999, with a ramp at the start */
    float caption_dropout;                      /* default 0.1 */
    float shift;                                /* of the noise levels, and of sampling later; default 1 */
    const char *noise;                          /* noise levels: "uniform" (default) or "logit-normal" */
    const char *weighting;                      /* of the loss by noise level: "plain" (default) or "velocity" */
    const char *prediction;                     /* "sample" or "velocity"; NULL: `model`'s own, else "sample" */
    uint64_t seed;
    int64_t save_every; /* steps; default 500 */
    int64_t log_every;  /* default 10 */
    /* Go on with the run in `output`, on the same device, level and threads to the bits of a run left alone; the
       result's warning tells where these differ. The settings must be those that it was started with, and so must the
       machine's compute type; free are steps, save_every,
       activation_checkpointing, and fps, sample_steps and guidance below. */
    int32_t resume;
    /* Keep of a block no more than its input, and compute the rest again for the backward pass: the same bits in a
       fraction of the memory, for a third more work. Default 0. */
    int32_t activation_checkpointing;
    /* What model_index.json will recommend for sampling. */
    int32_t fps;          /* default 8 */
    int32_t sample_steps; /* default 20 */
    float guidance;       /* default 3 */
    /* Batches a step: their gradients are added up before the model changes, by the mean. A step of batch x accumulate
       clips, the same ones as in one batch, in the memory of batch; default 1. */
    int32_t accumulate;
} nabla_train_options;
NABLA_API nabla_train_options nabla_train_options_default(void);

typedef struct nabla_train_result {
    size_t size;
    int64_t steps; /* done in all */
    double loss;   /* mean of the last log interval; NaN, like sparsity, if the run had no step left to do */
    double samples_per_second;
    double sparsity;
    double gflops;      /* products and attention, forward and backward, per second of the whole run; of a teacher the
                           products alone */
    double model_share; /* of the time, in which the device worked on steps, from forward pass to update */
    double data_share;  /* of the time, waiting for clips to be made or read */
    char warning[512]; /* captions' words that `model` does not know ...; "" if none; there before the first progress */
} nabla_train_result;

NABLA_API nabla_status nabla_train(const nabla_train_options *options, const nabla_video_machine *machine,
                                   nabla_train_result *result, nabla_video_error *err);

/* ---------------------------------------------------------------------------------------------- evaluate */

/* Clips that an evaluation made, to compare another policy's with. */
typedef struct nabla_eval_clips nabla_eval_clips;
NABLA_API void nabla_eval_clips_destroy(nabla_eval_clips *clips); /* NULL is fine */

typedef struct nabla_eval_options {
    size_t size;
    const char *model;             /* required */
    const char *data;              /* whose captions: "clips" or "scenes", as of training; NULL: as its words say */
    const char *policy;            /* one policy a call; NULL: the model's own */
    int32_t prompts;               /* held-out captions; default 200 */
    const char *solver;            /* NULL: the model's own */
    int32_t steps;                 /* 0: the model's own */
    float guidance, shift;         /* negative: the model's own */
    int32_t width, height, frames; /* 0: the model's own */
    uint64_t seed;                 /* prompt i uses seed + i: the same prompts and noise for every policy */
    int32_t compare;               /* of so many first prompts the clips are measured; default 0 */
    const char *output; /* folder for files named after the policy, NULL: none. POLICY.csv: the captions and what came
                           out as asked; with `compare`, POLICY.map.csv: what plans keep in these clips by step, layer
                           and head; POLICY-0001.mp4 ...: clips (.png of the middle frame without FFmpeg) */
    int32_t clips;      /* so many first ones of those to compare are written; default 0 */
    const nabla_eval_clips *reference; /* what an earlier call with the same options left for it; NULL: none */
} nabla_eval_options;
NABLA_API nabla_eval_options nabla_eval_options_default(void);

typedef struct nabla_eval_result {
    size_t size;
    int32_t prompts;
    double colour, shape, motion; /* shares of clips where the checker read what the prompt asked for, of all objects */
    double count, relation, all;  /* as many objects; of the `relations` clips that ask for one; all of these */
    int32_t relations;
    double sparsity, seconds; /* seconds a clip */
    int32_t steps;
    char solver[16], data[16];
    uint8_t *right; /* [prompts]: bit 0 colour, 1 shape, 2 motion, 3 count, 4 relation, 5 a relation is asked for,
                       6 more objects were seen than asked for, 7 fewer; caller's buffer or NULL */
    /* With `compare`, over these clips; NaN where there is nothing to tell. */
    double psnr, ssim; /* against `reference`: decibels (infinite if they are the same), -1 to 1 */
    double border;     /* energy of the steps across tiles' edges against other patches' edges */
    double kept_mass;  /* block probability that the plans keep, mean over steps and layers; NaN of windows alone */
    nabla_eval_clips *clips; /* the caller's to destroy */
} nabla_eval_result;

NABLA_API nabla_status nabla_evaluate(const nabla_eval_options *options, const nabla_video_machine *machine,
                                      nabla_eval_result *result, nabla_video_error *err);

/* How much more often b was right than a in the bits of `mask` (all of them), of the same n prompts: the difference of
   shares and its 95 % interval, for pairs (Wald's with half a prompt added to each cell; Agresti & Min 2005). */
typedef struct nabla_eval_difference {
    double difference, low, high;
} nabla_eval_difference;
NABLA_API nabla_eval_difference nabla_eval_compare(const uint8_t *a, const uint8_t *b, int32_t n, uint8_t mask);

/* Writes `count` procedural clips with captions to a folder, as training draws them: clip-0001.mp4, clip-0001.txt and
   so on. extension: "mp4", "gif", or "png" for the middle frames. data: "clips" (or NULL) or "scenes", as of training.
   machine may be NULL. */
NABLA_API nabla_status nabla_write_clips(const char *folder, const char *extension, const char *data, int32_t count,
                                         int32_t frames, int32_t height, int32_t width, uint64_t seed,
                                         const nabla_video_machine *machine, nabla_video_error *err);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A clip model: a transformer over pixels and a table of words, in a folder laid out like a checkpoint:
       model_index.json
       transformer/config.json  transformer/diffusion_pytorch_model.safetensors
       text/words.json  text/words.safetensors   (tensor "table" [rows, text_dim]) */
#ifndef NV_MODEL_H
#define NV_MODEL_H

#include "dit/dit.h"
#include "nabla/video.h"
#include "text/words.h"
#include "train/flow.h"
#include "train/source.h"
#include "weights/config.h"

typedef struct nv_clip_model {
    nv_device *device;
    int32_t borrowed; /* 1: the device is another model's */
    nv_model_index index;
    nv_prediction prediction;
    nv_dit *dit;
    nv_words *words;
    float *table, *table_grad; /* [rows, text_dim] in the device's memory; the gradient NULL unless made to train */
} nv_clip_model;

/* Device and model are closed together. `train`: also hold gradients. On failure the model is closed already. */
nabla_status nv_clip_model_open(const char *folder, const nabla_video_machine *machine, int train, nv_clip_model *m,
                                nv_error *err);
/* The same, not to be trained, on the device of another model, which is closed after it. */
nabla_status nv_clip_model_open_beside(const char *folder, const nabla_video_machine *machine, nv_clip_model *other,
                                       nv_clip_model *m, nv_error *err);
/* A model with random weights; words are those the source's captions may use. */
nabla_status nv_clip_model_new(const nv_model_index *index, const nv_dit_config *config, const nv_source *source,
                               uint64_t seed, const nabla_video_machine *machine, nv_clip_model *m, nv_error *err);
void nv_clip_model_close(nv_clip_model *m); /* an all-zero model is fine */

/* Writes everything but the weights, then the weights: `value(user, i)` is the i-th parameter's values (fp32, in the
   device's memory, in the order of nv_dit_parameter), or the table's where i is their count. Stored as bf16. */
typedef const float *(*nv_clip_model_values)(void *user, size_t i);
nabla_status nv_clip_model_save(nv_clip_model *m, const char *folder, nv_clip_model_values value, void *user,
                                nv_error *err);

/* ids [count, words], as nv_words_encode makes them -> contexts [count, words, text_dim] on the host. */
nabla_status nv_clip_model_contexts(nv_clip_model *m, const int32_t *ids, int32_t count, float *contexts,
                                    nv_error *err);

int32_t nv_clip_model_text_dim(const nv_clip_model *m);
/* The latent's shape for a batch of clips in pixels; checks them against the patch and says what would fit. */
nabla_status nv_clip_model_shape(const nv_clip_model *m, int32_t batch, const nv_clip_size *clip, int train,
                                 nv_dit_shape *shape, nv_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LoRA files: changes of a transformer's weights, added to them once and for all. For a weight W,
 *     W += strength * (alpha / rank) * up down  (alpha absent: 1 instead of alpha / rank)
 *     W += strength * diff,  bias += strength * diff_b
 * Names are X.lora_A.weight and X.lora_B.weight (diffusers, PEFT; also X.lora_A.default.weight), X.lora_down.weight and
 * X.lora_up.weight (ComfyUI, kohya), X.alpha, X.diff and X.diff_b, where X is a layer's name in either layout, under
 * none or one of "transformer.", "diffusion_model.", "model.diffusion_model.", "base_model.model.", or "lora_unet_" and
 * the name with '_' in the place of every full stop.
 */
#ifndef NV_DIT_LORA_H
#define NV_DIT_LORA_H

#include "dit/dit.h"

typedef struct nv_dit_lora {
    const nv_weights *file;
    float strength;
} nv_dit_lora;

/* After nv_dit_load. Every tensor of every file must have its place, or nothing is changed and the error names the
   first few that have none. Sums are made in fp32, one weight at a time, and rounded once where the model keeps no
   masters. Updates the compute copy. */
nabla_status nv_dit_merge_loras(nv_dit *m, const nv_dit_lora *loras, int32_t count, nv_error *err);
/* Whether every tensor has its place in such a model, without making one. */
nabla_status nv_dit_check_loras(const nv_dit_config *config, const nv_weights *const *files, int32_t count,
                                nv_error *err);

#endif

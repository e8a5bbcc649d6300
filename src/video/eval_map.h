/* SPDX-License-Identifier: Apache-2.0 */
/* Where plans keep how much: by sampling step, layer and head, over the batches that are added. */
#ifndef NV_EVAL_MAP_H
#define NV_EVAL_MAP_H

#include "dit/dit.h"

typedef struct nv_eval_map {
    int32_t steps, layers, heads, entries; /* entries: samples of a batch */
    double *density;                       /* [steps, layers, heads] sums over batches of means over samples */
    double *mass;                          /* [steps, layers] the same of the block probability kept, over heads */
    double *plan;                          /* [entries, heads] of one plan */
    int64_t *batches;                      /* [steps] */
} nv_eval_map;

nabla_status nv_eval_map_create(int32_t steps, int32_t layers, int32_t heads, int32_t entries, nv_eval_map *map,
                                nv_error *err);
void nv_eval_map_destroy(nv_eval_map *map); /* an all-zero map is fine */
/* Adds the plans that step i, [0, steps), left. */
nabla_status nv_eval_map_add(nv_eval_map *map, nabla_context *ctx, const nv_dit_run *run, int32_t i, nv_error *err);
double nv_eval_map_mass(const nv_eval_map *map); /* mean; NaN where there is none, as of windows alone */
/* A CSV, atomically: step, layer, head, density, kept_mass (of the layer; empty where there is none). */
nabla_status nv_eval_map_write(const nv_eval_map *map, const char *path, nv_error *err);

#endif

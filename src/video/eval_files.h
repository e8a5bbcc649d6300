/* SPDX-License-Identifier: Apache-2.0 */
/* What an evaluation leaves to look at and to count again: a prompt's outcome a line, plans' densities, clips. */
#ifndef NV_EVAL_FILES_H
#define NV_EVAL_FILES_H

#include "video/eval_clips.h"
#include "video/eval_map.h"
#include "video/eval_prompts.h"

typedef struct nv_eval_files {
    const char *folder, *policy; /* the files' names begin with the policy */
    nv_eval_data data;
    uint64_t seed;
    int32_t prompts;
    const uint8_t *right;          /* [prompts]: bits of cast.h */
    const nabla_eval_clips *clips; /* of the first prompts; NULL: none */
    int compared;                  /* with a reference: their figures are there */
    int32_t videos, fps;           /* how many are written */
    const nv_eval_map *map;        /* NULL: none */
} nv_eval_files;

/* Before any work: whether videos such as these can be written. */
nabla_status nv_eval_files_check(const nv_eval_files *files, nv_error *err);

/* POLICY.csv, POLICY.map.csv and POLICY-0001.mp4 ..., each atomically. */
nabla_status nv_eval_files_write(const nv_eval_files *files, nv_error *err);

#endif

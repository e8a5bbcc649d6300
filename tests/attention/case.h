/* SPDX-License-Identifier: Apache-2.0 */
/* The one list of cases, and what running one needs: tensors in guarded memory, a plan, the library's results. */
#ifndef CASE_H
#define CASE_H

#include "nabla/nabla.h"
#include "naive.h"

#include <stdbool.h>

typedef enum input_kind {
    INPUT_NORMAL,
    INPUT_LARGE,    /* logits of hundreds: softmax is all but one-hot */
    INPUT_TIES,     /* few distinct values: equal logits, and blocks of zeros */
    INPUT_NAN,      /* the last key block is kept by the first query block alone and holds NaN */
    INPUT_INFINITE, /* one key of each head scores -inf with every query */
    INPUT_RISING    /* each key is a little likelier than the one before, the last 2^100 times the first; V of 2^90 */
} input_kind;

typedef enum layout { LAYOUT_BSHD, LAYOUT_BHSD, LAYOUT_PADDED /* gaps after every row, guarded */ } layout;

typedef struct attention_case {
    const char *name;
    int64_t batch, heads;
    nabla_grid grid;            /* frames 0: q_tokens and k_tokens in blocks of 64 */
    int64_t q_tokens, k_tokens; /* used without a grid */
    int64_t head_dim;
    nabla_dtype dtype;
    bool o_fp32, grad_narrow; /* o in fp32 though the dtype is not; gradients in the dtype instead of fp32 */
    const char *policy;       /* NULL: a random bitmap of this density, rows and columns left empty by chance */
    double density;
    input_kind input;
    layout layout;
    float scale, alpha, beta; /* alpha 0 stands for 1 */
    uint32_t seed;
    bool lse_only; /* scores so large that nothing else has digits left; on CPUs alone */
} attention_case;

extern const attention_case attention_cases[];
extern const int attention_case_count;

/* A tensor between guard zones. */
typedef struct guarded {
    nabla_tensor t;
    unsigned char *memory; /* on the host */
    void *gpu;             /* its copy while a GPU works on it, which t.data then points into */
    size_t bytes;
    bool *used; /* which elements the tensor owns */
    int64_t elements;
} guarded;

guarded guarded_create(const attention_case *c, nabla_dtype dtype, int64_t tokens);
guarded guarded_create_lse(const attention_case *c, int64_t tokens);
void guarded_destroy(guarded *g);
/* Contiguous [B, S, H, D] floats to the tensor and back. */
void guarded_write(guarded *g, const float *x);
void guarded_read(const guarded *g, float *x);
/* Nothing outside the tensor's own elements has changed. */
bool guarded_intact(const guarded *g);

/* Everything that one case is: its floats, its mask, its plan's shape. Made once, run on every level. */
typedef struct case_data {
    const attention_case *c;
    int64_t q_tokens, k_tokens, nq, nk;
    float *q, *k, *v, *d_o, *o_before;
    uint8_t *kept;
    int32_t *q_block, *k_block;
    double pairs; /* kept token pairs */
} case_data;

typedef struct case_output {
    float *o, *lse, *dq, *dk, *dv;
    bool intact; /* guards */
} case_output;

bool case_create(const attention_case *c, case_data *data);
void case_destroy(case_data *data);
naive_problem case_problem(const case_data *data);
int64_t case_q_elements(const case_data *data);
int64_t case_k_elements(const case_data *data);

/* Runs the library forward and backward, on GPU 0 where the level is one of it; a status other than NABLA_OK is printed
   with its message. */
bool case_run(const case_data *data, const char *level, int threads, bool deterministic, case_output *out);
void case_output_destroy(case_output *out);
void case_print(const attention_case *c);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Which way a backward pass goes, and what scratch it then takes. */
#ifndef NABLA_BACKWARD_LAYOUT_H
#define NABLA_BACKWARD_LAYOUT_H

#include "cpu.h"

#include <stdbool.h>

typedef enum backward_scheme { OWNED_HEADS, TWO_PASSES, KEPT_DS, PRIVATE_SUMS } backward_scheme;

/* The scratch of one call, in bytes from its base. */
typedef struct backward_layout {
    size_t bytes;
    backward_scheme scheme;
    int64_t slots; /* heads whose dQ and packed operands are held at a time: one a thread where owned, else a group */
    size_t delta, dq;          /* within a slot */
    size_t packed_q, packed_k; /* within a slot, where the level packs; of keys all of a head, or, where it is owned, of
                                  a task's blocks */
    size_t gradients, slot_bytes;
    size_t sums, sum_bytes; /* PRIVATE_SUMS: a head's query gradients, one a thread */
    size_t ds, ds_starts;   /* KEPT_DS: kept dS; [nk + 1]: the head's kept pairs before each column */
    int64_t ds_room;        /* pairs */
    size_t tasks;
    int32_t together; /* most blocks of keys in a task */
    size_t threads, thread_bytes;
    size_t dk, dv, lists, ds_lists; /* within a thread's; dk and dv: of a task's blocks, not used for fp32 tensors */
} backward_layout;

/* Which gradients a call asks for. */
typedef struct wanted {
    bool queries, keys;
} wanted;

nabla_status nabla_lay_out_backward(const nabla_call *call, wanted w, backward_layout *at);

#endif

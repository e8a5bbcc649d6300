/* SPDX-License-Identifier: Apache-2.0 */
/* A transformer's parameters as an optimizer takes them. */
#ifndef NV_TRAINABLES_H
#define NV_TRAINABLES_H

#include "dit/dit.h"
#include "train/trainable.h"

/* nv_dit_parameter_count(m) of them, in the model's order. The model was made to be trained. */
void nv_list_trainables(nv_dit *m, nv_trainable *out);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/trainables.h"

#include <string.h>

void nv_list_trainables(nv_dit *m, nv_trainable *out) {
    for (size_t i = 0; i < nv_dit_parameter_count(m); i++) {
        const nv_parameter *p = nv_dit_parameter(m, i);
        out[i] = (nv_trainable){
            .name = p->name, .rank = p->rank, .count = p->count, .value = p->value, .grad = p->grad, .decay = p->decay};
        memcpy(out[i].shape, p->shape, sizeof p->shape);
    }
}

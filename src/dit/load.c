/* SPDX-License-Identifier: Apache-2.0 */
/* Loading: every tensor by its name in the file's layout, converted one at a time into the device's memory. */
#include <stdio.h>
#include <string.h>

#include "dit/model.h"
#include "dit/name_list.h"
#include "nn/load.h"

static void full_name(const nv_parameter *p, const nv_dit_names *names, char out[2 * NV_DIT_NAME_SIZE]) {
    char own[NV_DIT_NAME_SIZE] = "";
    nv_dit_translate(NV_DIT_DIFFUSERS, p->name, names->layout, own);
    snprintf(out, 2 * NV_DIT_NAME_SIZE, "%s%s", names->prefix, own);
}

/* Tensors outside the prefix are other parts of a file; within it, both sides must be complete. */
static nabla_status check_names(nv_dit *m, const nv_weights *w, const nv_dit_names *names, nv_error *err) {
    nv_name_list missing = {0}, extra = {0};
    char name[2 * NV_DIT_NAME_SIZE], own[NV_DIT_NAME_SIZE], rest[2][32];
    const size_t skip = strlen(names->prefix);
    for (size_t i = 0; i < m->count; i++) {
        full_name(&m->parameters[i], names, name);
        if (!nv_weights_find(w, name)) nv_name_list_add(&missing, name);
    }
    for (size_t i = 0; i < nv_weights_count(w); i++) {
        const char *found = nv_weights_at(w, i)->name;
        if (strncmp(found, names->prefix, skip) != 0) continue;
        if (!nv_dit_translate(names->layout, found + skip, NV_DIT_DIFFUSERS, own) || !nv_dit_find(m, -1, own))
            nv_name_list_add(&extra, found);
    }
    if (extra.count > 0 && missing.count > 0)
        return nv_fail(err, NABLA_CORRUPT,
                       "%s lacks %s%s, and %s%s are no part of this model: is the configuration its own?",
                       nv_weights_path(w), missing.text, nv_name_list_more(&missing, rest[0]), extra.text,
                       nv_name_list_more(&extra, rest[1]));
    if (missing.count > 0)
        return nv_fail(err, NABLA_CORRUPT, "%s lacks %s%s", nv_weights_path(w), missing.text,
                       nv_name_list_more(&missing, rest[0]));
    if (extra.count > 0)
        return nv_fail(err, NABLA_CORRUPT, "%s holds %s%s, no part of this model: is the configuration its own?",
                       nv_weights_path(w), extra.text, nv_name_list_more(&extra, rest[1]));
    return NABLA_OK;
}

/* Into the master where there is one, else into what products read, in pieces. */
static nabla_status load_one(nv_dit *m, const nv_parameter *p, const nv_weights *w, const nv_dit_names *names,
                             nv_error *err) {
    char name[2 * NV_DIT_NAME_SIZE];
    const nv_st_entry *e;
    full_name(p, names, name);
    NV_TRY(nv_weights_get(w, name, p->shape, p->rank, &e, err));
    nv_dit_reach(m, p, 1);
    NV_TRY(nv_load(m->device, e, nv_dit_stored(p), err));
    nv_weights_forget(w, e);
    return NABLA_OK;
}

nabla_status nv_dit_check(const nv_dit_config *config, const nv_weights *w, const nv_dit_names *names, nv_error *err) {
    nv_dit m = {.config = *config};
    char name[2 * NV_DIT_NAME_SIZE];
    nabla_status status = nv_dit_describe(&m, err);
    if (status == NABLA_OK) status = check_names(&m, w, names, err);
    for (size_t i = 0; i < m.count && status == NABLA_OK; i++) {
        const nv_st_entry *e;
        full_name(&m.parameters[i], names, name);
        status = nv_weights_get(w, name, m.parameters[i].shape, m.parameters[i].rank, &e, err);
    }
    nv_dit_forget(&m);
    return status;
}

nabla_status nv_dit_load(nv_dit *m, const nv_weights *w, const nv_dit_names *names, nv_dit_stop stop, void *user,
                         nv_error *err) {
    nv_dit_names own;
    if (!names) {
        NV_TRY(nv_dit_recognise(w, &own, err));
        names = &own;
    }
    NV_TRY(check_names(m, w, names, err));
    for (size_t i = 0; i < m->count; i++) {
        if (stop && stop(user, (int32_t)i, (int32_t)m->count))
            return nv_fail(err, NABLA_CANCELLED, "stopped after %zu of %zu tensors", i, m->count);
        NV_TRY(load_one(m, &m->parameters[i], w, names, err));
    }
    if (stop) stop(user, (int32_t)m->count, (int32_t)m->count); /* the end, which is too late to stop */
    return nv_dit_update(m, err);
}

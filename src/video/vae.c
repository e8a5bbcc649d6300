/* SPDX-License-Identifier: Apache-2.0 */
#include "video/vae.h"

#include <string.h>
#include <sys/stat.h>

#include "weights/config.h"

/* A folder without a VAE: says why, as far as it can be told. */
static nabla_status refuse(const char *model, nv_error *err) {
    char path[NV_PATH_SIZE];
    nv_model_index index;
    if (nv_path_in(path, model, "model_index.json") && nv_config_read_index(path, &index, NULL) == NABLA_OK &&
        strcmp(index.kind, NV_KIND_CLIP) == 0)
        return nv_fail(err, NABLA_UNSUPPORTED,
                       "the model %.300s works on pixels and has no VAE: its latents are clips already, and nabla "
                       "generate writes them as video",
                       model);
    return nv_fail(err, NABLA_IO, "the folder %.300s holds no VAE: neither vae/ nor Wan2.1_VAE.pth is there", model);
}

nabla_status nv_vae_find(const char *model, const char *flag, nv_wan_parts *out, nv_error *err) {
    struct stat info;
    *out = (nv_wan_parts){0};
    if (stat(model, &info) != 0)
        return nv_fail(err, NABLA_IO, "the model %.300s does not exist: check %s", model, flag);
    if (!S_ISDIR(info.st_mode)) return nv_path_set(out->vae, model, err);
    nv_wan_find_parts(model, out);
    if (out->vae[0]) return NABLA_OK;
    /* Its own folder. */
    if (nv_path_in(out->vae, model, "diffusion_pytorch_model.safetensors") &&
        nv_path_in(out->vae_config, model, "config.json"))
        return NABLA_OK;
    return refuse(model, err);
}

nabla_status nv_vae_open(const nv_wan_parts *parts, nv_vae_config *config, nv_weights **file, nv_error *err) {
    *file = NULL;
    if (parts->vae_config[0]) NV_TRY(nv_config_read_vae(parts->vae_config, config, err));
    NV_TRY(nv_weights_open(parts->vae, file, err));
    if (parts->vae_config[0] || nv_vae_config_from(*file, config, err) == NABLA_OK) return NABLA_OK;
    nv_weights_close(*file);
    *file = NULL;
    return nv_fail_in(err, "%s", parts->vae);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/vae.h"

#include <string.h>
#include <sys/stat.h>

#include "weights/config.h"

/* The original's own name, the same converted, and ComfyUI's. */
static const char *const original_names[] = {"Wan2.1_VAE.pth", "Wan2.1_VAE.safetensors", "wan_2.1_vae.safetensors",
                                             NULL};
static const char own_weights[] = "diffusion_pytorch_model.safetensors";

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
    return nv_fail(err, NABLA_IO, "the folder %.300s holds no VAE: neither vae/config.json nor Wan2.1_VAE.pth is there",
                   model);
}

nabla_status nv_vae_find(const char *model, nv_vae_place *out, nv_error *err) {
    char folder[NV_PATH_SIZE];
    struct stat info;
    *out = (nv_vae_place){0};
    if (strlen(model) >= NV_PATH_SIZE - 64)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "the path %.100s... is too long", model);
    if (stat(model, &info) != 0) return nv_fail(err, NABLA_IO, "the model %.300s does not exist: check --model", model);
    if (!S_ISDIR(info.st_mode)) {
        memcpy(out->weights, model, strlen(model) + 1);
        return NABLA_OK;
    }
    if (nv_path_in(out->config, model, "vae/config.json")) {
        NV_TRY(nv_path_join(folder, model, "vae", err));
        return nv_path_join(out->weights, folder, own_weights, err);
    }
    if (nv_path_find(out->weights, model, original_names)) return NABLA_OK;
    if (nv_path_in(out->weights, model, own_weights) && nv_path_in(out->config, model, "config.json")) return NABLA_OK;
    return refuse(model, err);
}

nabla_status nv_vae_open(const nv_vae_place *place, nv_vae_config *config, nv_weights **file, nv_error *err) {
    if (place->config[0]) NV_TRY(nv_config_read_vae(place->config, config, err));
    NV_TRY(nv_weights_open(place->weights, file, err));
    if (place->config[0] || nv_vae_config_from(*file, config, err) == NABLA_OK) return NABLA_OK;
    nv_weights_close(*file);
    *file = NULL;
    return nv_fail_in(err, "%s", place->weights);
}

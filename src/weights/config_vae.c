/* SPDX-License-Identifier: Apache-2.0 */
/* vae/config.json in diffusers' spelling of AutoencoderKLWan. */
#include <stdlib.h>
#include <string.h>

#include "weights/config.h"
#include "weights/file.h"
#include "weights/json.h"

enum { MAX_MULT = 64, MAX_FILE = 1 << 24 };

static const char vae_class[] = "AutoencoderKLWan";

/* What only Wan2.2's VAE, or none that was released, has. */
static nabla_status check_kind(const nv_json *j) {
    const char *class = json_string_value(json_object_get(j->object, "_class_name"));
    const json_t *scales = json_object_get(j->object, "attn_scales"), *patch = json_object_get(j->object, "patch_size");
    if (class && strcmp(class, vae_class) != 0)
        return nv_fail(j->err, NABLA_UNSUPPORTED, "%s describes a %.100s, only an %s can be run", j->name, class,
                       vae_class);
    if (json_is_true(json_object_get(j->object, "is_residual")) || (patch && !json_is_null(patch)))
        return nv_fail(j->err, NABLA_UNSUPPORTED, "%s is of Wan2.2's VAE; this version runs Wan2.1's", j->name);
    if (scales && (!json_is_array(scales) || json_array_size(scales) > 0))
        return nv_fail(j->err, NABLA_UNSUPPORTED,
                       "%s: \"attn_scales\" is set; only attention in the middle block can be run", j->name);
    return NABLA_OK;
}

static nabla_status read_levels(const nv_json *j, nv_vae_config *c) {
    json_t *mult, *time;
    NV_TRY(nv_json_array(j, "dim_mult", 1, NV_VAE_MOST_LEVELS, &mult));
    c->levels = (int32_t)json_array_size(mult);
    NV_TRY(nv_json_array(j, "temperal_downsample", (size_t)(c->levels - 1), (size_t)(c->levels - 1), &time));
    for (int32_t i = 0; i < c->levels; i++) {
        const json_t *item = json_array_get(mult, (size_t)i), *halves = json_array_get(time, (size_t)i);
        const json_int_t value = json_integer_value(item);
        if (!json_is_integer(item) || value < 1 || value > MAX_MULT)
            return nv_fail(j->err, NABLA_CORRUPT, "%s: \"dim_mult\" must hold whole numbers in 1 to %d", j->name,
                           MAX_MULT);
        if (i < c->levels - 1 && !json_is_boolean(halves))
            return nv_fail(j->err, NABLA_CORRUPT, "%s: \"temperal_downsample\" must hold true or false", j->name);
        c->dim_mult[i] = (int32_t)value;
        c->temporal[i] = json_is_true(halves);
        if (value * c->base_dim > NV_VAE_MOST_CHANNELS || value * c->decoder_base_dim > NV_VAE_MOST_CHANNELS)
            return nv_fail(j->err, NABLA_CORRUPT, "%s: \"dim_mult\" of %lld gives more than %d channels", j->name,
                           (long long)value, NV_VAE_MOST_CHANNELS);
        if (i > 0 && value * c->decoder_base_dim % 2)
            return nv_fail(j->err, NABLA_CORRUPT, "%s: \"dim_mult\" of %lld gives an odd number of channels to halve",
                           j->name, (long long)value);
    }
    return NABLA_OK;
}

static nabla_status read_numbers(const nv_json *j, const char *key, int32_t count, float least, float *out) {
    json_t *list;
    NV_TRY(nv_json_array(j, key, (size_t)count, (size_t)count, &list));
    for (int32_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        const double value = json_number_value(item);
        if (!json_is_number(item) || !(value >= (double)least && value <= 1e6))
            return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" must hold numbers in %g to 1e6", j->name, key,
                           (double)least);
        out[i] = (float)value;
    }
    return NABLA_OK;
}

/* Factors that the file states are what its levels make. */
static nabla_status check_factor(const nv_json *j, const char *key, int32_t factor) {
    int32_t stated = factor;
    NV_TRY(nv_json_i32_or(j, key, 1, 1 << 16, &stated));
    if (stated != factor)
        return nv_fail(j->err, NABLA_CORRUPT, "%s: \"%s\" is %d, but its levels make %d", j->name, key, stated, factor);
    return NABLA_OK;
}

static nabla_status read_vae(const nv_json *j, nv_vae_config *c) {
    static const char *const keys[] = {"attn_scales",
                                       "base_dim",
                                       "decoder_base_dim",
                                       "dim_mult",
                                       "dropout",
                                       "in_channels",
                                       "is_residual",
                                       "latents_mean",
                                       "latents_std",
                                       "num_res_blocks",
                                       "out_channels",
                                       "patch_size",
                                       "scale_factor_spatial",
                                       "scale_factor_temporal",
                                       "temperal_downsample",
                                       "z_dim",
                                       NULL};
    int32_t channels = 3;
    NV_TRY(check_kind(j));
    NV_TRY(nv_json_known_keys(j, keys));
    NV_TRY(nv_json_i32(j, "base_dim", 1, NV_VAE_MOST_CHANNELS, &c->base_dim));
    c->decoder_base_dim = c->base_dim;
    NV_TRY(nv_json_i32_or(j, "decoder_base_dim", 1, NV_VAE_MOST_CHANNELS, &c->decoder_base_dim));
    NV_TRY(nv_json_i32(j, "z_dim", 1, NV_VAE_MOST_Z, &c->z_dim));
    NV_TRY(nv_json_i32(j, "num_res_blocks", 1, NV_VAE_MOST_BLOCKS, &c->res_blocks));
    NV_TRY(read_levels(j, c));
    NV_TRY(nv_json_i32_or(j, "in_channels", 3, 3, &channels));
    NV_TRY(nv_json_i32_or(j, "out_channels", 3, 3, &channels));
    NV_TRY(read_numbers(j, "latents_mean", c->z_dim, -1e6f, c->mean));
    NV_TRY(read_numbers(j, "latents_std", c->z_dim, 1e-6f, c->std));
    NV_TRY(check_factor(j, "scale_factor_spatial", nv_vae_space_factor(c)));
    return check_factor(j, "scale_factor_temporal", nv_vae_time_factor(c));
}

nabla_status nv_config_parse_vae(const char *text, size_t size, const char *name, nv_vae_config *out, nv_error *err) {
    nv_json j;
    nv_vae_config config = {0};
    NV_TRY(nv_json_parse(text, size, name, &j, err));
    const nabla_status status = read_vae(&j, &config);
    nv_json_close(&j);
    if (status == NABLA_OK) *out = config;
    return status;
}

nabla_status nv_config_read_vae(const char *path, nv_vae_config *out, nv_error *err) {
    char *text;
    size_t size;
    NV_TRY(nv_file_read(path, MAX_FILE, &text, &size, err));
    const nabla_status status = nv_config_parse_vae(text, size, path, out, err);
    free(text);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/text_encoder.h"

#include "video/files.h"

static const char embedded[] = "spiece_model"; /* ComfyUI's tensor: the bytes of spiece.model */

static const char *const weights_places[] = {
    "text_encoder/model.safetensors.index.json", "text_encoder/model.safetensors",
    "models_t5_umt5-xxl-enc-bf16.safetensors", "models_t5_umt5-xxl-enc-bf16.pth", NULL};
static const char *const tokenizer_places[] = {"tokenizer/spiece.model", "google/umt5-xxl/spiece.model", NULL};

static nabla_status no_weights(const char *model, nv_error *err) {
    if (!nv_file_exists(model))
        return nv_fail(err, NABLA_IO, "the model folder %.300s does not exist: check --model", model);
    return nv_fail(err, NABLA_UNSUPPORTED, "%.200s has no text encoder of Wan: neither %s nor %s", model,
                   weights_places[1], weights_places[3]);
}

static nabla_status open_weights(const char *model, const char *file, nv_umt5 **out, nv_error *err) {
    char weights[NV_PATH_SIZE], config[NV_PATH_SIZE];
    if (file) return nv_umt5_open(file, NULL, out, err);
    if (!nv_path_find(weights, model, weights_places)) return no_weights(model, err);
    return nv_umt5_open(weights, nv_path_in(config, model, "text_encoder/config.json") ? config : NULL, out, err);
}

static nabla_status open_tokenizer(const char *model, const char *file, nv_text_encoder *t, nv_error *err) {
    char path[NV_PATH_SIZE];
    const nv_st_entry *bytes = file ? nv_umt5_find(t->umt5, embedded) : NULL;
    if (bytes && bytes->dtype == NV_ST_U8)
        return nv_tokenizer_create(bytes->data, bytes->bytes, file, &t->tokenizer, err);
    if (!model)
        return nv_fail(err, NABLA_INVALID_ARGUMENT,
                       "%.300s carries no tokenizer (a tensor \"%s\"): name a model's folder that has one", file,
                       embedded);
    if (!nv_path_find(path, model, tokenizer_places))
        return nv_fail(err, NABLA_IO, "%.200s has no tokenizer: neither %s nor %s", model, tokenizer_places[0],
                       tokenizer_places[1]);
    return nv_tokenizer_read(path, &t->tokenizer, err);
}

static nabla_status open_parts(const char *model, const char *file, nv_text_encoder *t, nv_error *err) {
    NV_TRY(open_weights(model, file, &t->umt5, err));
    NV_TRY(open_tokenizer(model, file, t, err));
    const int32_t pieces = nv_tokenizer_count(t->tokenizer), rows = nv_umt5_get_config(t->umt5)->vocab;
    if (pieces > rows)
        return nv_fail(err, NABLA_CORRUPT,
                       "the tokenizer has %d pieces, the text encoder's table %d rows: they are of different models",
                       pieces, rows);
    return NABLA_OK;
}

nabla_status nv_text_encoder_open(const char *model, const char *file, nv_text_encoder *t, nv_error *err) {
    *t = (nv_text_encoder){0};
    nabla_status status = open_parts(model, file, t, err);
    if (status != NABLA_OK) nv_text_encoder_close(t);
    return status;
}

void nv_text_encoder_close(nv_text_encoder *t) {
    nv_tokenizer_destroy(t->tokenizer);
    nv_umt5_close(t->umt5);
    *t = (nv_text_encoder){0};
}

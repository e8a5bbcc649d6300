/* SPDX-License-Identifier: Apache-2.0 */
/* Every JSON file that a model folder may hold: the input goes through each reader. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/words.h"
#include "weights/config.h"

/* A failure says why, a success does not. */
static void check(nabla_status status, const nv_error *err) {
    if (status != err->status || (status != NABLA_OK) != (err->text[0] != '\0')) abort();
}

static void try_dit(const char *text, size_t size) {
    nv_dit_config c;
    nv_error err = {0};
    nabla_status status = nv_config_parse_dit(text, size, "fuzz", &c, &err);
    check(status, &err);
    if (status != NABLA_OK) return;
    int positive = c.heads > 0 && c.layers > 0 && c.ffn_dim > 0 && c.text_dim > 0 && c.rope_max > 0 && c.eps > 0.0f;
    if (!positive || c.head_dim % 8 != 0 || c.freq_dim % 2 != 0 || c.patch[0] < 1) abort();
}

static void try_vae(const char *text, size_t size) {
    nv_vae_config c;
    nv_error err = {0};
    nabla_status status = nv_config_parse_vae(text, size, "fuzz", &c, &err);
    check(status, &err);
    if (status != NABLA_OK) return;
    if (c.levels < 1 || c.levels > NV_VAE_MOST_LEVELS || c.z_dim < 1 || c.z_dim > NV_VAE_MOST_Z) abort();
    for (int32_t i = 0; i < c.levels; i++)
        if (c.dim_mult[i] * c.base_dim < 1 || c.dim_mult[i] * c.decoder_base_dim > NV_VAE_MOST_CHANNELS) abort();
    for (int32_t i = 0; i < c.z_dim; i++)
        if (!(c.std[i] > 0.0f)) abort();
}

static void try_index(const char *text, size_t size) {
    nv_model_index m;
    nv_error err = {0};
    nabla_status status = nv_config_parse_index(text, size, "fuzz", &m, &err);
    check(status, &err);
    if (status == NABLA_OK && strcmp(m.kind, NV_KIND_CLIP) == 0 && (m.width < 1 || m.steps < 1)) abort();
}

/* A list of words also reads the input as a caption. */
static void try_words(const char *text, size_t size) {
    nv_words *words;
    nv_error err = {0};
    check(nv_words_parse(text, size, "fuzz", &words, &err), &err);
    if (!words) return;
    char *caption = calloc(1, size + 1), unknown[32] = "";
    int32_t *ids = calloc((size_t)nv_words_length(words), sizeof *ids);
    if (caption && ids) {
        memcpy(caption, text, size);
        nv_words_encode(words, caption, ids, unknown, sizeof unknown);
        for (int32_t i = 0; i < nv_words_length(words); i++) {
            if (ids[i] < 0 || ids[i] >= nv_words_rows(words)) abort();
        }
        nv_words_nearest(words, unknown);
    }
    free(caption);
    free(ids);
    nv_words_destroy(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    try_dit(text, size);
    try_vae(text, size);
    try_index(text, size);
    try_words(text, size);
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/mask.h"

#include <stdlib.h>

#include "media/mask_image.h"
#include "media/media.h"

enum { MOST_PIXELS = 1600 /* a side: fits a screen, and shows each of the 1260 blocks of a 720p video's head */ };

static nabla_status paint(const nv_mask_picture *picture, const char *path, nv_error *err) {
    uint8_t *rgb;
    int32_t width, height;
    NV_TRY(nv_mask_rgb(picture, &rgb, &width, &height, err));
    nabla_status status = nv_png_write(path, rgb, width, height, err);
    free(rgb);
    return status;
}

nabla_status nv_mask_write(nabla_context *ctx, const nabla_plan *plan, const nv_mask_view *view, const char *path,
                           nv_error *err) {
    nabla_plan_stats stats = {.size = sizeof stats};
    nabla_status status = nabla_plan_get_stats(ctx, plan, &stats);
    if (status != NABLA_OK) return nv_fail(err, status, "%s", nabla_context_message(ctx));
    nv_mask_picture picture = {.heads = view->heads, .rows = stats.q_blocks, .columns = stats.k_blocks};
    picture.row_frames = view->q_frames;
    picture.column_frames = view->k_frames;
    picture.most = MOST_PIXELS;
    size_t sample = (size_t)(view->heads * stats.q_blocks * stats.k_blocks);
    uint8_t *kept = malloc((size_t)view->batch * sample);
    if (!kept) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a mask of %zu blocks", sample);
    status = nabla_plan_export_bitmap(ctx, plan, kept);
    picture.kept = kept + (size_t)view->sample * sample;
    status = status == NABLA_OK ? paint(&picture, path, err) : nv_fail(err, status, "%s", nabla_context_message(ctx));
    free(kept);
    return status;
}

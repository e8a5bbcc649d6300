/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sliding tile attention, the fixed part of NABLA's union (section 3.3; `sta` of gen-ai-team/Wan2.1-NABLA).
 *
 * A query tile at (f, h, w) sees the key tiles with |df| <= wT / 2, |dh| <= wH / 2 and |dw| <= wW / 2 (integer
 * division), cut off at the grid's borders and never shifted inwards.
 */
#include "bits.h"
#include "policy.h"

typedef struct span {
    int32_t first, last; /* [first, last) */
} span;

static span around(int32_t centre, int32_t window, int32_t tiles) {
    const int32_t reach = window / 2;
    return (span){.first = centre > reach ? centre - reach : 0,
                  .last = tiles - centre > reach ? centre + reach + 1 : tiles};
}

void nabla_policy_keep_window(const nabla_policy *policy, nabla_tiles tiles, int64_t q_block, uint64_t *bits) {
    const int64_t frame = (int64_t)tiles.height * tiles.width;
    const span fs = around((int32_t)(q_block / frame), policy->sta_frames, tiles.frames);
    const span hs = around((int32_t)(q_block % frame / tiles.width), policy->sta_height, tiles.height);
    const span ws = around((int32_t)(q_block % tiles.width), policy->sta_width, tiles.width);
    for (int32_t f = fs.first; f < fs.last; f++)
        for (int32_t h = hs.first; h < hs.last; h++) {
            const int64_t line = f * frame + (int64_t)h * tiles.width;
            nabla_set_range(bits, line + ws.first, line + ws.last);
        }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A media writer that writes behind its caller, who makes the next frames meanwhile: encoding a frame takes about as
   long as a GPU takes to decode one. Frames are written in the order in which they were given; a few may wait. */
#ifndef NV_MEDIA_BEHIND_H
#define NV_MEDIA_BEHIND_H

#include "media/media.h"

enum { NV_BEHIND_FRAMES = 4 }; /* held at most, as RGB */

typedef struct nv_media_behind nv_media_behind;
nabla_status nv_media_behind_open(const char *path, const nv_media_options *options, nv_media_behind **out,
                                  nv_error *err);
/* Where the next frame goes, [height, width, 3]; waits while all that there is room for are yet to be written. Tells
   what earlier frames failed with. */
nabla_status nv_media_behind_room(nv_media_behind *b, uint8_t **rgb, nv_error *err);
/* The frame is there. */
nabla_status nv_media_behind_give(nv_media_behind *b, nv_error *err);
/* Both free b whatever happens: the first waits for the rest and puts the file in its place, the second leaves none. */
nabla_status nv_media_behind_finish(nv_media_behind *b, nv_error *err);
void nv_media_behind_abandon(nv_media_behind *b); /* NULL is fine */

#endif

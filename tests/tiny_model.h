/* SPDX-License-Identifier: Apache-2.0 */
/* A trainer's options for a transformer of a few thousand parameters, and a folder that its runs are written to. */
#ifndef NABLA_TINY_MODEL_H
#define NABLA_TINY_MODEL_H

#include "nabla/video.h"

enum { STEPS = 12, WIDTH = 24, HEIGHT = 16, FRAMES = 2, PATCH = 4 };

int tiny_make(void);    /* makes the folder; 0, or -1 */
void tiny_remove(void); /* and all that is in it */
/* A path below the folder; a few may be held at once. */
const char *at(const char *name);

nabla_video_machine machine_of(nabla_video_progress progress, void *user);
nabla_train_options tiny(const char *output);
nabla_status train(const nabla_train_options *o, nabla_video_progress progress, nabla_video_error *err);
/* The call failed as expected, and its sentence names the word. */
void expect_refusal(nabla_status status, const nabla_video_error *err, nabla_status expected, const char *word);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "nabla/video.h"

nabla_video_machine nabla_video_machine_default(void) {
    return (nabla_video_machine){.size = sizeof(nabla_video_machine), .compute = NABLA_BF16};
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "video/machine.h"

nabla_video_machine nabla_video_machine_default(void) {
    return (nabla_video_machine){.size = sizeof(nabla_video_machine), .compute = NABLA_BF16};
}

nabla_status nv_machine_open(const nabla_video_machine *machine, nv_device **out, nv_error *err) {
    const nv_device_options options = {
        .device = machine->device, .ordinal = machine->ordinal, .threads = machine->threads, .level = machine->level};
    return nv_device_create(&options, out, err);
}

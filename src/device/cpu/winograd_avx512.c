/* SPDX-License-Identifier: Apache-2.0 */
#include "device/cpu/winograd_body.h"

const nv_winograd_kernels nv_winograd_avx512 = {{tiles_fp32}};

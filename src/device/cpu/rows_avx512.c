/* SPDX-License-Identifier: Apache-2.0 */
#define NV_ROWS nv_rows_avx512
#include "device/cpu/rows_body.h"

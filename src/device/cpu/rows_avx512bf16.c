/* SPDX-License-Identifier: Apache-2.0 */
#define NV_ROWS nv_rows_avx512bf16
#include "device/cpu/rows_body.h"

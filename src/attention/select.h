/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NABLA_SELECT_H
#define NABLA_SELECT_H

#include "kernel.h"

#include <stdbool.h>

NABLA_DECL_SELECT_ROW(select_row_generic);

#endif

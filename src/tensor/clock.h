/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NV_CLOCK_H
#define NV_CLOCK_H

double nv_now(void); /* seconds of a clock that never goes back */

#endif

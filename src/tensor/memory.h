/* SPDX-License-Identifier: Apache-2.0 */
/* The memory that this process may use, in bytes, the control group's limit included; 0 where it cannot be found out.
 */
#ifndef NV_MEMORY_H
#define NV_MEMORY_H

double nv_memory_total(void);
double nv_memory_available(void);
/* The most that this process has held at a time so far, mapped files' pages included. */
double nv_memory_peak(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef REAL_DOT_H
#define REAL_DOT_H

/* out = C + A B by the machine's own instructions: full tiles, rows of 64 bytes. */
void real_dot(const void *c, const void *a, const void *b, void *out);

#endif

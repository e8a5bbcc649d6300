/* SPDX-License-Identifier: Apache-2.0 */
/* What the cases of check_ops share: random tensors that remember their values in fp64, comparison, timing. */
#ifndef OPS_CASE_H
#define OPS_CASE_H

#include "device/device.h"

typedef struct ops_case {
    nv_device *dev;
    nabla_dtype dtype; /* of activations */
    int64_t rows, cols, groups;
    int perf; /* time the call instead of checking what it made */
    char text[160];
    uint64_t stream; /* of the next random numbers */
    int failures;
    void *memory[64], *host[64]; /* of its tensors */
    int taken, host_taken;
} ops_case;

typedef struct ops_tensor {
    nv_matrix m; /* in the device's memory, which the host cannot reach */
    double *v;   /* [rows, cols], in the host's: what m holds, then what it should hold */
} ops_tensor;

/* scale * N(0, 1), rounded to dtype. Rows lie further apart than they need to, on boundaries of 16 bytes or not; the
   gap is watched. */
ops_tensor ops_random(ops_case *c, nabla_dtype dtype, int64_t rows, int64_t cols, double scale);
/* The same without gaps, where an operation wants that. */
ops_tensor ops_flat(ops_case *c, nabla_dtype dtype, int64_t rows, int64_t cols, double scale);
float *ops_floats(ops_tensor t);                 /* m's data, to pass on */
void ops_write(const ops_case *c, ops_tensor t); /* m = v */
void ops_read(const ops_case *c, ops_tensor t);  /* v = m */
/* A copy in the device's memory. */
int32_t *ops_ints(ops_case *c, const int32_t *values, int64_t count);
void *ops_copy(ops_case *c, const void *values, size_t bytes);
/* And back. */
void ops_fetch(const ops_case *c, void *values, const void *from, size_t bytes);

/* Fails the case where m is further than its dtype's rounding (and fp32 sums') from t.v, or a gap was written. scale:
   the size of numbers that were added up to make one. */
void ops_expect(ops_case *c, const char *what, ops_tensor t, double scale);
/* The same where m is not exactly t.v. */
void ops_expect_bits(ops_case *c, const char *what, ops_tensor t);
/* After the case: frees its tensors. */
void ops_finish(ops_case *c);

/* Runs the call; in perf, twenty times, and prints the least time and its rate for so many bytes. */
#define OPS_RUN(c, name, bytes, call)                                                    \
    do {                                                                                 \
        double ops_least = 1e30;                                                         \
        for (int ops_i = 0; ops_i < ((c)->perf ? 20 : 1); ops_i++) {                     \
            nv_error ops_err = {0}, *err = &ops_err;                                     \
            const double ops_begin = nv_now();                                           \
            if ((call) != NABLA_OK) ops_fail((c), (name), ops_err.text);                 \
            if ((c)->dev->ops->wait((c)->dev, err)) ops_fail((c), (name), ops_err.text); \
            const double ops_took = nv_now() - ops_begin;                                \
            if (ops_took < ops_least) ops_least = ops_took;                              \
        }                                                                                \
        if ((c)->perf) ops_report((c), (name), ops_least, (double)(bytes));              \
    } while (0)

void ops_fail(ops_case *c, const char *name, const char *why);
void ops_report(const ops_case *c, const char *name, double seconds, double bytes);

/* Runs every operation of the list, over every shape (perf: over one) and both dtypes; failures. */
int ops_run_all(nv_device *dev, int perf);

/* The cases, by file. */
void ops_linear(ops_case *c);
void ops_activations(ops_case *c);
void ops_seam(ops_case *c);
void ops_qk_norm(ops_case *c);
void ops_plain(ops_case *c);
void ops_ends(ops_case *c);
void ops_optimizer(ops_case *c);
void ops_noise(ops_case *c);
void ops_solve(ops_case *c);
void ops_frames(ops_case *c);
void ops_conv(ops_case *c);
void ops_gate(ops_case *c);
void ops_softmax(ops_case *c);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of a sampler's step. */
#include "ops_case.h"
#include <math.h>
#include <string.h>

static const nv_solve_numbers numbers = {.step = 7,
                                         .guidance = 4.5f,
                                         .sigma = 0.6f,
                                         .here = {0.3f, -0.4f, 0.5f, 0.25f, 0.7f},
                                         .next = {0.8f, 0.3f, -0.2f, 0.1f}};

typedef struct latents {
    ops_tensor output, x, last, before, corrected;
} latents;

/* What should come of them, in fp64. */
static void expect(const latents *t, int64_t n, int guided, int history, const nv_solve_numbers *w) {
    for (int64_t i = 0; i < n; i++) {
        const double x = t->x.v[i], m1 = t->last.v[i], m2 = history > 1 ? t->before.v[i] : 0,
                     corrected = history > 1 ? t->corrected.v[i] : 0;
        double v = t->output.v[i];
        if (guided) v = t->output.v[n + i] + (double)w->guidance * (v - t->output.v[n + i]);
        if (w->scale != 0) v = (x - v) * (double)w->scale;
        const double clean = x - (double)w->sigma * v;
        const double here = (double)w->here.x * x + (double)w->here.clean * clean + (double)w->here.last * m1 +
                            (double)w->here.before * m2 + (double)w->here.corrected * corrected;
        t->x.v[i] = (double)w->next.here * here + (double)w->next.clean * clean + (double)w->next.last * m1 +
                    (double)w->next.velocity * v;
        t->last.v[i] = clean;
        if (history > 1) t->before.v[i] = m1;
        if (history > 1) t->corrected.v[i] = here;
    }
}

static int32_t failed_step(const ops_case *c, const int32_t *there) {
    int32_t step = -1;
    nv_error err = {0};
    c->dev->ops->download(c->dev, &step, there, sizeof step, &err);
    return step;
}

static void solve_one(ops_case *c, int guided, int history, float scale) {
    const int64_t n = c->rows * c->cols;
    const int32_t none = 0;
    nv_solve_numbers w = numbers;
    latents t = {.output = ops_flat(c, NABLA_FP32, 1, guided ? 2 * n : n, 1),
                 .x = ops_flat(c, NABLA_FP32, 1, n, 1),
                 .last = ops_flat(c, NABLA_FP32, 1, n, 1)};
    nv_solve a = {.n = n, .guided = guided};
    if (history > 1) {
        t.before = ops_flat(c, NABLA_FP32, 1, n, 1);
        t.corrected = ops_flat(c, NABLA_FP32, 1, n, 1);
        a.before = ops_floats(t.before);
        a.corrected = ops_floats(t.corrected);
    }
    w.scale = scale;
    a.output = ops_floats(t.output);
    a.x = ops_floats(t.x);
    a.last = ops_floats(t.last);
    a.numbers = (const nv_solve_numbers *)(const void *)ops_ints(c, (const int32_t *)(const void *)&w,
                                                                 (int64_t)(sizeof w / sizeof(int32_t)));
    a.failed = ops_ints(c, &none, 1);
    if (!c->perf) expect(&t, n, guided, history, &w);
    OPS_RUN(c, history > 1 ? "solve of three latents" : "solve of one latent",
            (double)n * (guided ? 16 : 12) + (history > 1 ? 20.0 : 4.0) * (double)n,
            c->dev->ops->solve(c->dev, &a, err));
    ops_expect(c, "solve x", t.x, 16);
    ops_expect(c, "solve last", t.last, 16);
    if (history > 1) ops_expect(c, "solve before", t.before, 0);
    if (history > 1) ops_expect(c, "solve corrected", t.corrected, 16);
    if (c->perf) return;
    if (failed_step(c, a.failed) != 0) ops_fail(c, "solve", "finite numbers taken for others");
    ops_read(c, t.x);
    t.x.v[n - 1] = guided ? NAN : INFINITY;
    ops_write(c, t.x);
    for (int i = 0; i < 2; i++) { /* the first that failed is told, not the last */
        OPS_RUN(c, "solve", 0, c->dev->ops->solve(c->dev, &a, err));
        w.step++;
        c->dev->ops->upload(c->dev, (void *)(uintptr_t)a.numbers, &w, sizeof w);
    }
    if (failed_step(c, a.failed) != numbers.step) ops_fail(c, "solve", "NaN or infinity not told at its step");
}

void ops_solve(ops_case *c) {
    if (c->dtype != NABLA_FP32) return; /* latents are */
    solve_one(c, 1, 3, 0);
    ops_finish(c);
    if (c->perf) return;
    solve_one(c, 0, 1, 0);
    ops_finish(c);
    solve_one(c, 1, 1, 1 / 0.6f);
    ops_finish(c);
    solve_one(c, 0, 3, 1 / 0.6f);
}

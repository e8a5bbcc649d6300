/* SPDX-License-Identifier: Apache-2.0 */
/* A run's life: its plans, its layout in one piece of memory, estimated by the code that takes it. */
#include "dit/run.h"
#include "nn/rope.h"
#include <stdlib.h>
#include <string.h>

static nabla_status check_shape(const nv_dit *m, const nv_dit_shape *s, nv_error *err) {
    const int32_t size[3] = {s->frames, s->height, s->width};
    static const char *const names[3] = {"frames", "height", "width"};
    if (s->batch < 1 || s->text_length < 1)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "batch %d and text length %d must be at least 1", (int)s->batch,
                       (int)s->text_length);
    if (s->recompute && !s->train)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "a run that does not train has nothing to compute again");
    if (s->train && m->use != NV_DIT_TRAIN)
        return nv_fail(err, NABLA_INVALID_ARGUMENT, "this model holds no gradients; make it with NV_DIT_TRAIN");
    for (int i = 0; i < 3; i++) {
        if (size[i] < 1 || size[i] % m->config.patch[i])
            return nv_fail(err, NABLA_INVALID_ARGUMENT,
                           "%s of the latent is %d; it must be a multiple of the patch, %d", names[i], (int)size[i],
                           (int)m->config.patch[i]);
        if (!(s->rope_scale[i] > 0.0f))
            return nv_fail(err, NABLA_INVALID_ARGUMENT, "rope_scale of the %s is %g; it must be positive", names[i],
                           (double)s->rope_scale[i]);
        const int32_t tokens = size[i] / m->config.patch[i];
        if ((float)(tokens - 1) * s->rope_scale[i] > (float)(m->config.rope_max - 1))
            return nv_fail(err, NABLA_INVALID_ARGUMENT, "%d tokens of %s reach beyond rope_max_seq_len %d; use fewer",
                           (int)tokens, names[i], (int)m->config.rope_max);
    }
    return NABLA_OK;
}

/* ------------------------------------------------------------------------------------------ plans */

static nabla_status passed_on(const nv_dit_run *run, nabla_status status, nv_error *err) {
    if (status == NABLA_OK) return NABLA_OK;
    return nv_fail(err, status, "%s", nabla_context_message(run->m->device->context));
}

static nabla_plan_desc self_desc(const nv_dit_run *run) {
    nabla_plan_desc d = nabla_plan_desc_default();
    d.batch = run->shape.batch;
    d.heads = run->m->config.heads;
    d.q_order = d.k_order = run->order;
    d.backward = run->shape.train;
    return d;
}

static nabla_plan_desc cross_desc(const nv_dit_run *run) {
    nabla_plan_desc d = nabla_plan_desc_default();
    d.batch = run->shape.batch;
    d.heads = run->m->config.heads;
    d.q_tokens = run->tokens;
    d.k_tokens = run->shape.text_length;
    d.backward = run->shape.train;
    return d;
}

/* The sizes, and the order they need. */
static nabla_status measure(nv_dit_run *run, nv_error *err) {
    const nv_dit_shape *s = &run->shape;
    const int32_t *patch = run->m->config.patch, size[3] = {s->frames, s->height, s->width};
    NV_TRY(check_shape(run->m, s, err));
    for (int i = 0; i < 3; i++)
        run->grid[i] = size[i] / patch[i];
    nabla_grid grid = {run->grid[0], run->grid[1], run->grid[2], s->tile[0], s->tile[1], s->tile[2]};
    NV_TRY(passed_on(run, nabla_order_create(run->m->device->context, &grid, &run->order), err));
    run->tokens = nabla_order_tokens(run->order);
    run->text_rows = (int64_t)s->batch * s->text_length;
    if (run->text_rows > (int64_t)1 << 32)
        return nv_fail(err, NABLA_OVERFLOW, "%d captions of %d words are too many", (int)s->batch, (int)s->text_length);
    if (__builtin_mul_overflow(run->tokens, (int64_t)s->batch, &run->rows) || run->rows > (int64_t)1 << 32)
        return nv_fail(err, NABLA_OVERFLOW, "%d samples of %lld tokens are too many", (int)s->batch,
                       (long long)run->tokens);
    return NABLA_OK;
}

static nabla_status make_plans(nv_dit_run *run, nv_error *err) {
    nabla_context *ctx = run->m->device->context;
    const nabla_plan_desc self = self_desc(run), cross = cross_desc(run);
    const nabla_plan_inputs inputs = nabla_plan_inputs_default();
    nabla_policy dense;
    run->plans = calloc((size_t)run->m->config.layers, sizeof *run->plans);
    if (!run->plans) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for plans");
    for (int32_t i = 0; i < run->m->config.layers; i++)
        NV_TRY(passed_on(run, nabla_plan_create(ctx, &self, &run->plans[i]), err));
    NV_TRY(passed_on(run, nabla_plan_create(ctx, &cross, &run->cross_plan), err));
    NV_TRY(passed_on(run, nabla_policy_parse(ctx, "dense", &dense), err));
    return passed_on(run, nabla_plan_build(ctx, run->cross_plan, &dense, &inputs), err);
}

int64_t nv_dit_run_heads(const nv_dit_run *run) {
    return (int64_t)run->m->config.layers * run->shape.batch * run->m->config.heads;
}

/* ------------------------------------------------------------------------------------------ layout */

static nv_matrix take_matrix(nv_arena *arena, nabla_dtype dtype, int64_t rows, int64_t cols) {
    return nv_matrix_of(nv_arena_take(arena, rows * cols, nabla_dtype_size(dtype)), dtype, rows, cols);
}

static float *take_floats(nv_arena *arena, int64_t count) {
    return nv_arena_take(arena, count, sizeof(float));
}

/* Without a backward pass a norm's output is scratch: the input of the branch behind it. */
static void take_norm(nv_dit_run *run, nv_arena *arena, nv_dit_norm_run *norm, nabla_dtype dtype, int save) {
    norm->n = run->shape.train ? take_matrix(arena, dtype, run->rows, run->m->dim) : run->shared.narrow;
    norm->xhat = save ? nv_arena_take(arena, run->rows * run->m->dim, nabla_dtype_size(dtype)) : NULL;
    norm->rstd = save ? take_floats(arena, run->rows) : NULL;
}

static void take_block(nv_dit_run *run, nv_arena *arena, int32_t layer) {
    const nv_dit *m = run->m;
    const nv_dit_block *p = &m->blocks[layer];
    nv_dit_block_run *b = &run->blocks[layer];
    const nv_dit_turn *turn = run->shape.recompute ? &run->turns[layer % 2] : NULL;
    const int train = run->shape.train;
    const int64_t batch = run->shape.batch;
    for (int i = 0; i < 3; i++) {
        const int normalises = i != 1 || m->config.cross_attn_norm;
        take_norm(run, arena, &b->norm[i], m->compute, train && normalises && !(turn && i == 0));
    }
    nv_self_attention_layout(&b->self, arena, &p->self, batch, run->tokens, m->compute, train, &run->shared);
    nv_cross_attention_layout(&b->cross, arena, &p->cross, batch, run->tokens, run->shape.text_length, m->compute,
                              train, &run->shared);
    b->ffn_u = train ? take_matrix(arena, m->compute, run->rows, m->config.ffn_dim)
                     : nv_shared_wide(&run->shared, m->config.ffn_dim);
    if (turn) {
        b->norm[0].xhat = turn->xhat;
        b->norm[0].rstd = turn->rstd;
        b->ffn_y = turn->ffn_y;
    } else {
        b->ffn_y = train ? take_matrix(arena, m->compute, run->rows, m->dim) : run->shared.narrow;
    }
    b->self.rope = run->rope;
    b->self.plan = run->plans ? run->plans[layer] : NULL;
    b->cross.plan = run->cross_plan;
}

static void take_backward(nv_dit_run *run, nv_arena *arena) {
    const nv_dit *m = run->m;
    const int64_t batch = run->shape.batch, dim = m->dim;
    run->d_x = take_floats(arena, run->rows * dim);
    run->d_n = take_matrix(arena, m->compute, run->rows, dim);
    run->d_y = take_matrix(arena, m->compute, run->rows, dim);
    run->d_head_n = take_matrix(arena, NABLA_FP32, run->rows, dim);
    run->d_kv = take_matrix(arena, m->compute, run->text_rows, 2 * dim);
    run->d_text = take_matrix(arena, NABLA_FP32, run->text_rows, dim);
    run->d_text_y = take_matrix(arena, m->compute, run->text_rows, dim);
    run->d_text_x = take_matrix(arena, m->compute, run->text_rows, m->config.text_dim);
    run->d_e = take_matrix(arena, NABLA_FP32, batch, NV_DIT_CHUNKS * dim);
    run->d_t_head = take_floats(arena, batch * dim);
    run->d_head_modulation = take_floats(arena, batch * 2 * dim);
}

static void take_recompute(nv_dit_run *run, nv_arena *arena) {
    const nv_dit *m = run->m;
    for (int32_t i = 0; i + 1 < m->config.layers; i++)
        run->blocks[i].kept = take_floats(arena, run->rows * m->dim);
    for (int i = 0; i < 2; i++) {
        run->turns[i].ffn_y = take_matrix(arena, m->compute, run->rows, m->dim);
        run->turns[i].xhat = nv_arena_take(arena, run->rows * m->dim, nabla_dtype_size(m->compute));
        run->turns[i].rstd = take_floats(arena, run->rows);
    }
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Columns of the shared wide matrix: for q, k and v, for the feed-forward, and without a backward pass for patches and
   for the head's input and output, which are fp32. */
static int64_t widest(const nv_dit_run *run) {
    const nv_dit *m = run->m;
    const int64_t branch = larger(3 * m->dim, m->config.ffn_dim);
    const int64_t head = (m->dim + m->patch_out) * (int64_t)(sizeof(float) / nabla_dtype_size(m->compute));
    return run->shape.train ? branch : larger(branch, larger(m->patch_in, head));
}

static void take_ends(nv_dit_run *run, nv_arena *arena) {
    const nv_dit *m = run->m;
    if (run->shape.train) {
        run->patches = take_matrix(arena, m->compute, run->rows, m->patch_in);
        take_norm(run, arena, &run->head_norm, NABLA_FP32, 1);
        run->head_out = take_matrix(arena, NABLA_FP32, run->rows, m->patch_out);
        return;
    }
    float *wide = run->shared.wide.data;
    run->patches = nv_shared_wide(&run->shared, m->patch_in);
    run->head_norm = (nv_dit_norm_run){.n = nv_matrix_of(wide, NABLA_FP32, run->rows, m->dim)};
    run->head_out = nv_matrix_of(wide ? wide + run->rows * m->dim : NULL, NABLA_FP32, run->rows, m->patch_out);
}

static void take_all(nv_dit_run *run, nv_arena *arena) {
    const nv_dit *m = run->m;
    const nabla_dtype compute = m->compute;
    const int64_t dim = m->dim, rows = run->rows;
    run->raster = nv_arena_take(arena, run->tokens, sizeof(int32_t));
    run->pairs = nv_arena_take(arena, nv_dit_run_heads(run), sizeof *run->pairs);
    run->rope = take_floats(arena, run->tokens * m->config.head_dim);
    run->x = take_floats(arena, rows * dim);
    run->shared.wide = take_matrix(arena, compute, rows, widest(run));
    run->shared.narrow = take_matrix(arena, compute, run->shape.train && compute == NABLA_FP32 ? 0 : rows, dim);
    run->shared.narrow.rows = rows;
    if (run->shape.train) run->shared.y = take_matrix(arena, compute, rows, dim);
    run->context = take_matrix(arena, compute, run->text_rows, m->config.text_dim);
    run->text_u = take_matrix(arena, compute, run->text_rows, dim);
    run->text_wide = run->shape.train ? take_matrix(arena, compute, run->text_rows, dim) : run->text_u;
    run->text = take_matrix(arena, compute, run->text_rows, dim);
    nv_time_embedding_layout(&run->time, arena, &m->time, run->shape.batch);
    run->head_modulation = take_floats(arena, (int64_t)run->shape.batch * 2 * dim);
    take_ends(run, arena);
    for (int32_t i = 0; i < m->config.layers; i++) {
        const int64_t count = run->shape.batch * NV_DIT_CHUNKS * dim;
        run->blocks[i].modulation = take_floats(arena, count);
        run->blocks[i].d_modulation = run->shape.train ? take_floats(arena, count) : NULL;
    }
    if (run->shape.train) take_backward(run, arena);
    if (run->shape.recompute) take_recompute(run, arena);
    const size_t shared = arena->used; /* where nothing is kept the layers' activations lie in the same place */
    for (int32_t i = 0; i < m->config.layers; i++) {
        if (!run->shape.train || run->shape.recompute) arena->used = shared;
        take_block(run, arena, i);
    }
}

static nabla_status count_bytes(nv_dit_run *run, nv_error *err) {
    nv_arena arena = {0};
    run->blocks = calloc((size_t)run->m->config.layers, sizeof *run->blocks);
    if (!run->blocks) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %d layers", (int)run->m->config.layers);
    take_all(run, &arena);
    run->bytes = arena.used;
    if (!arena.overflow) return NABLA_OK;
    return nv_fail(err, NABLA_OVERFLOW, "the activations of %d samples of %lld tokens do not fit any memory",
                   (int)run->shape.batch, (long long)run->tokens);
}

/* ------------------------------------------------------------------------------------------ life */

static nabla_status upload_tables(nv_dit_run *run, nv_error *err) {
    nv_device *dev = run->m->device;
    const int32_t *raster = nabla_order_raster(run->order);
    const size_t size = (size_t)run->tokens * (size_t)run->m->config.head_dim * sizeof(float);
    float *table = malloc(size);
    if (!table) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for %lld positions", (long long)run->tokens);
    nv_rope_table(table, run->grid, raster, run->m->config.head_dim, run->shape.rope_scale);
    dev->ops->upload(dev, run->rope, table, size);
    dev->ops->upload(dev, run->raster, raster, (size_t)run->tokens * sizeof *raster);
    free(table);
    return NABLA_OK;
}

static nabla_status build(nv_dit_run *run, nv_error *err) {
    nv_device *dev = run->m->device;
    nv_arena arena = {0};
    NV_TRY(measure(run, err));
    NV_TRY(count_bytes(run, err));
    NV_TRY(make_plans(run, err));
    run->kept = calloc((size_t)nv_dit_run_heads(run), sizeof *run->kept);
    if (!run->kept) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a run");
    NV_TRY(dev->ops->allocate(dev, run->bytes, &run->memory, err));
    arena.base = run->memory;
    arena.size = run->bytes;
    take_all(run, &arena);
    return upload_tables(run, err);
}

nabla_status nv_dit_run_create(nv_dit *m, const nv_dit_shape *shape, nv_dit_run **out, nv_error *err) {
    *out = NULL;
    nv_dit_run *run = calloc(1, sizeof *run);
    if (!run) return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for a run");
    run->m = m;
    run->shape = *shape;
    nabla_status status = build(run, err);
    if (status != NABLA_OK) {
        nv_dit_run_destroy(run);
        return status;
    }
    *out = run;
    return NABLA_OK;
}

void nv_dit_run_destroy(nv_dit_run *run) {
    if (!run) return;
    for (int32_t i = 0; run->plans && i < run->m->config.layers; i++)
        nabla_plan_destroy(run->plans[i]);
    free(run->plans);
    free(run->kept);
    nabla_plan_destroy(run->cross_plan);
    nabla_order_destroy(run->order);
    if (run->memory) run->m->device->ops->release(run->m->device, run->memory);
    free(run->blocks);
    free(run);
}

static nabla_status add_plans(const nv_dit_run *run, size_t *bytes, nv_error *err) {
    nabla_context *ctx = run->m->device->context;
    const nabla_plan_desc self = self_desc(run), cross = cross_desc(run);
    size_t self_bytes, cross_bytes, plans;
    NV_TRY(passed_on(run, nabla_plan_memory(ctx, &self, &self_bytes), err));
    NV_TRY(passed_on(run, nabla_plan_memory(ctx, &cross, &cross_bytes), err));
    if (__builtin_mul_overflow(self_bytes, (size_t)run->m->config.layers, &plans) ||
        __builtin_add_overflow(plans, cross_bytes, &plans) || __builtin_add_overflow(run->bytes, plans, bytes))
        return nv_fail(err, NABLA_OVERFLOW, "the plans of %lld tokens do not fit any memory", (long long)run->tokens);
    return NABLA_OK;
}

static size_t products_memory(const nv_dit_run *run) {
    const int64_t dim = run->m->dim, wide = run->m->config.ffn_dim, text = run->m->config.text_dim;
    const nv_linear_size sizes[] = {{run->rows, dim, 3 * dim},
                                    {run->rows, dim, wide},
                                    {run->rows, wide, dim},
                                    {run->text_rows, text, dim},
                                    {run->text_rows, dim, 2 * dim}};
    return nv_linear_memory(run->m->device, run->m->compute, sizes, 5, run->shape.train);
}

/* What attention takes inside its context, and products inside the device. */
static nabla_status add_scratch(const nv_dit_run *run, size_t *bytes, nv_error *err) {
    nabla_context *ctx = run->m->device->context;
    const nabla_plan_desc descs[] = {self_desc(run), cross_desc(run)};
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        size_t scratch = 0;
        NV_TRY(passed_on(run,
                         nabla_attention_memory(ctx, &descs[i], NULL, run->m->compute, run->m->config.head_dim,
                                                run->shape.train, &scratch),
                         err));
        if (scratch > most) most = scratch;
    }
    if (__builtin_add_overflow(most, products_memory(run), &most) || __builtin_add_overflow(*bytes, most, bytes))
        return nv_fail(err, NABLA_OVERFLOW, "attention over %lld tokens does not fit any memory",
                       (long long)run->tokens);
    return NABLA_OK;
}

nabla_status nv_dit_run_memory(const nv_dit *m, const nv_dit_shape *shape, size_t *bytes, nv_error *err) {
    nv_dit_run run = {.m = (nv_dit *)(uintptr_t)m, .shape = *shape};
    nabla_status status = measure(&run, err);
    if (status == NABLA_OK) status = count_bytes(&run, err);
    if (status == NABLA_OK) status = add_plans(&run, bytes, err);
    if (status == NABLA_OK) status = add_scratch(&run, bytes, err);
    nabla_order_destroy(run.order);
    free(run.blocks);
    return status;
}

/* What the pass counted on the device, in one copy. */
static nabla_status measure_density(const nv_dit_run *run, double *density, nv_error *err) {
    nv_device *dev = run->m->device;
    const int64_t heads = nv_dit_run_heads(run);
    int64_t pairs = 0;
    NV_TRY(dev->ops->download(dev, run->kept, run->pairs, (size_t)heads * sizeof *run->kept, err));
    for (int64_t i = 0; i < heads; i++)
        pairs += run->kept[i];
    *density = (double)pairs / ((double)run->tokens * (double)run->tokens * (double)heads);
    return NABLA_OK;
}

/* 4 operations a visited pair of tokens and dim: scores, and their product with v; 2.5 times that backwards. */
nabla_status nv_dit_get_stats(const nv_dit_run *run, nv_dit_stats *stats, nv_error *err) {
    nv_device *dev = run->m->device;
    const double row = 4.0 * (double)run->rows * (double)run->m->dim * run->m->config.layers;
    const double layers = run->m->config.layers, again = run->shape.recompute ? (layers - 1) / layers : 0;
    nv_clock clock;
    double density;
    NV_TRY(measure_density(run, &density, err));
    NV_TRY(dev->ops->wait(dev, err));
    dev->ops->clock_read(dev, &clock);
    *stats = (nv_dit_stats){.density = density,
                            .plan_s = clock.seconds[NV_PLAN],
                            .attention_s = clock.seconds[NV_ATTENTION],
                            .products_s = clock.seconds[NV_PRODUCTS],
                            .weights_s = clock.seconds[NV_WEIGHTS],
                            .update_s = clock.seconds[NV_UPDATE],
                            .other_s = clock.seconds[NV_OTHER],
                            .product_flop = clock.product_flop};
    stats->attention_flop = row * (density * (double)run->tokens + (double)run->shape.text_length);
    if (run->backward) stats->attention_flop *= 3.5 + again;
    return NABLA_OK;
}

nabla_status nv_dit_run_import(nv_dit_run *run, const int32_t *num, const int32_t *indices, nv_error *err) {
    for (int32_t i = 0; i < run->m->config.layers; i++)
        NV_TRY(passed_on(run, nabla_plan_import_lists(run->m->device->context, run->plans[i], num, indices), err));
    return NABLA_OK;
}

const nabla_plan *nv_dit_run_plan(const nv_dit_run *run, int32_t layer) {
    return layer >= 0 && layer < run->m->config.layers ? run->plans[layer] : NULL;
}

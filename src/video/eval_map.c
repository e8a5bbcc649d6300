/* SPDX-License-Identifier: Apache-2.0 */
#include "video/eval_map.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/file.h"

enum { LINE_SIZE = 96 };

nabla_status nv_eval_map_create(int32_t steps, int32_t layers, int32_t heads, int32_t entries, nv_eval_map *map,
                                nv_error *err) {
    const size_t plans = (size_t)steps * (size_t)layers;
    *map = (nv_eval_map){.steps = steps, .layers = layers, .heads = heads, .entries = entries};
    map->density = calloc(plans * (size_t)heads, sizeof *map->density);
    map->mass = calloc(plans, sizeof *map->mass);
    map->plan = calloc((size_t)entries * (size_t)heads, sizeof *map->plan);
    map->batches = calloc((size_t)steps, sizeof *map->batches);
    if (map->density && map->mass && map->plan && map->batches) return NABLA_OK;
    nv_eval_map_destroy(map);
    return nv_fail(err, NABLA_OUT_OF_MEMORY, "no memory for the densities of %d steps and %d layers", steps, layers);
}

void nv_eval_map_destroy(nv_eval_map *map) {
    free(map->density);
    free(map->mass);
    free(map->plan);
    free(map->batches);
    *map = (nv_eval_map){0};
}

/* sums: [heads] of the layer. */
static nabla_status add_plan(nv_eval_map *map, nabla_context *ctx, const nabla_plan *plan, double *sums, double *mass) {
    nabla_plan_stats stats = {.size = sizeof stats};
    nabla_status status = nabla_plan_get_stats(ctx, plan, &stats);
    if (status == NABLA_OK) status = nabla_plan_densities(ctx, plan, map->plan);
    if (status != NABLA_OK) return status;
    *mass += stats.kept_mass;
    for (int32_t entry = 0; entry < map->entries; entry++)
        for (int32_t head = 0; head < map->heads; head++)
            sums[head] += map->plan[entry * map->heads + head] / (double)map->entries;
    return NABLA_OK;
}

nabla_status nv_eval_map_add(nv_eval_map *map, nabla_context *ctx, const nv_dit_run *run, int32_t i, nv_error *err) {
    for (int32_t layer = 0; layer < map->layers; layer++) {
        const int32_t at = i * map->layers + layer;
        const nabla_status status = add_plan(map, ctx, nv_dit_run_plan(run, layer),
                                             map->density + (size_t)at * (size_t)map->heads, &map->mass[at]);
        if (status != NABLA_OK) return nv_fail(err, status, "%s", nabla_context_message(ctx));
    }
    map->batches[i]++;
    return NABLA_OK;
}

double nv_eval_map_mass(const nv_eval_map *map) {
    double sum = 0.0, count = 0.0;
    for (int32_t i = 0; i < map->steps; i++) {
        count += (double)(map->batches[i] * map->layers);
        for (int32_t layer = 0; layer < map->layers; layer++)
            sum += map->mass[i * map->layers + layer];
    }
    return sum / count;
}

/* One step's lines. */
static nabla_status put_step(const nv_eval_map *map, int32_t i, nv_file_writer *file, nv_error *err) {
    const double batches = (double)map->batches[i];
    for (int32_t layer = 0; layer < map->layers; layer++) {
        const int32_t at = i * map->layers + layer;
        char mass[32] = "", line[LINE_SIZE];
        if (isfinite(map->mass[at])) snprintf(mass, sizeof mass, "%.6f", map->mass[at] / batches);
        for (int32_t head = 0; head < map->heads; head++) {
            const double density = map->density[at * map->heads + head] / batches;
            const int n = snprintf(line, sizeof line, "%d,%d,%d,%.6f,%s\n", i + 1, layer, head, density, mass);
            NV_TRY(nv_file_put(file, line, (size_t)n, err));
        }
    }
    return NABLA_OK;
}

nabla_status nv_eval_map_write(const nv_eval_map *map, const char *path, nv_error *err) {
    static const char header[] = "step,layer,head,density,kept_mass\n";
    nv_file_writer *file;
    NV_TRY(nv_file_create(path, &file, err));
    nabla_status status = nv_file_put(file, header, strlen(header), err);
    for (int32_t i = 0; i < map->steps && status == NABLA_OK; i++)
        if (map->batches[i] > 0) status = put_step(map, i, file, err);
    if (status == NABLA_OK) return nv_file_commit(file, err);
    nv_file_abandon(file);
    return status;
}

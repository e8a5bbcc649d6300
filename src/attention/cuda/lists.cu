/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans in and out: FlexAttention's lists (num [B, H, nq], indices [B, H, nq, nk]) and one byte a block pair. A warp
 * takes a row, 32 key blocks or entries at a time, so that lists come out ascending and reads and writes are runs.
 *
 * What is wrong with an import is found in two steps, because an atomic holds one number: all rows agree on the first
 * bad row, then one warp goes through that row again for its first bad entry.
 */
#include "device.cuh"

enum { WARPS = 8, THREADS = WARPS * NABLA_WARP };

typedef struct bad_entry {
    int32_t entry; /* -1: the count itself; INT32_MAX: none */
    int32_t value;
} bad_entry;

static __device__ __forceinline__ int32_t lane_id(void) {
    return threadIdx.x % NABLA_WARP;
}

/* The row of [B * H * nq] that this warp takes. */
static __device__ __forceinline__ int64_t row_of_warp(void) {
    return (int64_t)blockIdx.x * WARPS + threadIdx.x / NABLA_WARP;
}

static __device__ __forceinline__ int64_t row_count(const nabla_cuda_plan &plan) {
    return (int64_t)plan.batch * plan.heads * plan.q.blocks;
}

/* Rows as 32-bit halves of words: half i holds key blocks from 32 i on. */
static __device__ __forceinline__ uint32_t *halves_of(const nabla_cuda_plan &plan, int64_t row) {
    const int64_t own = plan.sets == 1 ? row % plan.q.blocks : row;
    return (uint32_t *)(plan.rows + own * plan.k.words);
}

static __global__ void __launch_bounds__(THREADS) export_lists(nabla_cuda_plan plan, int32_t *num, int32_t *indices) {
    const int64_t row = row_of_warp();
    if (row >= row_count(plan)) return;
    const int32_t lane = lane_id(), nk = plan.k.blocks;
    const uint32_t *halves = halves_of(plan, row);
    int32_t kept = 0;
    for (int32_t i = 0; i < 2 * plan.k.words; i++) {
        const uint32_t bits = halves[i];
        const int32_t place = kept + __popc(bits & ((1u << lane) - 1));
        if (indices && bits >> lane & 1) indices[row * nk + place] = i * 32 + lane;
        kept += __popc(bits);
    }
    if (num && lane == 0) num[row] = kept;
    for (int32_t place = kept + lane; indices && place < nk; place += NABLA_WARP)
        indices[row * nk + place] = -1;
}

/* Fills one row from a list; the first entry that cannot be. A repeated index is met either in the bits of earlier
   steps or, within a step, at a lower lane. */
static __device__ bad_entry fill_from_list(const int32_t *list, int32_t count, int32_t nk, int32_t half_count,
                                           uint32_t *halves) {
    const int32_t lane = lane_id();
    bad_entry bad = {INT32_MAX, 0};
    for (int32_t i = lane; i < half_count; i += NABLA_WARP)
        halves[i] = 0;
    __syncwarp();
    if (count < 0 || count > nk) {
        bad.entry = -1;
        bad.value = count;
        return bad;
    }
    for (int32_t first = 0; first < count; first += NABLA_WARP) {
        const bool used = first + lane < count;
        const int32_t k = used ? list[first + lane] : -1;
        const bool inside = used && k >= 0 && k < nk;
        const uint32_t same = __match_any_sync(NABLA_ALL_LANES, k);
        bool repeated = inside && __ffs((int)same) - 1 < lane;
        if (inside && !repeated) {
            const uint32_t bit = 1u << (k % 32);
            repeated = atomicOr(halves + k / 32, bit) & bit;
        }
        const uint32_t wrong = __ballot_sync(NABLA_ALL_LANES, used && (!inside || repeated));
        if (wrong && bad.entry == INT32_MAX) {
            const int32_t at = __ffs((int)wrong) - 1;
            bad.entry = first + at;
            bad.value = __shfl_sync(NABLA_ALL_LANES, k, at);
        }
        __syncwarp();
    }
    return bad;
}

/* Fills one row from bytes; the first byte above 1. */
static __device__ bad_entry fill_from_bytes(const uint8_t *bytes, int32_t nk, int32_t half_count, uint32_t *halves) {
    const int32_t lane = lane_id();
    bad_entry bad = {INT32_MAX, 0};
    for (int32_t i = 0; i < half_count; i++) {
        const int32_t k = i * 32 + lane;
        const int32_t value = k < nk ? bytes[k] : 0;
        const uint32_t bits = __ballot_sync(NABLA_ALL_LANES, value == 1);
        const uint32_t wrong = __ballot_sync(NABLA_ALL_LANES, value > 1);
        if (wrong && bad.entry == INT32_MAX) {
            const int32_t at = __ffs((int)wrong) - 1;
            bad.entry = i * 32 + at;
            bad.value = __shfl_sync(NABLA_ALL_LANES, value, at);
        }
        if (lane == 0) halves[i] = bits;
    }
    return bad;
}

/* What is imported: lists, or bytes where they are not NULL. */
typedef struct import_source {
    const int32_t *num, *indices;
    const uint8_t *bytes;
} import_source;

static __device__ bad_entry fill_row(const nabla_cuda_plan &plan, const import_source &from, int64_t row) {
    const int32_t nk = plan.k.blocks, half_count = 2 * plan.k.words;
    uint32_t *halves = halves_of(plan, row);
    return from.bytes ? fill_from_bytes(from.bytes + row * nk, nk, half_count, halves)
                      : fill_from_list(from.indices + row * nk, from.num[row], nk, half_count, halves);
}

static __global__ void clear_error(int32_t *error) {
    error[0] = INT32_MAX;
    error[1] = error[2] = 0;
}

static __global__ void __launch_bounds__(THREADS)
    import_rows(nabla_cuda_plan plan, import_source from, int32_t *error) {
    const int64_t row = row_of_warp();
    if (row >= row_count(plan)) return;
    const bad_entry bad = fill_row(plan, from, row);
    if (bad.entry != INT32_MAX && lane_id() == 0) atomicMin(error, (int32_t)row);
}

/* One warp. Filling the row again changes nothing in it. */
static __global__ void explain_error(nabla_cuda_plan plan, import_source from, int32_t *error) {
    if (error[0] == INT32_MAX) return;
    const bad_entry bad = fill_row(plan, from, error[0]);
    if (lane_id() == 0) {
        error[1] = bad.entry;
        error[2] = bad.value;
    }
}

/* With a plan of one set for many heads every head's rows would be written to the same place: the caller sees to it
   that sets is B * H. */
static int import_all(const nabla_cuda_plan *plan, import_source from, int32_t *error, nabla_cuda_stream stream) {
    const int64_t rows = (int64_t)plan->batch * plan->heads * plan->q.blocks;
    if (rows >= INT32_MAX || plan->sets != plan->batch * plan->heads) return cudaErrorInvalidValue;
    NABLA_LAUNCH(clear_error, 1, 1, 0, stream)(error);
    NABLA_LAUNCH(import_rows, (unsigned)nabla_groups(rows, WARPS), THREADS, 0, stream)(*plan, from, error);
    NABLA_LAUNCH(explain_error, 1, NABLA_WARP, 0, stream)(*plan, from, error);
    return nabla_launched();
}

int nabla_cuda_import_lists(const nabla_cuda_plan *plan, const int32_t *num, const int32_t *indices, int32_t *error,
                            nabla_cuda_stream stream) {
    import_source from = {};
    from.num = num;
    from.indices = indices;
    return import_all(plan, from, error, stream);
}

int nabla_cuda_import_bitmap(const nabla_cuda_plan *plan, const uint8_t *bytes, int32_t *error,
                             nabla_cuda_stream stream) {
    import_source from = {};
    from.bytes = bytes;
    return import_all(plan, from, error, stream);
}

int nabla_cuda_export_lists(const nabla_cuda_plan *plan, int32_t *num, int32_t *indices, nabla_cuda_stream stream) {
    const int64_t groups = nabla_groups((int64_t)plan->batch * plan->heads * plan->q.blocks, WARPS);
    if (groups > INT32_MAX) return cudaErrorInvalidConfiguration;
    NABLA_LAUNCH(export_lists, (unsigned)groups, THREADS, 0, stream)(*plan, num, indices);
    return nabla_launched();
}

static __global__ void __launch_bounds__(THREADS) export_bitmap(nabla_cuda_plan plan, uint8_t *bytes) {
    const int64_t row = row_of_warp();
    if (row >= row_count(plan)) return;
    const int32_t nk = plan.k.blocks;
    const uint32_t *halves = halves_of(plan, row);
    for (int32_t k = lane_id(); k < nk; k += NABLA_WARP)
        bytes[row * nk + k] = (uint8_t)(halves[k / 32] >> (k % 32) & 1);
}

int nabla_cuda_export_bitmap(const nabla_cuda_plan *plan, uint8_t *bytes, nabla_cuda_stream stream) {
    const int64_t groups = nabla_groups((int64_t)plan->batch * plan->heads * plan->q.blocks, WARPS);
    if (groups > INT32_MAX) return cudaErrorInvalidConfiguration;
    NABLA_LAUNCH(export_bitmap, (unsigned)groups, THREADS, 0, stream)(*plan, bytes);
    return nabla_launched();
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scores of block means and the selection from them, fused: q_mean [B * H][nq][D], k_mean [B * H][nk][D] -> rows
 * [B * H][nq][k_words] and row_mass [B * H][nq]. Section 3 of arXiv 2507.13546; see policy/nabla.c for the rule.
 *
 * A thread block takes a strip of query blocks of one head, multiplies it with all key means and holds the strip's
 * scores in shared memory; then a warp a row turns scores into bits (select.cuh). The map of scores is never in global
 * memory, unless a row is too long for shared memory: then each thread block has a strip in the workspace and goes from
 * strip to strip.
 *
 * Products must be as good as fp32's (plain TF32 or bf16 would change sets) and are made by tensor cores from two fp16
 * numbers a value: x = high + low, each of 11 bits, as TF32 has, at twice its rate. A chunk of a mean is first scaled
 * by a power of two that brings its largest value just under 2^14, so that low stays a normal fp16 number for all
 * values down to 2^-16 of the largest and is off by at most 2^-39 of that below; what is left out (low * low, and what
 * low rounds off) is about 2^-23 of a product: fp32's own rounding. The two cross products have accumulators of their
 * own, as tensor cores truncate when they add. Means whose largest value is not finite or not within 2^40 of 1 are
 * marked by a NaN as their scale, and their scores are summed plainly, one by one.
 */
#include "build.cuh"
#include "instructions.cuh"
#include "select.cuh"

enum { WARPS = 16, THREADS = WARPS * NABLA_WARP, STRIP_BYTES = 64 << 20 /* of all strips in the workspace */ };

/* Where things lie in shared memory, in bytes; ROWS of a strip, STEPS of 16 head dims a chunk. */
template <int ROWS, int STEPS> struct score_room {
    static constexpr int width = STEPS * 16;             /* head dims of a chunk */
    static constexpr int pitch = width + 8;              /* halves; rows begin 16 bytes further on in the banks */
    static constexpr int keys = 8 * WARPS / (ROWS / 16); /* of a tile: 16 x 8 scores a warp */
    static constexpr int lane_width = width / NABLA_WARP;
    static constexpr int key_halves = keys * pitch, query_halves = ROWS * pitch; /* of one of high and low */
    static constexpr int list_room = 2 * key_halves * 2 / 4 / WARPS / 32 * 32;   /* floats a warp, over the keys */
    int32_t chunks;
    size_t key_parts, query_parts, key_scales, query_scales, first, last, strip;

    __host__ __device__ explicit score_room(int32_t head_dim) {
        chunks = (head_dim + width - 1) / width;
        key_parts = 0;
        query_parts = key_parts + 2 * key_halves * sizeof(__half);
        key_scales = query_parts + (size_t)chunks * 2 * query_halves * sizeof(__half);
        query_scales = key_scales + keys * sizeof(float);
        first = query_scales + (size_t)chunks * ROWS * sizeof(float);
        last = first + ROWS * sizeof(int32_t);
        strip = last + ROWS * sizeof(int32_t);
    }

    /* Floats from one row of the strip to the next; the 8 keep rows apart in the banks. */
    static __host__ __device__ int32_t padded(int32_t nk) {
        return (nk + keys - 1) / keys * keys;
    }
    static __host__ __device__ int64_t strip_pitch(int32_t nk) {
        return padded(nk) + 8;
    }
};

/* W values a lane, from d0 on, of N rows from `first` on; zeros past a row's and the rows' end. */
template <int W, int N>
static __device__ __forceinline__ void load_chunks(const float *rows, int32_t first, int32_t count, int32_t d0,
                                                   int32_t head_dim, nabla_vector<float, W> (&x)[N]) {
    const int32_t d = d0 + (int32_t)(threadIdx.x % NABLA_WARP) * W;
    const float *const at = rows + (int64_t)first * head_dim + d;
#pragma unroll
    for (int i = 0; i < N; i++) {
        x[i] = {};
        if (first + i < count && d < head_dim) x[i] = *(const nabla_vector<float, W> *)(at + i * head_dim);
    }
}

/* A warp's row as two fp16 numbers a value. Returns what to multiply its products by; NaN: score it plainly. */
template <int W>
static __device__ __forceinline__ float split_chunk(const nabla_vector<float, W> &x, __half *high, __half *low) {
    enum { BIAS = 127, TOP = 13, FAR = 40 };
    uint32_t most = 0;
    for (int i = 0; i < W; i++)
        most = max(most, __float_as_uint(x.at[i]) & 0x7fffffffu);
    most = __reduce_max_sync(NABLA_ALL_LANES, most);
    const uint32_t exponent = most >> 23;
    const bool usual = exponent >= BIAS - FAR && exponent <= BIAS + FAR;
    const float up = usual ? __uint_as_float((2 * BIAS + TOP - exponent) << 23) : 0.0f;
    const float down = usual ? __uint_as_float((exponent - TOP) << 23) : most ? NAN : 0.0f;
    nabla_vector<__half2, W / 2> h, l;
    for (int i = 0; i < W; i += 2) {
        const float a = x.at[i] * up, b = x.at[i + 1] * up;
        const __half2 pair = __floats2half2_rn(a, b);
        const float2 back = __half22float2(pair);
        h.at[i / 2] = pair;
        l.at[i / 2] = __floats2half2_rn(a - back.x, b - back.y);
    }
    const int32_t at = (int32_t)(threadIdx.x % NABLA_WARP) * W;
    *(nabla_vector<__half2, W / 2> *)(high + at) = h;
    *(nabla_vector<__half2, W / 2> *)(low + at) = l;
    return down;
}

static __device__ float plain_product(const float *a, const float *b, int32_t head_dim) {
    float sum = 0.0f;
#pragma unroll 1
    for (int32_t d = 0; d < head_dim; d++)
        sum = fmaf(a[d], b[d], sum);
    return sum;
}

/* This warp's 16 x 8 products of one chunk, added to total with their scales. Where registers are short, the low parts
   of the queries are loaded again from low_room. */
template <bool HOLDS_LOW, int STEPS>
static __device__ __forceinline__ void
multiply_chunk(const uint32_t (&high)[STEPS][4], uint32_t (&low)[STEPS][4], const __half *low_room, const __half *keys,
               const float *row_scales, const float *key_scales, float (&total)[4]) {
    float big[4] = {0}, cross[2][4] = {{0}};
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
        uint32_t k[4]; /* high: dims 0 and 8; low: dims 0 and 8 */
        load_matrices(k, shared_address(keys + s * 16));
        if (!HOLDS_LOW) load_matrices(low[s], shared_address(low_room + s * 16));
        multiply_add<__half>(big, high[s], k[0], k[1]);
        multiply_add<__half>(cross[0], high[s], k[2], k[3]);
        multiply_add<__half>(cross[1], low[s], k[0], k[1]);
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        total[i] += (big[i] + (cross[0][i] + cross[1][i])) * (row_scales[i / 2 * 8] * key_scales[i % 2]);
}

/* One row's words: from its weights and what was selected, with the row's document and what other terms keep. */
static __device__ void write_row(const float *weights, const selection &s, int32_t first, int32_t last, int32_t words,
                                 bool has_more, uint64_t *row, float *mass) {
    const int32_t lane = threadIdx.x % NABLA_WARP;
    int32_t equals = s.equals;
    float added = 0.0f;
    for (int32_t group = 0; group < words; group += NABLA_WARP) { /* a word a lane */
        const int32_t word = group + lane, halves = 2 * min(words - group, (int32_t)NABLA_WARP);
        uint64_t bits = 0;
        for (int32_t i = 0; i < halves; i++) {
            const float x = weights[group * 64 + i * 32 + lane];
            uint32_t kept = __ballot_sync(NABLA_ALL_LANES, x > s.line);
            if (equals > 0) {
                uint32_t equal = __ballot_sync(NABLA_ALL_LANES, x == s.line);
                for (; equal && equals > 0; equal &= equal - 1, equals--)
                    kept |= equal & -equal;
            }
            if (lane == i / 2) bits |= (uint64_t)kept << (i % 2 * 32);
        }
        if (word >= words) continue;
        if (s.all) bits = ~UINT64_C(0);
        bits &= bits_between(word, first, last);
        if (has_more) {
            for (uint64_t more = row[word] & ~bits; more; more &= more - 1) {
                const int32_t bit = __ffsll((long long)more) - 1;
                added += weights[word * 64 + bit];
                bits |= UINT64_C(1) << bit;
            }
        }
        row[word] = bits;
    }
    const double sum = s.kept + warp_sum((double)added);
    if (lane == 0) *mass = (float)(s.total > 0.0 ? sum / s.total : 0.0);
}

/* One strip of query blocks, and a thread block's room for it. */
template <int ROWS, int STEPS> struct strip_job {
    __half *keys, *queries;           /* [2][keys][pitch], [chunks][2][ROWS][pitch]: high and low parts */
    float *key_scales, *query_scales; /* [keys], [chunks][ROWS] */
    int32_t *firsts, *lasts;          /* [ROWS]: the key blocks that a row may see */
    float *scores;                    /* [ROWS][score_pitch] */
    int64_t score_pitch;
    int32_t chunks;
    int64_t bh;
    int32_t q0, rows;             /* first query block, how many of ROWS there are */
    const float *q_mean, *k_mean; /* of this strip and head */
};

/* Splits the strip's queries, and notes what each may see: its document; nothing past the last query block. */
template <int ROWS, int STEPS>
static __device__ void take_queries(const nabla_cuda_build &b, const strip_job<ROWS, STEPS> &job) {
    typedef score_room<ROWS, STEPS> room;
    for (int32_t i = threadIdx.x / NABLA_WARP; i < job.chunks * ROWS; i += WARPS) {
        const int32_t chunk = i / ROWS, r = i % ROWS;
        __half *const out = job.queries + (2 * chunk * ROWS + r) * room::pitch;
        nabla_vector<float, room::lane_width> x[1];
        load_chunks(job.q_mean, r, job.rows, chunk * room::width, b.head_dim, x);
        job.query_scales[i] = split_chunk(x[0], out, out + room::query_halves);
    }
    const int32_t r = threadIdx.x;
    if (r >= ROWS) return;
    int32_t first = 0, last = r < job.rows ? b.plan.k.blocks : 0;
    if (b.documents && r < job.rows) {
        const int32_t document = b.document_of[job.q0 + r];
        first = b.document_first[document];
        last = b.document_first[document + 1];
    }
    job.firsts[r] = first;
    job.lasts[r] = last;
}

/* This thread's four of a tile's scores, at rows r and r + 8 and keys k and k + 1, to the strip. */
template <int ROWS, int STEPS>
static __device__ __forceinline__ void put_scores(const strip_job<ROWS, STEPS> &job, const float (&total)[4], int32_t r,
                                                  int32_t k, int32_t head_dim, float scale) {
#pragma unroll
    for (int i = 0; i < 4; i += 2, r += 8) {
        nabla_vector<float, 2> scores;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const bool seen = k + j >= job.firsts[r] && k + j < job.lasts[r];
            float x = total[i + j];
            if (seen && x != x)
                x = plain_product(job.q_mean + (int64_t)r * head_dim, job.k_mean + (int64_t)(k + j) * head_dim,
                                  head_dim);
            scores.at[j] = seen ? x * scale : -INFINITY;
        }
        *(nabla_vector<float, 2> *)(job.scores + r * job.score_pitch + k) = scores;
    }
}

/* Fills the strip: tile after tile of keys, a chunk of head dims at a time. The next keys are on their way to registers
   while these are multiplied. */
template <bool HOLDS_LOW, int ROWS, int STEPS>
static __device__ __forceinline__ void score_strip(const nabla_cuda_build &b, const strip_job<ROWS, STEPS> &job) {
    typedef score_room<ROWS, STEPS> room;
    enum { KEY_ROWS = room::keys / WARPS, COLUMNS = room::keys / 8 };
    const int32_t lane = threadIdx.x % NABLA_WARP, warp = threadIdx.x / NABLA_WARP;
    const int32_t row0 = warp / COLUMNS * 16, column0 = warp % COLUMNS * 8; /* of this warp's part of a tile */
    const int32_t nk = b.plan.k.blocks, dim = b.head_dim, tiles = room::padded(nk) / room::keys;
    const float scale = b.scale * 1.44269504f; /* log2 e */
    const __half *const a_at = job.queries + (row0 + lane % 16) * room::pitch + lane / 16 * 8;
    const __half *const b_at =
        job.keys + lane / 16 * room::key_halves + (column0 + lane % 8) * room::pitch + lane / 8 % 2 * 8;

    nabla_vector<float, room::lane_width> next[KEY_ROWS];
    uint32_t high[STEPS][4], low[STEPS][4];
    float total[4];
    load_chunks(job.k_mean, warp * KEY_ROWS, nk, 0, dim, next);
    for (int32_t tile = 0; tile < tiles; tile++) {
        for (int32_t chunk = 0; chunk < job.chunks; chunk++) {
            __syncthreads(); /* the keys of the step before have been multiplied */
#pragma unroll
            for (int i = 0; i < KEY_ROWS; i++) {
                __half *const out = job.keys + (warp * KEY_ROWS + i) * room::pitch;
                const float down = split_chunk(next[i], out, out + room::key_halves);
                if (lane == 0) job.key_scales[warp * KEY_ROWS + i] = down;
            }
            __syncthreads(); /* keys are there; at first, queries too */
            const bool last_chunk = chunk + 1 == job.chunks;
            load_chunks(job.k_mean, (last_chunk ? tile + 1 : tile) * room::keys + warp * KEY_ROWS, nk,
                        last_chunk ? 0 : (chunk + 1) * room::width, dim, next);
            const __half *const from = a_at + 2 * chunk * room::query_halves;
            if (job.chunks > 1 || tile == 0) {
#pragma unroll
                for (int s = 0; s < STEPS; s++) {
                    load_matrices(high[s], shared_address(from + s * 16));
                    if (HOLDS_LOW) load_matrices(low[s], shared_address(from + room::query_halves + s * 16));
                }
            }
            if (chunk == 0) total[0] = total[1] = total[2] = total[3] = 0.0f;
            multiply_chunk<HOLDS_LOW>(high, low, from + room::query_halves, b_at,
                                      job.query_scales + chunk * ROWS + row0 + lane / 4,
                                      job.key_scales + column0 + lane % 4 * 2, total);
        }
        put_scores(job, total, row0 + lane / 4, tile * room::keys + column0 + lane % 4 * 2, dim, scale);
    }
}

/* A warp a row, from scores to bits. Lists take the room of the keys. */
template <int ROWS, int STEPS>
static __device__ __forceinline__ void select_strip(const nabla_cuda_build &b, const strip_job<ROWS, STEPS> &job) {
    typedef score_room<ROWS, STEPS> room;
    const int32_t warp = threadIdx.x / NABLA_WARP, words = b.plan.k.words;
    float *const list = (float *)job.keys + warp * room::list_room;
    for (int32_t r = warp; r < job.rows; r += WARPS) {
        float *const row = job.scores + r * job.score_pitch;
        const selection s = select_row(row, room::padded(b.plan.k.blocks), 1.0 - (double)b.thr, list, room::list_room);
        const int64_t q = job.bh * b.plan.q.blocks + job.q0 + r;
        write_row(row, s, job.firsts[r], job.lasts[r], words, b.has_sta, b.plan.rows + q * words, b.row_mass + q);
    }
}

template <int ROWS, int STEPS, bool IN_WORKSPACE>
static __global__ void __launch_bounds__(THREADS, 1) score_strips(nabla_cuda_build b, int64_t strips) {
    extern __shared__ __align__(16) unsigned char shared[];
    const score_room<ROWS, STEPS> at(b.head_dim);
    const int32_t nq = b.plan.q.blocks, nk = b.plan.k.blocks, head_strips = (nq - 1) / ROWS + 1;
    strip_job<ROWS, STEPS> job;
    job.keys = (__half *)(shared + at.key_parts);
    job.queries = (__half *)(shared + at.query_parts);
    job.key_scales = (float *)(shared + at.key_scales);
    job.query_scales = (float *)(shared + at.query_scales);
    job.firsts = (int32_t *)(shared + at.first);
    job.lasts = (int32_t *)(shared + at.last);
    job.score_pitch = at.strip_pitch(nk);
    job.scores =
        IN_WORKSPACE ? (float *)b.workspace + blockIdx.x * (ROWS * job.score_pitch) : (float *)(shared + at.strip);
    job.chunks = at.chunks;
    for (int64_t n = blockIdx.x; n < strips; n += gridDim.x) {
        job.bh = n / head_strips;
        job.q0 = (int32_t)(n % head_strips) * ROWS;
        job.rows = min(nq - job.q0, ROWS);
        job.q_mean = b.q_mean + (job.bh * nq + job.q0) * b.head_dim;
        job.k_mean = b.k_mean + job.bh * nk * b.head_dim;
        take_queries(b, job);
        score_strip<ROWS == 32 && !IN_WORKSPACE>(b, job);
        __syncthreads(); /* the strip is whole, and the keys' room is free for lists */
        select_strip(b, job);
        if (!IN_WORKSPACE) return; /* there are as many thread blocks as strips */
        __syncthreads();           /* strip, lists and spans are free for the next strip */
    }
}

/* Which kernel a build gets. */
typedef struct score_choice {
    int32_t rows, steps;
    bool in_workspace;
    size_t shared_bytes;
    int64_t strips, groups; /* of query blocks; of threads */
    size_t workspace;
} score_choice;

/* True where a thread block holds its strip in shared memory. */
template <int ROWS, int STEPS> static bool choose(const nabla_cuda_build *b, bool in_workspace, score_choice *c) {
    const score_room<ROWS, STEPS> room(b->head_dim);
    const size_t strip = (size_t)ROWS * score_room<ROWS, STEPS>::strip_pitch(b->plan.k.blocks) * sizeof(float);
    int device = 0, limit = 0;
    if (cudaGetDevice(&device) || cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device))
        return false;
    *c = {};
    c->rows = ROWS;
    c->steps = STEPS;
    c->in_workspace = in_workspace;
    c->strips = c->groups = (int64_t)b->plan.batch * b->plan.heads * nabla_groups(b->plan.q.blocks, ROWS);
    c->shared_bytes = room.strip + (in_workspace ? 0 : strip);
    if (in_workspace) {
        const int64_t most = STRIP_BYTES / strip > 1 ? STRIP_BYTES / strip : 1;
        c->groups = b->processors < most ? b->processors : most;
        c->groups = c->groups < c->strips ? c->groups : c->strips;
        c->workspace = (size_t)c->groups * strip;
    }
    return c->shared_bytes <= (size_t)limit;
}

/* Long strips load the keys less often: shared memory for 32 rows, else for 16, else the workspace. */
template <int STEPS> static bool choose_rows(const nabla_cuda_build *b, score_choice *c) {
    return choose<32, STEPS>(b, false, c) || choose<16, STEPS>(b, false, c) || choose<32, STEPS>(b, true, c);
}

static bool choose_kernel(const nabla_cuda_build *b, score_choice *c) {
    return b->head_dim <= 64 ? choose_rows<4>(b, c) : choose_rows<8>(b, c);
}

template <int ROWS, int STEPS, bool IN_WORKSPACE> static int launch(const nabla_cuda_build *b, const score_choice &c) {
    const cudaError_t error = cudaFuncSetAttribute(score_strips<ROWS, STEPS, IN_WORKSPACE>,
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize, (int)c.shared_bytes);
    if (error) return (int)error;
    score_strips<ROWS, STEPS, IN_WORKSPACE><<<(unsigned)c.groups, THREADS, c.shared_bytes, b->stream>>>(*b, c.strips);
    return nabla_launched();
}

template <int STEPS> static int launch_rows(const nabla_cuda_build *b, const score_choice &c) {
    if (c.in_workspace) return launch<32, STEPS, true>(b, c);
    return c.rows == 32 ? launch<32, STEPS, false>(b, c) : launch<16, STEPS, false>(b, c);
}

size_t nabla_cuda_score_workspace(const nabla_cuda_build *b) {
    score_choice c;
    return choose_kernel(b, &c) ? c.workspace : 0;
}

int nabla_cuda_score(const nabla_cuda_build *b) {
    score_choice c;
    if (!choose_kernel(b, &c) || c.groups > INT32_MAX) return cudaErrorInvalidConfiguration;
    if (!nabla_aligned(b->q_mean, 16) || !nabla_aligned(b->k_mean, 16)) return cudaErrorMisalignedAddress;
    return c.steps == 4 ? launch_rows<4>(b, c) : launch_rows<8>(b, c);
}

// SPDX-License-Identifier: Apache-2.0
#include "instructions.h"

namespace {
struct copy {
    uint32_t to, bytes, size;
    const void *from;
};
std::vector<copy> pending[1024]; // a thread

int thread() {
    return emulator_warp() * 32 + emulator_lane();
}

// Pointers to what each thread of a warp or warpgroup brings: they are all alive, waiting, while the last one works.
struct brought {
    float *c;
    uint32_t *out;
    const uint32_t *a, *b;
    uint32_t address;
};
brought room[1024];

float number(uint32_t pair, int which, bool half) {
    const uint16_t bits = (uint16_t)(pair >> 16 * which);
    return half ? emulator_half(bits) : __uint_as_float((uint32_t)bits << 16);
}

float number_at(uint32_t address, bool half) {
    uint16_t bits;
    memcpy(&bits, emulator_shared() + address, sizeof bits);
    return number(bits, 0, half);
}

template <int ROWS, int COLUMNS>
void multiply(const float (&left)[ROWS][16], const float (&right)[16][COLUMNS], double (&sums)[ROWS][COLUMNS]) {
    for (int row = 0; row < ROWS; row++)
        for (int column = 0; column < COLUMNS; column++)
            sums[row][column] = 0;
    for (int row = 0; row < ROWS; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < COLUMNS; column++)
                sums[row][column] += (double)left[row][k] * right[k][column];
}

// Bits 4 to 6 of an address are mixed with bits 7 to 9.
uint32_t swizzled(uint32_t address) {
    return address ^ (address >> 7 & 7) << 4;
}

// An operand's place of (row across the sum, term k).
uint32_t element(uint64_t operand, int across, int k, bool transposed) {
    const uint32_t base = (uint32_t)(operand & 0x3fff) << 4, leading = (uint32_t)(operand >> 16 & 0x3fff) << 4,
                   stride = (uint32_t)(operand >> 32 & 0x3fff) << 4;
    if (operand >> 62 != 1) emulator_fail("an operand that is not in the 128-byte swizzle");
    const int at = transposed ? across / 64 * (int)leading + k / 8 * (int)stride + k % 8 * 128 + across % 64 * 2
                              : across / 8 * (int)stride + across % 8 * 128 + k * 2;
    return swizzled(base + (uint32_t)at);
}
} // namespace

void copy_async(uint32_t to, const void *from, uint32_t bytes, uint32_t size) {
    if (to % size || (bytes && (uintptr_t)from % size)) emulator_fail("a copy that is not aligned");
    memset(emulator_shared() + to, 0xff, size); // nobody may look before the wait
    pending[thread()].push_back({to, bytes, size, from});
}

void copies_wait() {
    for (const copy &c : pending[thread()]) {
        memset(emulator_shared() + c.to, 0, c.size);
        if (c.bytes) memcpy(emulator_shared() + c.to, c.from, c.bytes);
    }
    pending[thread()].clear();
}

void emulator_load_matrices(uint32_t *out, uint32_t address, bool transposed) {
    const int warp = emulator_warp();
    brought *all = room + warp * 32;
    if (address % 16) emulator_fail("a matrix row that is not on 16 bytes");
    all[emulator_lane()].out = out;
    all[emulator_lane()].address = address;
    emulator_meet(EMULATOR_WARP_PLACE + warp, 32, [=] {
        for (int lane = 0; lane < 32; lane++)
            for (int m = 0; m < 4; m++) {
                uint16_t pair[2];
                for (int k = 0; k < 2; k++) {
                    const int row = transposed ? lane % 4 * 2 + k : lane / 4;
                    const int column = transposed ? lane / 4 : lane % 4 * 2 + k;
                    memcpy(&pair[k], emulator_shared() + all[8 * m + row].address + 2 * column, 2);
                }
                all[lane].out[m] = pair[0] | (uint32_t)pair[1] << 16;
            }
    });
}

void emulator_multiply_add(float *c, const uint32_t *a, const uint32_t *b, bool half) {
    const int warp = emulator_warp();
    brought *all = room + warp * 32;
    brought &mine = all[emulator_lane()];
    mine.c = c;
    mine.a = a;
    mine.b = b;
    emulator_meet(EMULATOR_WARP_PLACE + warp, 32, [=] {
        float left[16][16], right[16][8];
        for (int lane = 0; lane < 32; lane++)
            for (int k = 0; k < 2; k++) {
                for (int r = 0; r < 4; r++)
                    left[lane / 4 + 8 * (r & 1)][lane % 4 * 2 + 8 * (r >> 1) + k] = number(all[lane].a[r], k, half);
                for (int r = 0; r < 2; r++)
                    right[lane % 4 * 2 + 8 * r + k][lane / 4] = number(all[lane].b[r], k, half);
            }
        double sums[16][8];
        multiply<16, 8>(left, right, sums);
        for (int lane = 0; lane < 32; lane++)
            for (int r = 0; r < 4; r++) {
                float &c = all[lane].c[r];
                c = (float)(c + sums[lane / 4 + 8 * (r >> 1)][lane % 4 * 2 + (r & 1)]);
            }
    });
}

// ---- barriers in shared memory: bits 0 to 15 arrivals of a phase, 16 to 31 those still missing, 32 to 55 bytes still
// missing, 63 the phase's parity

namespace {
enum { MISSING = 16, BYTES = 32, PHASE = 63 };

void turn_over(uint64_t *b) {
    if (*b << 8 >> (MISSING + 8)) return; // arrivals or bytes are missing
    *b = (*b ^ UINT64_C(1) << PHASE) | (*b & 0xffff) << MISSING;
}

void arrive(uint64_t *b, uint32_t bytes) {
    if (!(*b >> MISSING & 0xffff)) emulator_fail("more arrivals than a barrier expects");
    *b += (uint64_t)bytes << BYTES;
    *b -= UINT64_C(1) << MISSING;
    turn_over(b);
}

void land(uint64_t *b, uint32_t bytes) {
    *b -= (uint64_t)bytes << BYTES;
    turn_over(b);
}
} // namespace

void barrier_init(uint64_t *b, int arrivals) {
    *b = (uint64_t)arrivals | (uint64_t)arrivals << MISSING;
}

void barrier_arrive(uint64_t *b) {
    arrive(b, 0);
}

void barrier_expect(uint64_t *b, uint32_t bytes) {
    arrive(b, bytes);
}

void barrier_wait(uint64_t *b, uint32_t parity) {
    emulator_wait([=] { return *b >> PHASE != parity; });
}

void copy_bytes(void *to, const void *from, uint32_t bytes, uint64_t *b) {
    if (((uintptr_t)to | (uintptr_t)from | bytes) % 16) emulator_fail("a bulk copy that is not on 16 bytes");
    memcpy(to, from, bytes);
    land(b, bytes);
}

void copy_panel(void *to, const CUtensorMap *map, uint64_t *b, int column, int row, int head, int batch, cache_hint) {
    const uint32_t base = emulator_shared_offset(to);
    if (base % 1024) emulator_fail("a panel that is not on 1024 bytes");
    for (int64_t r = 0; r < map->box[1]; r++)
        for (int64_t c = 0; c < map->box[0]; c++) {
            const int64_t at[4] = {column + c, row + r, head, batch};
            uint16_t bits = 0; // outside the tensor
            bool inside = true;
            for (int i = 0; i < 4; i++)
                inside = inside && at[i] >= 0 && at[i] < map->size[i];
            if (inside)
                memcpy(&bits,
                       map->data + at[0] * 2 + at[1] * map->stride[1] + at[2] * map->stride[2] + at[3] * map->stride[3],
                       sizeof bits);
            memcpy(emulator_shared() + swizzled(base + (uint32_t)(r * 128 + c * 2)), &bits, sizeof bits);
        }
    land(b, (uint32_t)(map->box[0] * map->box[1] * 2));
}

CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType, cuuint32_t rank, void *data,
                                const cuuint64_t *size, const cuuint64_t *stride, const cuuint32_t *box,
                                const cuuint32_t *step, CUtensorMapInterleave, CUtensorMapSwizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
    if (rank != 4 || (uintptr_t)data % 16 || box[0] * 2 != 128) return CUDA_ERROR_INVALID_VALUE;
    map->data = (const char *)data;
    map->box[0] = box[0];
    map->box[1] = box[1];
    for (int i = 0; i < 4; i++) {
        map->size[i] = (int64_t)size[i];
        map->stride[i] = i ? (int64_t)stride[i - 1] : 2;
        if (!size[i] || step[i] != 1 || (i && (stride[i - 1] % 16 || !stride[i - 1]))) return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **out, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *result) {
    if (strcmp(name, "cuTensorMapEncodeTiled")) return cudaErrorInvalidValue;
    *out = (void *)cuTensorMapEncodeTiled;
    *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

// ---- products of a warpgroup

void emulator_product(float *acc, int columns, const uint32_t *a, uint64_t a_at, uint64_t b, bool transposed_b,
                      bool add, bool half) {
    const int group = thread() / WARPGROUP;
    brought *all = room + group * WARPGROUP;
    all[thread() % WARPGROUP].c = acc;
    all[thread() % WARPGROUP].a = a;
    emulator_meet(EMULATOR_GROUP_PLACE + group, WARPGROUP, [=] {
        static float left[64][16], right[16][128];
        for (int t = 0; t < WARPGROUP; t++) {
            const int row = t / 32 * 16 + t % 32 / 4;
            for (int r = 0; r < 4 && all[t].a; r++)
                for (int k = 0; k < 2; k++)
                    left[row + 8 * (r & 1)][t % 4 * 2 + 8 * (r >> 1) + k] = number(all[t].a[r], k, half);
        }
        for (int row = 0; row < 64 && !a; row++)
            for (int k = 0; k < 16; k++)
                left[row][k] = number_at(element(a_at, row, k, false), half);
        for (int n = 0; n < columns; n++)
            for (int k = 0; k < 16; k++)
                right[k][n] = number_at(element(b, n, k, transposed_b), half);
        static double sums[64][128];
        multiply<64, 128>(left, right, sums);
        for (int t = 0; t < WARPGROUP; t++)
            for (int i = 0; i < columns / 2; i++) {
                const int row = t / 32 * 16 + t % 32 / 4 + 8 * (i / 2 % 2), column = i / 4 * 8 + t % 4 * 2 + i % 2;
                float &c = all[t].c[i];
                c = (float)((add ? c : 0) + sums[row][column]);
            }
    });
}

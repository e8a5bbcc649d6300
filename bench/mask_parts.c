/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mask_parts [LEVEL]: where the time of choosing a head's blocks goes, at the paper's timing shape: 1260 blocks of 64
 * tokens, D = 128, bf16, nabla-0.7. One core, the level's own kernels, CSV on stdout:
 *
 *     part,ms,floor_ms,floor
 *
 * ms is the least of many rounds in which all parts take turns as they do in a build; floor_ms is what the part takes
 * at least by the rates measured in the same run, `floor` says by which. Parts without a floor read and write what lies
 * in the first two levels of cache. On rows of made-up noise, whose probabilities differ by a hundredth: for the
 * selection the hardest case.
 */
#include "context.h"
#include "device/cpu/peak.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BLOCKS = 1260,
    BLOCK = 64,
    DIM = 128,
    KEYS = (BLOCKS + NABLA_SCORE_KEYS - 1) / NABLA_SCORE_KEYS * NABLA_SCORE_KEYS
};
enum { MEANS, KEYS_PUT, PRODUCTS, SOFTMAX, SELECTION, PARTS };
static const char *const names[PARTS] = {"block means of q and k", "keys in order", "products", "softmax", "selection"};

typedef struct head {
    nabla_kernels kernels;
    uint16_t *q, *k; /* [BLOCKS * BLOCK][DIM] */
    float *q_means, *k_means;
    void *keys;
    float *probs;
    uint64_t bits[BLOCKS][(BLOCKS + 63) / 64];
    double ms[PARTS];
} head;

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static void *take(size_t bytes) {
    void *at = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!at) {
        fprintf(stderr, "mask_parts: no memory for %zu bytes\n", bytes);
        exit(2);
    }
    return memset(at, 0, bytes);
}

static uint16_t *noise(void) {
    const size_t n = (size_t)BLOCKS * BLOCK * DIM;
    uint16_t *x = take(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        const float value = (float)rand() / (float)RAND_MAX - 0.5f;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        x[i] = (uint16_t)(bits >> 16);
    }
    return x;
}

static void make_means(const head *h, const uint16_t *x, float *means) {
    for (int32_t i = 0; i < BLOCKS; i++)
        h->kernels.of[NABLA_BF16].block_mean((nabla_rows){x, DIM}, i * BLOCK, (i + 1) * BLOCK, DIM, means + i * DIM);
}

/* One mask, as cpu/build.c makes it. Adds each part's time; returns the kept mass, summed over the rows. */
static double build(head *h, double ms[PARTS]) {
    const nabla_score_kernels *score = &h->kernels.score;
    static const float zeros[DIM] = {0};
    double kept = 0.0, at[PARTS + 1];
    at[MEANS] = now_ms();
    make_means(h, h->q, h->q_means);
    make_means(h, h->k, h->k_means);
    at[KEYS_PUT] = now_ms();
    for (int32_t i = 0; i < KEYS; i++)
        score->put_key(i < BLOCKS ? h->k_means + i * DIM : zeros, i, DIM, h->keys);
    at[PRODUCTS] = now_ms();
    ms[MEANS] = at[KEYS_PUT] - at[MEANS];
    ms[KEYS_PUT] = at[PRODUCTS] - at[KEYS_PUT];
    ms[PRODUCTS] = ms[SOFTMAX] = ms[SELECTION] = 0.0;
    for (int32_t first = 0; first < BLOCKS; first += score->rows) {
        const int32_t count = BLOCKS - first < score->rows ? BLOCKS - first : score->rows;
        at[PRODUCTS] = now_ms();
        score->products(h->q_means + first * DIM, count, h->keys, BLOCKS, DIM, 1.0f / sqrtf(DIM), h->probs, KEYS);
        at[SOFTMAX] = now_ms();
        for (int32_t i = 0; i < count; i++)
            score->softmax(h->probs + i * KEYS, BLOCKS, NULL);
        at[SELECTION] = now_ms();
        for (int32_t i = 0; i < count; i++)
            kept += h->kernels.select_row(h->probs + i * KEYS, BLOCKS, 0.7f, h->bits[first + i]);
        at[PARTS] = now_ms();
        for (int part = PRODUCTS; part < PARTS; part++)
            ms[part] += at[part + 1] - at[part];
    }
    return kept;
}

static double rate_of(const nv_peak *peaks, int32_t count, const char *name) {
    for (int32_t i = 0; i < count; i++)
        if (!strcmp(peaks[i].name, name)) return peaks[i].rate;
    return 0.0;
}

static void report(const head *h) {
    nv_peak peaks[NV_PEAKS];
    const int32_t count = nv_cpu_peaks(1, peaks);
    const char *fastest = "fma_ymm";
    double products = 2.0 * BLOCKS * BLOCKS * DIM, sum = 0.0;
    if (!strncmp(h->kernels.level, "avx512", 6)) fastest = "fma_zmm";
    if (!strcmp(h->kernels.level, "amx")) {
        fastest = "tdpbf16ps";
        products *= 6; /* of means in three parts, see amx_score.c */
    }
    const double bytes = 2.0 * BLOCKS * BLOCK * DIM * sizeof(uint16_t);
    const double read = rate_of(peaks, count, "read"), dots = rate_of(peaks, count, fastest);
    printf("part,ms,floor_ms,floor\n");
    for (int part = 0; part < PARTS; part++) {
        sum += h->ms[part];
        printf("%s,%.3f,", names[part], h->ms[part]);
        if (part == MEANS && read > 0) printf("%.3f,\"41 MB at %.0f GB/s from memory\"\n", 1e-6 * bytes / read, read);
        if (part == PRODUCTS && dots > 0)
            printf("%.3f,\"%.0f MFLOP at %.0f GFLOP/s, %s\"\n", 1e-6 * products / dots, 1e-6 * products, dots, fastest);
        if ((part != MEANS || read <= 0) && (part != PRODUCTS || dots <= 0)) printf(",\n");
    }
    printf("sum,%.3f,,\"level %s\"\n", sum, h->kernels.level);
}

int main(int argc, char **argv) {
    enum { ROUNDS = 60 };
    static head h;
    char message[200];
    if (nabla_kernels_select(argc > 1 ? argv[1] : NULL, &h.kernels, message, sizeof message)) {
        fprintf(stderr, "mask_parts: %s\n", message);
        return 2;
    }
    h.q = noise();
    h.k = noise();
    h.q_means = take((size_t)BLOCKS * DIM * sizeof *h.q_means);
    h.k_means = take((size_t)BLOCKS * DIM * sizeof *h.k_means);
    h.keys = take(h.kernels.score.keys_size(KEYS, DIM));
    h.probs = take((size_t)h.kernels.score.rows * KEYS * sizeof *h.probs);
    double kept = 0.0;
    for (int part = 0; part < PARTS; part++)
        h.ms[part] = INFINITY;
    for (int round = 0; round < ROUNDS; round++) {
        double ms[PARTS];
        kept = build(&h, ms) / BLOCKS;
        for (int part = 0; part < PARTS; part++)
            h.ms[part] = fmin(h.ms[part], ms[part]);
    }
    report(&h);
    if (fabs(kept - 0.7005) > 5e-4) { /* 0.7, and on average half a block more */
        fprintf(stderr, "mask_parts: rows keep %.4f of their mass, not 0.7005\n", kept);
        return 1;
    }
    return 0;
}

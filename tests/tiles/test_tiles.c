/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated tile instructions: products that are known exactly, shapes, denormals; and, where the machine has AMX,
   the same bits as its own instructions on random tiles. */
#include "attention/cpu/amx_tiles.h"
#include "nabla/nabla.h"
#include "real_dot.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void expect(bool holds, const char *what) {
    if (holds) return;
    printf("FAILED: %s\n", what);
    failures++;
}

static uint16_t bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

/* C of 3 x 5, A of 3 x 4, B of 2 x 5 pairs, with strides wider than the rows. */
static void check_shape(void) {
    const tile_config config = {.palette = 1, .row_bytes = {5 * 4, 4 * 2, 5 * 4}, .rows = {3, 3, 2}};
    uint16_t a[3][8], b[2][16];
    float c[16][7];
    for (int i = 0; i < 3 * 8; i++)
        a[i / 8][i % 8] = bf16((float)(i % 8 < 4 ? i - 7 : 1000));
    for (int i = 0; i < 2 * 16; i++)
        b[i / 16][i % 16] = bf16((float)(i % 16 < 10 ? i % 11 - 4 : 1000));
    for (int i = 0; i < 16 * 7; i++)
        c[i / 7][i % 7] = 1.0f;
    emulated_configure(&config);
    emulated_load(0, c, sizeof c[0]);
    emulated_load(1, a, sizeof a[0]);
    emulated_load(2, b, sizeof b[0]);
    emulated_dot(0, 1, 2);
    emulated_store(0, c, sizeof c[0]);
    emulated_release();
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 7; j++) {
            float sum = 1.0f;
            for (int k = 0; k < 4 && i < 3 && j < 5; k++)
                sum += (float)(i * 8 + k - 7) * (float)((k / 2 * 16 + 2 * j + k % 2) % 11 - 4);
            expect(c[i][j] == sum, "a product of small whole numbers, and nothing beside it");
        }
}

static void check_denormals(void) {
    const tile_config config = {.palette = 1, .row_bytes = {4, 4, 4}, .rows = {1, 1, 1}};
    const float pairs[][4] = {
        /* a b, and c before and after: */
        {0x1p-100f, 0x1p-30f, 0.0f, 0.0f},      /* the product is one */
        {0x1p-130f, 0x1p100f, 1.0f, 1.0f},      /* a factor is one */
        {0x1p-100f, 0x1p-26f, 0.0f, 0x1p-126f}, /* none is */
        {0.0f, 0.0f, 0x1p-130f, 0.0f},          /* C is one */
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const uint16_t a[2] = {bf16(pairs[i][0]), 0}, b[2] = {bf16(pairs[i][1]), 0};
        float c = pairs[i][2];
        emulated_configure(&config);
        emulated_load(0, &c, 4);
        emulated_load(1, a, 4);
        emulated_load(2, b, 4);
        emulated_dot(0, 1, 2);
        emulated_store(0, &c, 4);
        emulated_release();
        expect(c == pairs[i][3], "denormals count as zero, in and out");
    }
}

static bool has_amx(void) {
    for (int32_t i = 0; nabla_level_name(i); i++)
        if (!strcmp(nabla_level_name(i), "amx")) return true;
    return false;
}

static uint32_t draw(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* kind 0: ordinary numbers; 1: any bits, NaN, infinities and denormals among them; 2: about the least normal number. */
static uint16_t element(int kind, uint32_t *state) {
    if (kind == 1) return (uint16_t)draw(state);
    const float x = ((float)draw(state) * 0x1p-23f - 1.0f) * (kind == 2 ? 0x1p-62f : 1.0f);
    return bf16(x);
}

static void check_against_machine(void) {
    static const tile_config config = FULL_TILES;
    uint32_t state = 1;
    for (int round = 0; round < 3000; round++) {
        uint16_t a[16][32], b[16][32];
        float c[16][16], emulated[16][16], real[16][16];
        for (int i = 0; i < 16 * 32; i++) {
            a[i / 32][i % 32] = element(round % 3, &state);
            b[i / 32][i % 32] = element(round % 3, &state);
        }
        for (int i = 0; i < 16 * 16; i++)
            c[i / 16][i % 16] = (float)draw(&state) * (round % 3 == 2 ? 0x1p-148f : 0x1p-20f);
        emulated_configure(&config);
        emulated_load(0, c, 64);
        emulated_load(1, a, 64);
        emulated_load(2, b, 64);
        emulated_dot(0, 1, 2);
        emulated_store(0, emulated, 64);
        emulated_release();
        real_dot(c, a, b, real);
        for (int i = 0; i < 16 * 16; i++) {
            const float x = emulated[i / 16][i % 16], y = real[i / 16][i % 16];
            if (isnan(x) ? isnan(y) : !memcmp(&x, &y, sizeof x)) continue;
            printf("round %d, element %d: emulated %a, the machine's %a\n", round, i, (double)x, (double)y);
            failures++;
            return;
        }
    }
}

int main(void) {
    check_shape();
    check_denormals();
    if (has_amx())
        check_against_machine();
    else
        printf("this machine has no AMX to compare the emulation with\n");
    printf("%d failures\n", failures);
    return failures ? 1 : 0;
}

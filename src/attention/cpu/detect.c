/* SPDX-License-Identifier: Apache-2.0 */
/* Which levels this machine can run, and the kernel table of one. NABLA_X86: the build holds the x86 levels. */
#include "context.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef NABLA_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Registers of one CPUID leaf. */
typedef struct leaf {
    unsigned eax, ebx, ecx, edx;
} leaf;

static leaf cpuid(unsigned number, unsigned sub) {
    leaf l = {0};
    if (!__get_cpuid_count(number, sub, &l.eax, &l.ebx, &l.ecx, &l.edx)) return (leaf){0};
    return l;
}

static bool has(unsigned reg, unsigned bits) {
    return (reg & bits) == bits;
}

/* The register state that the operating system saves: without it, wide registers fault or lose their upper parts. */
static bool saves(unsigned state) {
    if (!has(cpuid(1, 0).ecx, bit_OSXSAVE)) return false;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return has(low, state);
}

static bool runs_avx2(void) {
    const unsigned xmm_ymm = 0x6;
    return has(cpuid(1, 0).ecx, bit_AVX | bit_FMA | bit_F16C) && saves(xmm_ymm) &&
           has(cpuid(7, 0).ebx, bit_AVX2 | bit_BMI | bit_BMI2);
}

static bool runs_avx512(void) {
    const unsigned xmm_ymm_opmask_zmm = 0xe6;
    return runs_avx2() && saves(xmm_ymm_opmask_zmm) &&
           has(cpuid(7, 0).ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL);
}

static bool runs_avx512bf16(void) {
    const unsigned avx512_bf16 = 1u << 5;
    return runs_avx512() && has(cpuid(7, 1).eax, avx512_bf16);
}

#ifdef NABLA_TILES_EMULATED /* by the tests */
static bool has_tiles(void) {
    return true;
}
#else
/* Tiles are 8 KB of state that Linux keeps only for a process that has asked for it; the answer holds from then on. */
static bool has_tiles(void) {
    const unsigned tiles_bf16 = 1u << 22, tiles = 1u << 24, config_and_data = 3u << 17;
    const long request_permission = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return has(cpuid(7, 0).edx, tiles_bf16 | tiles) && saves(config_and_data) &&
           !syscall(SYS_arch_prctl, request_permission, tile_data);
}
#endif

static bool runs_amx(void) {
    return runs_avx512bf16() && has_tiles();
}

/* Whether its dot of pairs is faster than fp32 FMA: on AMD's cores; not on Intel's, see avx512bf16.c. */
static bool pays_avx512bf16(void) {
    const leaf vendor = cpuid(0, 0);
    return vendor.ebx == signature_AMD_ebx && vendor.ecx == signature_AMD_ecx && vendor.edx == signature_AMD_edx;
}
#endif

static bool always(void) {
    return true;
}

typedef struct level {
    const char *name;
    bool (*runs)(void);
    bool (*pays)(void); /* else only where asked for */
    void (*fill)(nabla_kernels *table);
} level;

/* Rising: each builds on those before it. */
static const level levels[] = {
    {"generic", always, always, nabla_kernels_generic},
#ifdef NABLA_X86
    {"avx2", runs_avx2, always, nabla_kernels_avx2},
    {"avx512", runs_avx512, always, nabla_kernels_avx512},
    {"avx512bf16", runs_avx512bf16, pays_avx512bf16, nabla_kernels_avx512bf16},
    {"amx", runs_amx, always, nabla_kernels_amx},
#endif
};
enum { LEVELS = sizeof levels / sizeof levels[0] };

const char *nabla_level_name(int32_t i) {
    if (i < 0 || i >= LEVELS) return NULL;
    for (int32_t n = 0; n <= i; n++)
        if (!levels[n].runs()) return NULL;
    return levels[i].name;
}

/* Fills rising levels up to `wanted` (NULL: as far as the machine goes); false where it was not reached. */
static bool fill_up_to(const char *wanted, nabla_kernels *table) {
    memset(table, 0, sizeof *table);
    for (int32_t i = 0; i < LEVELS; i++) {
        if (!levels[i].runs()) return !wanted;
        if (!wanted && !levels[i].pays()) continue;
        levels[i].fill(table);
        table->level = levels[i].name;
        if (wanted && !strcmp(wanted, levels[i].name)) return true;
    }
    return !wanted;
}

nabla_status nabla_kernels_select(const char *name, nabla_kernels *table, char *message, size_t message_size) {
    const char *forced = name ? NULL : getenv("NABLA_CPU");
    const char *wanted = name ? name : forced && *forced ? forced : NULL;
    if (fill_up_to(wanted, table)) return NABLA_OK;
    int n = snprintf(message, message_size, "%s '%.40s' is not a level of this machine and build; it has",
                     name ? "level" : "NABLA_CPU's", wanted);
    for (int32_t i = 0; nabla_level_name(i) && n > 0 && (size_t)n < message_size; i++)
        n += snprintf(message + n, message_size - (size_t)n, "%s%s", i ? ", " : " ", nabla_level_name(i));
    return NABLA_UNSUPPORTED;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "media/deflate.h"

#include <string.h>

enum {
    WINDOW = 32768,
    SHORTEST = 3,
    LONGEST = 258,
    HASH_BITS = 15,
    LENGTH_CODES = 29,
    DISTANCE_CODES = 30,
    END_OF_BLOCK = 256,
    FIRST_LENGTH = 257
};

/* Smallest length or distance of each code, and how many bits choose within it (RFC 1951, 3.2.5). */
static const uint16_t length_base[LENGTH_CODES] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                                   31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
static const uint8_t length_bits[LENGTH_CODES] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                                  2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
static const uint16_t distance_base[DISTANCE_CODES] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                                       33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                                       1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
static const uint8_t distance_bits[DISTANCE_CODES] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                                      6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};

/* Bits go out lowest first. */
typedef struct bit_writer {
    uint8_t *out;
    size_t size;
    uint64_t bits;
    int count;
} bit_writer;

static void put_bits(bit_writer *w, uint32_t value, int count) {
    w->bits |= (uint64_t)value << w->count;
    for (w->count += count; w->count >= 8; w->count -= 8) {
        w->out[w->size++] = (uint8_t)w->bits;
        w->bits >>= 8;
    }
}

/* Codes go out highest bit first. */
static void put_code(bit_writer *w, uint32_t code, int count) {
    uint32_t turned = 0;
    for (int i = 0; i < count; i++) {
        turned |= (code >> i & 1u) << (count - 1 - i);
    }
    put_bits(w, turned, count);
}

/* The fixed code of a literal byte, the end, or a length (RFC 1951, 3.2.6). */
static void put_symbol(bit_writer *w, uint32_t symbol) {
    if (symbol < 144)
        put_code(w, 0x30 + symbol, 8);
    else if (symbol < 256)
        put_code(w, 0x190 + symbol - 144, 9);
    else if (symbol < 280)
        put_code(w, symbol - 256, 7);
    else
        put_code(w, 0xC0 + symbol - 280, 8);
}

static void put_match(bit_writer *w, uint32_t length, uint32_t distance) {
    uint32_t l = LENGTH_CODES - 1, d = DISTANCE_CODES - 1;
    while (length_base[l] > length) {
        l--;
    }
    while (distance_base[d] > distance) {
        d--;
    }
    put_symbol(w, FIRST_LENGTH + l);
    put_bits(w, length - length_base[l], length_bits[l]);
    put_code(w, d, 5);
    put_bits(w, distance - distance_base[d], distance_bits[d]);
}

static uint32_t hash_of(const uint8_t *p) {
    uint32_t three = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
    return three * 2654435761u >> (32 - HASH_BITS); /* Knuth's multiplicative hash */
}

static size_t match_length(const uint8_t *a, const uint8_t *b, size_t most) {
    size_t n = 0;
    while (n < most && a[n] == b[n]) {
        n++;
    }
    return n;
}

static uint32_t adler32(const uint8_t *in, size_t n) {
    enum { BASE = 65521, RUN = 5552 }; /* sums of RUN bytes do not overflow 32 bits (RFC 1950) */
    uint32_t a = 1, b = 0;
    while (n > 0) {
        size_t run = n < RUN ? n : RUN;
        for (size_t i = 0; i < run; i++) {
            a += in[i];
            b += a;
        }
        a %= BASE;
        b %= BASE;
        in += run;
        n -= run;
    }
    return b << 16 | a;
}

size_t nv_zlib_bound(size_t n) {
    return n + n / 8 + 16; /* a literal has at most 9 bits, a match fewer than the literals that it stands for */
}

size_t nv_zlib_pack(const uint8_t *in, size_t n, uint8_t *out) {
    int32_t last[1 << HASH_BITS]; /* where three bytes of this hash were seen last */
    bit_writer w = {.out = out};
    memset(last, -1, sizeof last);
    put_bits(&w, 0x78, 8); /* deflate with a 32 KB window */
    put_bits(&w, 0x01, 8);
    put_bits(&w, 1, 1); /* the last block */
    put_bits(&w, 1, 2); /* of fixed codes */
    size_t i = 0;
    while (i < n) {
        size_t length = 0, from = 0;
        if (i + SHORTEST <= n) {
            int32_t *seen = &last[hash_of(in + i)];
            if (*seen >= 0 && i - (size_t)*seen <= WINDOW) {
                from = (size_t)*seen;
                length = match_length(in + from, in + i, n - i < LONGEST ? n - i : LONGEST);
            }
            *seen = (int32_t)i;
        }
        if (length < SHORTEST) {
            put_symbol(&w, in[i++]);
            continue;
        }
        put_match(&w, (uint32_t)length, (uint32_t)(i - from));
        for (size_t end = i + length; ++i < end;) {
            if (i + SHORTEST <= n) last[hash_of(in + i)] = (int32_t)i;
        }
    }
    put_symbol(&w, END_OF_BLOCK);
    put_bits(&w, 0, (8 - w.count) % 8);
    uint32_t sum = adler32(in, n);
    for (int shift = 24; shift >= 0; shift -= 8) {
        put_bits(&w, sum >> shift & 0xFF, 8);
    }
    return w.size;
}

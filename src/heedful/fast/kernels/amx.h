/* The product with bfloat16 weights on processors that multiply tiles of them (Intel's AMX): 16 rows of 32 numbers with
 * 32 of 16 columns at once. Rows are split into two bfloat16 numbers, x = high + low, so that 16 bits of each count. */

#pragma once

#include "vectors.h"

#define TILE 16  /* rows, and columns of sums */
#define DEPTH 32 /* numbers that a tile's row has of bfloat16 */

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__linux__)
#define AMX
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux lets a process use tiles if it asks for them. */
static int amx(void) {
    static int allowed = -1;
    if (allowed < 0) allowed = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XTILEDATA */) == 0;
    return allowed;
}

static void tiles_begin(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int t = 0; t < 8; t++) shape.bytes[t] = 2 * DEPTH, shape.rows[t] = TILE;
    _tile_loadconfig(&shape);
}

static void tiles_end(void) { _tile_release(); }

/* GCC is not told that tiles are read from memory: what is to be there is written before this. */
#define WRITTEN __asm__ volatile("" ::: "memory")

/* sums[2 TILE, PANEL] = x w: x [2][in / DEPTH][high, low][TILE][DEPTH], of which `both` tells whether the second TILE rows
 * are there, w [in / 2][PANEL][2]. */
static void tiles_block(const uint16_t *x, int both, int64_t in, const uint16_t *w, float *sums) {
    const int64_t size = TILE * DEPTH;
    const uint16_t *second = x + (both ? 2 * in * TILE : 0);
    WRITTEN;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < in; k += DEPTH, x += 2 * size, second += 2 * size, w += DEPTH * PANEL) {
        for (int l = 0; l < DEPTH / 2; l++) __builtin_prefetch((const char *)(w + in * PANEL) + l * 4 * PANEL);
        for (int l = 0; l < DEPTH / 2; l++) __builtin_prefetch((const char *)(w + in * PANEL) + l * 4 * PANEL + 64);
        _tile_loadd(4, w, 4 * PANEL);
        _tile_loadd(5, w + 2 * TILE, 4 * PANEL);
        for (int part = 0; part < 2; part++) {
            _tile_loadd(6, x + part * size, 2 * DEPTH);
            _tile_dpbf16ps(0, 6, 4);
            _tile_dpbf16ps(1, 6, 5);
            if (!both) continue;
            _tile_loadd(7, second + part * size, 2 * DEPTH);
            _tile_dpbf16ps(2, 7, 4);
            _tile_dpbf16ps(3, 7, 5);
        }
    }
    _tile_stored(0, sums, 4 * PANEL);
    _tile_stored(1, sums + TILE, 4 * PANEL);
    _tile_stored(2, sums + TILE * PANEL, 4 * PANEL);
    _tile_stored(3, sums + TILE * PANEL + TILE, 4 * PANEL);
}
#else
static int amx(void) { return 0; }
static void tiles_begin(void) {}
static void tiles_end(void) {}
static void tiles_block(const uint16_t *x, int both, int64_t in, const uint16_t *w, float *sums) {
    (void)x, (void)both, (void)in, (void)w, (void)sums;
}
#endif

INLINE uint16_t nearest(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

/* Row r of x [·][in / DEPTH][high, low][TILE][DEPTH] from y[size]; what the row does not fill is zero. */
static void split(const float *y, int64_t size, int64_t in, uint16_t *x, int64_t r) {
    for (int64_t k = 0; k < in; k += DEPTH) {
        uint16_t *high = x + (r / TILE * in + k) * 2 * TILE + r % TILE * DEPTH, *low = high + TILE * DEPTH;
        for (int64_t j = 0; j < DEPTH; j++) {
            float value = k + j < size ? y[k + j] : 0.0f;
            high[j] = nearest(value);
            low[j] = nearest(value - number(high, j, 1));
        }
    }
}

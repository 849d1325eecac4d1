/* Products of matrices, added up in float32, on processors that multiply tiles of bfloat16. Numbers of bfloat16 are one part
 * each. One of float32 is the sum of three of bfloat16, exactly, and of the nine products of such parts the six that
 * float32 would notice are added up (Henry, Tang & Heinecke 2019, "Leveraging the bfloat16 artificial intelligence
 * datatype for higher-precision computations"). What is above 3.39e38 becomes NaN. */

#include <omp.h>

#include "amx.h"

#define BLOCK (2 * TILE)          /* rows, or columns, of the sums that stay in tiles */
#define PACKED (BLOCK * DEPTH)    /* numbers of a part of a packed block of BLOCK by DEPTH: [part][2][TILE][DEPTH] */
#define DEEP 1536                 /* parts of the inner dimension at a time, */
#define HIGH 256                  /* rows: both together stay in a core's second cache, */
#define WIDE 4096                 /* columns */

/* A matrix as it lies in memory: of its two strides one is 1. `narrow`: its numbers are bfloat16. */
struct matrix {
    const void *at;
    int64_t down, right, narrow;
};

static struct matrix from(struct matrix x, int64_t row, int64_t column) {
    x.at = (const char *)x.at + (x.narrow ? 2 : 4) * (row * x.down + column * x.right);
    return x;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

int64_t tiles(void) { return amx(); }

#ifdef AMX
INLINE __m512 pairs(__m512 a, __m512 b, int high) {
    __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
    return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(x, y) : _mm512_unpacklo_pd(x, y));
}

INLINE void transpose(__m512 *x) {
    __m512 y[TILE];
    for (int i = 0; i < TILE; i += 2) {
        y[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    for (int i = 0; i < TILE; i += 4)
        for (int j = 0; j < 4; j++) x[i + j] = pairs(y[i + j / 2], y[i + 2 + j / 2], j % 2);
    for (int i = 0; i < TILE; i += 8)
        for (int j = 0; j < 4; j++) {
            y[i + j] = _mm512_shuffle_f32x4(x[i + j], x[i + j + 4], 0x88);
            y[i + j + 4] = _mm512_shuffle_f32x4(x[i + j], x[i + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        x[j] = _mm512_shuffle_f32x4(y[j], y[j + 8], 0x88);
        x[j + 8] = _mm512_shuffle_f32x4(y[j], y[j + 8], 0xdd);
    }
}

INLINE __mmask16 first(int64_t n) { return n >= TILE ? 0xffff : n <= 0 ? 0 : (1 << n) - 1; }

INLINE __m256i sixteen(struct matrix x, __mmask16 mask) {
    if (x.narrow) return _mm256_maskz_loadu_epi16(mask, x.at);
    return (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x.at));
}

/* Of x its first `rows` (columns, of the right operand) and `inner` numbers of the inner dimension in tiles, zeros behind.
 * A tile of the left operand is [row][pair], of the right [pair][column]. Here numbers of float32 in three parts; number i
 * and number i + 16 are a pair. */
INLINE void pack_three(struct matrix x, int left, int64_t rows, int64_t inner, uint16_t *to) {
    const int along = x.right == 1; /* vectors are of the inner dimension */
    const int64_t stride = along ? x.down : x.right;
    const __m512i half = _mm512_set1_epi32(0x8000), top = _mm512_set1_epi32(0xffff0000);
    __m512 v[2][TILE];
    for (int h = 0; h < 2; h++) {
        int64_t deep = inner - TILE * h, in = along ? deep : rows, out = along ? rows : deep;
        const float *at = (const float *)x.at + TILE * h * x.right;
        for (int i = 0; i < TILE; i++) v[h][i] = _mm512_maskz_loadu_ps(i < out ? first(in) : 0, at + i * stride);
        if (along != left) transpose(v[h]);
    }
    for (int i = 0; i < TILE; i++, to += DEPTH)
        for (int part = 0; part < 3; part++) {
            __m512i word[2];
            for (int h = 0; h < 2; h++) {
                __m512i near = _mm512_castps_si512(v[h][i]);
                if (part < 2) near = _mm512_add_epi32(near, half); /* what is left for the last part fits it */
                word[h] = _mm512_and_si512(near, top);
                v[h][i] = _mm512_sub_ps(v[h][i], _mm512_castsi512_ps(word[h]));
            }
            _mm512_storeu_si512(to + part * PACKED, _mm512_or_si512(_mm512_srli_epi32(word[0], 16), word[1]));
        }
}

/* The same in one part, the nearest of bfloat16 where x is float32; neighbours are a pair. */
INLINE void pack_one(struct matrix x, int left, int64_t rows, int64_t inner, uint16_t *to) {
    const int along = x.right == 1;
    __m512 v[TILE];
    for (int i = 0; i < TILE; i++) {
        __m256i word[2]; /* along: of one row two times 16 numbers of the inner dimension, else of two of it 16 rows each */
        for (int h = 0; h < 2; h++) {
            int64_t k = along ? TILE * h : 2 * i + h, row = along ? i : 0;
            __mmask16 mask = along ? i < rows ? first(inner - k) : 0 : k < inner ? first(rows) : 0;
            word[h] = sixteen(from(x, row, k), mask);
        }
        __m512i low = _mm512_castsi256_si512(word[0]);
        __m512i both = along ? _mm512_inserti64x4(low, word[1], 1)
                             : _mm512_or_si512(_mm512_cvtepu16_epi32(word[0]), _mm512_slli_epi32(_mm512_cvtepu16_epi32(word[1]), 16));
        v[i] = _mm512_castsi512_ps(both);
    }
    if (along != left) transpose(v);
    for (int i = 0; i < TILE; i++) _mm512_storeu_ps(to + i * DEPTH, v[i]);
}

/* Thread `me`'s share of all of x, rows (columns) by inner, in blocks [row / BLOCK][inner / DEPTH][parts][PACKED]: in the order in
 * which x lies in memory, a block's width at a stride of pages is slow to read. */
INLINE void pack(struct matrix x, int left, int parts, int64_t rows, int64_t inner, uint16_t *to, int64_t me, int64_t threads) {
    const int64_t high = blocks(rows, BLOCK), deep = blocks(inner, DEPTH), all = high * deep;
    for (int64_t i = all * me / threads; i < all * (me + 1) / threads; i++) {
        int64_t r = x.right == 1 ? i / deep : i % high, k = x.right == 1 ? i % deep : i / high;
        for (int t = 0; t < 2; t++) {
            int64_t row = BLOCK * r + TILE * t;
            struct matrix tile = from(x, row, DEPTH * k);
            uint16_t *at = to + (r * deep + k) * parts * PACKED + t * TILE * DEPTH;
            if (parts == 1) pack_one(tile, left, rows - row, inner - DEPTH * k, at);
            else pack_three(tile, left, rows - row, inner - DEPTH * k, at);
        }
    }
}

#define LOAD_LEFT(p) _tile_loadd(4, a + 2 * (p) * TILE * DEPTH, 2 * DEPTH); _tile_loadd(5, a + (2 * (p) + 1) * TILE * DEPTH, 2 * DEPTH)
#define LOAD_RIGHT(p) _tile_loadd(6, b + 2 * (p) * TILE * DEPTH, 2 * DEPTH); _tile_loadd(7, b + (2 * (p) + 1) * TILE * DEPTH, 2 * DEPTH)
#define ADD _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7)

/* to[BLOCK, BLOCK] = from + a b of packed blocks; from may be NULL, or have a stride of 0. */
INLINE void multiply_block(int parts, const uint16_t *a, const uint16_t *b, int64_t steps, const float *from, int64_t apart,
                           float *to, int64_t stride) {
    WRITTEN;
    if (from) {
        _tile_loadd(0, from, 4 * apart);
        _tile_loadd(1, from + TILE, 4 * apart);
        _tile_loadd(2, from + TILE * apart, 4 * apart);
        _tile_loadd(3, from + TILE * apart + TILE, 4 * apart);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t s = 0; s < steps; s++, a += parts * PACKED, b += parts * PACKED) {
        if (parts == 1) {
            LOAD_LEFT(0); LOAD_RIGHT(0); ADD;
            continue;
        }
        LOAD_LEFT(0); LOAD_RIGHT(2); ADD; /* the least first */
        LOAD_RIGHT(1); ADD;
        LOAD_LEFT(1); ADD;
        LOAD_RIGHT(0); ADD;
        LOAD_LEFT(2); ADD;
        LOAD_LEFT(0); ADD;
    }
    _tile_stored(0, to, 4 * stride);
    _tile_stored(1, to + TILE, 4 * stride);
    _tile_stored(2, to + TILE * stride, 4 * stride);
    _tile_stored(3, to + TILE * stride + TILE, 4 * stride);
}

/* The same for sums of which there are rows and columns. */
INLINE void multiply_edge(int parts, const uint16_t *a, const uint16_t *b, int64_t steps, const float *from, int64_t apart,
                          float *to, int64_t stride, int64_t rows, int64_t columns) {
    float sums[BLOCK * BLOCK];
    memset(sums, 0, sizeof sums);
    for (int64_t r = 0; from && r < rows; r++) memcpy(sums + r * BLOCK, from + r * apart, 4 * columns);
    multiply_block(parts, a, b, steps, sums, BLOCK, sums, BLOCK);
    for (int64_t r = 0; r < rows; r++) memcpy(to + r * stride, sums + r * BLOCK, 4 * columns);
}

/* Threads share rows and columns like a grid: how many of them share the rows, so that the largest share is least, and
 * of equal ways that in which the longer side is shared. */
static int64_t best_downs(int64_t threads, int64_t m, int64_t n) {
    int64_t found = 1, fewest = INT64_MAX;
    for (int64_t downs = 1; downs <= threads; downs++) {
        int64_t share = blocks(blocks(m, BLOCK), downs) * blocks(blocks(n, BLOCK), threads / downs);
        if (share < fewest || (share == fewest && m >= n)) fewest = share, found = downs;
    }
    return found;
}

/* A thread's share; `right` and `left` hold what is packed of b, for all threads, and of a, for this one. */
INLINE void multiply(int parts, struct matrix a, struct matrix b, const float *to, int64_t apart, float *out, int64_t stride,
                     int64_t m, int64_t n, int64_t k, uint16_t *right, uint16_t *left) {
    const int64_t deep = DEEP / parts, threads = omp_get_num_threads(), me = omp_get_thread_num(), high = blocks(m, BLOCK);
    const int64_t downs = best_downs(threads, m, n), across = threads / downs, x = me / downs, y = me % downs;
    const int64_t first = high * y / downs * BLOCK, last = x < across ? least(m, high * (y + 1) / downs * BLOCK) : first;
    tiles_begin();
    for (int64_t j0 = 0; j0 < n; j0 += WIDE)
        for (int64_t k0 = 0; k0 < k; k0 += deep) {
            int64_t columns = least(n - j0, WIDE), inner = least(k - k0, deep);
            int64_t steps = blocks(inner, DEPTH), panels = blocks(columns, BLOCK), packed = steps * parts * PACKED;
            pack(from(b, j0, k0), 0, parts, columns, inner, right, me, threads);
#pragma omp barrier
            for (int64_t i0 = first; i0 < last; i0 += HIGH) {
                int64_t rows = least(last - i0, HIGH);
                pack(from(a, i0, k0), 1, parts, rows, inner, left, 0, 1);
                for (int64_t p = panels * x / across; p < panels * (x + 1) / across; p++)
                    for (int64_t i = 0; i < rows; i += BLOCK) {
                        const uint16_t *l = left + i / BLOCK * packed, *r = right + p * packed;
                        int64_t j = j0 + p * BLOCK, row = i0 + i, begun = k0 ? stride : apart;
                        float *sums = out + row * stride + j;
                        const float *start = k0 ? sums : to ? to + row * apart + j : NULL;
                        int64_t down = least(rows - i, BLOCK), wide = least(n - j, BLOCK);
                        if (down < BLOCK || wide < BLOCK)
                            multiply_edge(parts, l, r, steps, start, begun, sums, stride, down, wide);
                        else
                            multiply_block(parts, l, r, steps, start, begun, sums, stride);
                    }
            }
#pragma omp barrier
        }
    tiles_end();
}

static uint16_t *room(int64_t rows, int64_t most, int64_t k, int parts) {
    return aligned_alloc(64, blocks(least(rows, most), BLOCK) * blocks(least(k, DEEP / parts), DEPTH) * parts * PACKED * 2);
}
#endif

/* out[m, n], of which a row's numbers lie side by side, = to + a b; to [m, n] (may be out), [n] (apart is 0) or NULL. In
 * one part where a or b is bfloat16. The bits do not depend on the number of threads, nor a row's on other rows. */
void matmul(const void *a, int64_t a_down, int64_t a_right, int64_t a_narrow, const void *b, int64_t b_down, int64_t b_right,
            int64_t b_narrow, const float *to, int64_t apart, float *out, int64_t stride, int64_t m, int64_t n, int64_t k) {
#ifdef AMX
    const struct matrix left = {a, a_down, a_right, a_narrow}, right = {b, b_right, b_down, b_narrow};
    const int parts = a_narrow || b_narrow ? 1 : 3;
    uint16_t *of_right = room(n, WIDE, k, parts);
#pragma omp parallel
    {
        uint16_t *of_left = room(m, HIGH, k, parts);
        if (parts == 1) multiply(1, left, right, to, apart, out, stride, m, n, k, of_right, of_left);
        else multiply(3, left, right, to, apart, out, stride, m, n, k, of_right, of_left);
        free(of_left);
    }
    free(of_right);
#else
    abort(); /* `tiles` says no */
#endif
}

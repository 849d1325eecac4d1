/* Products of float32 matrices on processors that multiply tiles of bfloat16: each number is the sum of three of bfloat16,
 * exactly, and of the nine products of their parts the six that float32 would notice are added up in float32
 * (Henry, Tang & Heinecke 2019, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
 * computations"). What is above 3.39e38 becomes NaN. */

#include <omp.h>

#include "amx.h"

#define PARTS 3
#define BLOCK (2 * TILE)                     /* rows, or columns, of the sums that stay in tiles */
#define STEP (PARTS * BLOCK * DEPTH)         /* numbers of a packed block of BLOCK by DEPTH: [part][2][TILE][DEPTH] */
#define DEEP 512                             /* of the inner dimension at a time, */
#define HIGH 256                             /* rows: both together stay in a core's second cache, */
#define WIDE 4096                            /* columns */

/* A matrix as it lies in memory: of its two strides one is 1. */
struct matrix {
    const float *at;
    int64_t down, right;
};

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

/* Of x its first `rows` (columns, of the right operand) and `inner` numbers of the inner dimension in tiles, zeros behind.
 * A tile of the left operand is [row][pair], of the right [pair][column]; number i and number i + 16 are a pair. */
INLINE void pack_tile(struct matrix x, int left, int64_t rows, int64_t inner, uint16_t *to) {
    const int along = x.right == 1; /* vectors are of the inner dimension */
    const int64_t stride = along ? x.down : x.right, size = BLOCK * DEPTH;
    const __m512i half = _mm512_set1_epi32(0x8000), top = _mm512_set1_epi32(0xffff0000);
    __m512 v[2][TILE];
    for (int h = 0; h < 2; h++) {
        int64_t deep = inner - TILE * h, in = along ? deep : rows, out = along ? rows : deep;
        __mmask16 mask = in >= TILE ? 0xffff : in <= 0 ? 0 : (1 << in) - 1;
        const float *at = x.at + TILE * h * x.right;
        for (int i = 0; i < TILE; i++) v[h][i] = _mm512_maskz_loadu_ps(i < out ? mask : 0, at + i * stride);
        if (along != left) transpose(v[h]);
    }
    for (int i = 0; i < TILE; i++, to += DEPTH)
        for (int part = 0; part < PARTS; part++) {
            __m512i word[2];
            for (int h = 0; h < 2; h++) {
                __m512i near = _mm512_castps_si512(v[h][i]);
                if (part < PARTS - 1) near = _mm512_add_epi32(near, half); /* what is left for the last part fits it */
                word[h] = _mm512_and_si512(near, top);
                v[h][i] = _mm512_sub_ps(v[h][i], _mm512_castsi512_ps(word[h]));
            }
            _mm512_storeu_si512(to + part * size, _mm512_or_si512(_mm512_srli_epi32(word[0], 16), word[1]));
        }
}

/* Thread `me`'s share of all of x, rows (columns) by inner, in blocks [row / BLOCK][inner / DEPTH][STEP]: in the order in
 * which x lies in memory, a block's width at a stride of pages is slow to read. */
static void pack(struct matrix x, int left, int64_t rows, int64_t inner, uint16_t *to, int64_t me, int64_t threads) {
    const int64_t high = blocks(rows, BLOCK), deep = blocks(inner, DEPTH), all = high * deep;
    for (int64_t i = all * me / threads; i < all * (me + 1) / threads; i++) {
        int64_t r = x.right == 1 ? i / deep : i % high, k = x.right == 1 ? i % deep : i / high;
        for (int t = 0; t < 2; t++) {
            int64_t row = BLOCK * r + TILE * t;
            struct matrix part = {x.at + row * x.down + DEPTH * k * x.right, x.down, x.right};
            uint16_t *tile = to + (r * deep + k) * STEP + t * TILE * DEPTH;
            /* copies of the code, each without a question inside */
            if (!left) pack_tile(part, 0, rows - row, inner - DEPTH * k, tile);
            else pack_tile(part, 1, rows - row, inner - DEPTH * k, tile);
        }
    }
}

#define LOAD_LEFT(p) _tile_loadd(4, a + 2 * (p) * size, 2 * DEPTH); _tile_loadd(5, a + (2 * (p) + 1) * size, 2 * DEPTH)
#define LOAD_RIGHT(p) _tile_loadd(6, b + 2 * (p) * size, 2 * DEPTH); _tile_loadd(7, b + (2 * (p) + 1) * size, 2 * DEPTH)
#define ADD _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7)

/* to[BLOCK, BLOCK] = from + a b of packed blocks; from may be NULL, or have a stride of 0. */
static void multiply_block(const uint16_t *a, const uint16_t *b, int64_t steps, const float *from, int64_t apart, float *to,
                           int64_t stride) {
    const int size = TILE * DEPTH;
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
    for (int64_t s = 0; s < steps; s++, a += STEP, b += STEP) {
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
static void multiply_edge(const uint16_t *a, const uint16_t *b, int64_t steps, const float *from, int64_t apart, float *to,
                          int64_t stride, int64_t rows, int64_t columns) {
    float sums[BLOCK * BLOCK];
    memset(sums, 0, sizeof sums);
    for (int64_t r = 0; from && r < rows; r++) memcpy(sums + r * BLOCK, from + r * apart, 4 * columns);
    multiply_block(a, b, steps, sums, BLOCK, sums, BLOCK);
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

/* out[m, n], of which a row's numbers lie side by side, = from + a b; from [m, n] (may be out), [n] (apart is 0) or NULL.
 * The bits do not depend on the number of threads. */
void matmul(const float *a, int64_t a_down, int64_t a_right, const float *b, int64_t b_down, int64_t b_right,
            const float *from, int64_t apart, float *out, int64_t stride, int64_t m, int64_t n, int64_t k) {
    const int64_t deepest = blocks(least(k, DEEP), DEPTH) * STEP;
    uint16_t *right = aligned_alloc(64, blocks(least(n, WIDE), BLOCK) * deepest * 2);
#pragma omp parallel
    {
        int64_t threads = omp_get_num_threads(), me = omp_get_thread_num(), high = blocks(m, BLOCK);
        int64_t downs = best_downs(threads, m, n), across = threads / downs, x = me / downs, y = me % downs;
        int64_t first = high * y / downs * BLOCK, last = x < across ? least(m, high * (y + 1) / downs * BLOCK) : first;
        uint16_t *left = aligned_alloc(64, blocks(least(m, HIGH), BLOCK) * deepest * 2);
        tiles_begin();
        for (int64_t j0 = 0; j0 < n; j0 += WIDE)
            for (int64_t k0 = 0; k0 < k; k0 += DEEP) {
                int64_t columns = least(n - j0, WIDE), inner = least(k - k0, DEEP);
                int64_t steps = blocks(inner, DEPTH), panels = blocks(columns, BLOCK);
                struct matrix of_right = {b + k0 * b_down + j0 * b_right, b_right, b_down};
                pack(of_right, 0, columns, inner, right, me, threads);
#pragma omp barrier
                for (int64_t i0 = first; i0 < last; i0 += HIGH) {
                    int64_t rows = least(last - i0, HIGH);
                    struct matrix of_left = {a + i0 * a_down + k0 * a_right, a_down, a_right};
                    pack(of_left, 1, rows, inner, left, 0, 1);
                    for (int64_t p = panels * x / across; p < panels * (x + 1) / across; p++)
                        for (int64_t i = 0; i < rows; i += BLOCK) {
                            const uint16_t *l = left + i / BLOCK * steps * STEP, *r = right + p * steps * STEP;
                            int64_t j = j0 + p * BLOCK, row = i0 + i, begun = k0 ? stride : apart;
                            float *to = out + row * stride + j;
                            const float *start = k0 ? to : from ? from + row * apart + j : NULL;
                            if (rows - i < BLOCK || n - j < BLOCK)
                                multiply_edge(l, r, steps, start, begun, to, stride, least(rows - i, BLOCK), least(n - j, BLOCK));
                            else
                                multiply_block(l, r, steps, start, begun, to, stride);
                        }
                }
#pragma omp barrier
            }
        tiles_end();
        free(left);
    }
    free(right);
}
#else
void matmul(const float *a, int64_t a_down, int64_t a_right, const float *b, int64_t b_down, int64_t b_right,
            const float *from, int64_t apart, float *out, int64_t stride, int64_t m, int64_t n, int64_t k) {
    abort(); /* `tiles` says no */
}
#endif

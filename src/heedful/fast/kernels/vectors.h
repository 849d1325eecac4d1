/* Vectors of as many numbers as the processor has, GCC's extension of C, and the product of few rows with a panel. */

#pragma once
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A block of the product keeps ROWS x 2 vectors of sums in registers: of 32 on AVX-512 and NEON, of 16 on AVX. */
#if defined(__AVX512F__)
#define LANES 16
#define ROWS 12
#elif defined(__AVX__)
#define LANES 8
#define ROWS 6
#else
#define LANES 4
#define ROWS 12
#endif
#define PANEL (2 * LANES) /* columns of the output that are computed together */
#define SMALL (1 << 15)   /* multiplications that are not worth waking a thread for */

#define INLINE static inline __attribute__((always_inline))
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef float quad __attribute__((vector_size(16)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t half __attribute__((vector_size(2 * LANES), aligned(2)));

/* e^x, 0 below e^-87: 2^n times a polynomial (Cephes, expf). */
INLINE float exponential(float x) {
    float least = x < -87.0f ? 0.0f : 1.0f;
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float shifted = x * 1.44269504f + 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer */
    float n = shifted - 12582912.0f, r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t exponent, value;
    memcpy(&exponent, &shifted, 4);
    memcpy(&value, &p, 4);
    value += exponent << 23;
    memcpy(&p, &value, 4);
    return p * least;
}

/* The sum of a vector, in halves: one after another, each number would wait for the one before. */
INLINE float sum_of(vec v) {
    quad x[LANES / 4];
    memcpy(x, &v, sizeof x);
    for (int half = LANES / 8; half; half /= 2)
        for (int l = 0; l < half; l++) x[l] += x[l + half];
    return (x[0][0] + x[0][1]) + (x[0][2] + x[0][3]);
}

INLINE float silu(float x) { return x / (1.0f + exponential(-x)); }

INLINE float largest(const float *x, int64_t size) {
    float most = -INFINITY;
#pragma omp simd reduction(max : most)
    for (int64_t j = 0; j < size; j++) most = x[j] > most ? x[j] : most;
    return most;
}

/* to = e^(x - most), which may be x itself, and their sum. */
INLINE float exponentials(const float *x, float most, int64_t size, float *to) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < size; j++) sum += to[j] = exponential(x[j] - most);
    return sum;
}

/* 1 / sqrt(mean x^2 + eps) */
INLINE float rms_factor(const float *x, int64_t size, float eps) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < size; k++) sum += x[k] * x[k];
    return 1.0f / sqrtf(sum / size + eps);
}

/* to = a head [dim], scaled and turned by the cosines, then sines of its position, or turned back; may be the head itself. */
INLINE void rotated(const float *head, const float *turn, float scale, float *to, int64_t dim, int back) {
    for (int64_t d = 0, half = dim / 2; d < half; d++) {
        float a = head[d] * scale, b = head[d + half] * scale, cos = turn[d], sin = back ? -turn[d + half] : turn[d + half];
        to[d] = a * cos - b * sin;
        to[d + half] = a * sin + b * cos;
    }
}

/* One of the numbers that stand as float32, or as bfloat16, whose bits are the upper half of float32's. */
INLINE float number(const void *w, int64_t at, int narrow) {
    if (!narrow) return ((const float *)w)[at];
    uint32_t wide = (uint32_t)((const uint16_t *)w)[at] << 16;
    float out;
    memcpy(&out, &wide, sizeof out);
    return out;
}

/* LANES weights from place `at` on. */
INLINE vec weights(const void *w, int64_t at, int narrow) {
    if (!narrow) return *(const vec *)((const float *)w + at);
    bits wide = __builtin_convertvector(*(const half *)((const uint16_t *)w + at), bits) << 16;
    vec out;
    memcpy(&out, &wide, sizeof out);
    return out;
}

/* sums[R, PANEL] (=, or with `add` +=) x[R, in] w[in, PANEL]. Rows and columns of x are `row` and `column` numbers apart;
 * `fetch` tells whether another panel stands behind this one. */
INLINE void block(int R, int narrow, int fetch, int add, const float *x, int64_t row, int64_t column, int64_t in,
                  const void *w, int64_t at, float *sums) {
    vec acc[ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
        acc[r][0] = add ? *(vec *)(sums + r * PANEL) : (vec){0};
        acc[r][1] = add ? *(vec *)(sums + r * PANEL + LANES) : (vec){0};
    }
    for (int64_t k = 0; k < in; k++, at += PANEL) {
        /* Have the next panel fetched while this one is used: nobody else would look beyond the end of a page. */
        if (fetch) __builtin_prefetch((const char *)w + (at + in * PANEL) * (narrow ? 2 : 4));
        if (fetch && !narrow && LANES == 16) __builtin_prefetch((const float *)w + at + in * PANEL + LANES);
        vec a = weights(w, at, narrow), b = weights(w, at + LANES, narrow);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            float y = x[k * column + r * row];
            acc[r][0] += a * y;
            acc[r][1] += b * y;
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; r++) {
        *(vec *)(sums + r * PANEL) = acc[r][0];
        *(vec *)(sums + r * PANEL + LANES) = acc[r][1];
    }
}

/* For a number of rows that is known only now: each has code of its own, whose sums stay in registers. */
#if ROWS > 6
#define MORE_CASES(call) CASE(7, call) CASE(8, call) CASE(9, call) CASE(10, call) CASE(11, call) CASE(12, call)
#else
#define MORE_CASES(call)
#endif
#define CASE(n, call) case n: { enum { R = n }; call; break; }
#define FOR_ROWS(n, call)                                                                                      \
    switch (n) { CASE(1, call) CASE(2, call) CASE(3, call) CASE(4, call) CASE(5, call) CASE(6, call) MORE_CASES(call) }

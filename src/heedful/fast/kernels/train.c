/* What training does between its matrix products, each in one pass over memory, forward and backward. */

#include "vectors.h"

#define CHUNK 64 /* rows whose sums for a norm's weight are taken together, whatever the number of threads */

/* out[n, width] = h * factor * weight, factor[n] = 1 / sqrt(mean h^2 + eps) (Zhang & Sennrich 2019, eq. 4). */
void norm(const float *h, const float *weight, float eps, int64_t n, int64_t width, float *out, float *factor) {
#pragma omp parallel for if (n * width > SMALL)
    for (int64_t r = 0; r < n; r++) {
        const float *x = h + r * width;
        factor[r] = rms_factor(x, width, eps);
        for (int64_t d = 0; d < width; d++) out[r * width + d] = x[d] * factor[r] * weight[d];
    }
}

/* The gradients of h, to which `more` [n, width] is added, and of weight (or NULL), from grad[n, width] of out. */
void norm_back(const float *grad, const float *more, const float *h, const float *weight, const float *factor, int64_t n,
               int64_t width, float *for_h, float *for_weight) {
    int64_t chunks = (n + CHUNK - 1) / CHUNK;
    float *parts = for_weight ? calloc(chunks * width, sizeof(float)) : NULL;
#pragma omp parallel for if (n * width > SMALL)
    for (int64_t c = 0; c < chunks; c++) {
        for (int64_t r = c * CHUNK; r < n && r < (c + 1) * CHUNK; r++) {
            const float *x = h + r * width, *g = grad + r * width, *m = more + r * width;
            float *to = for_h + r * width, by = factor[r], along = 0;
#pragma omp simd reduction(+ : along)
            for (int64_t d = 0; d < width; d++) along += g[d] * x[d] * weight[d];
            along *= by * by / width;
            for (int64_t d = 0; d < width; d++) to[d] = (g[d] * weight[d] - x[d] * along) * by + m[d];
            for (int64_t d = 0; parts && d < width; d++) parts[c * width + d] += g[d] * x[d] * by;
        }
    }
    if (!for_weight) return;
    memset(for_weight, 0, sizeof(float) * width);
    for (int64_t c = 0; c < chunks; c++)
        for (int64_t d = 0; d < width; d++) for_weight[d] += parts[c * width + d];
    free(parts);
}

/* out[n, size] = silu(gate) * up of joint[n, (gate, up), size] (Shazeer 2020, eq. 6). */
void gate(const float *joint, int64_t n, int64_t size, float *out) {
#pragma omp parallel for if (n * size > SMALL)
    for (int64_t r = 0; r < n; r++) {
        const float *x = joint + 2 * r * size, *up = x + size;
        for (int64_t i = 0; i < size; i++) out[r * size + i] = silu(x[i]) * up[i];
    }
}

void gate_back(const float *grad, const float *joint, int64_t n, int64_t size, float *for_joint) {
#pragma omp parallel for if (n * size > SMALL)
    for (int64_t r = 0; r < n; r++) {
        const float *x = joint + 2 * r * size, *up = x + size, *g = grad + r * size;
        float *for_x = for_joint + 2 * r * size, *for_up = for_x + size;
        for (int64_t i = 0; i < size; i++) {
            float s = 1.0f / (1.0f + exponential(-x[i]));
            for_up[i] = g[i] * x[i] * s;
            for_x[i] = g[i] * up[i] * s * (1.0f + x[i] * (1.0f - s));
        }
    }
}

/* z[n, size] becomes exp(factor * z - most of its row); logps[n] of the tokens y, and the sums totals[n]. */
void odds(float *z, const int64_t *y, int64_t n, int64_t size, float factor, float *logps, float *totals) {
#pragma omp parallel for if (n * size > SMALL)
    for (int64_t r = 0; r < n; r++) {
        float *row = z + r * size, most = -INFINITY, chosen = row[y[r]] * factor;
#pragma omp simd reduction(max : most)
        for (int64_t j = 0; j < size; j++) {
            row[j] *= factor;
            most = row[j] > most ? row[j] : most;
        }
        totals[r] = exponentials(row, most, size, row);
        logps[r] = chosen - most - logf(totals[r]);
    }
}

/* From what `odds` left of z and the gradients of logps the gradients of factor * z, written over z. */
void odds_back(float *z, const int64_t *y, int64_t n, int64_t size, const float *grad, const float *totals) {
#pragma omp parallel for if (n * size > SMALL)
    for (int64_t r = 0; r < n; r++) {
        float *row = z + r * size, by = -grad[r] / totals[r];
        for (int64_t j = 0; j < size; j++) row[j] *= by;
        row[y[r]] += grad[r];
    }
}

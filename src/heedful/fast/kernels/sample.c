/* What sampling on a CPU does between Python and the hardware: products of few rows with a matrix that is read from
 * end to end at every token, one token's attention to its row's keys, the draw of a token. Plain C with GCC's vector
 * extension, tested against PyTorch's operations.
 * All matrices are row-major, sums are in float32, work is shared out by OpenMP. */

#include "vectors.h"

#define CHUNK 8  /* pieces of ROWS whose inputs stay in a core's cache while panels pass */
#define GROUP 4  /* queries that read a key together */
#define BLOCK 64 /* tokens of the vocabulary whose mass is summed first */

int64_t lanes(void) { return LANES; }

enum { PLAIN, ADDED, GATED };

/* What becomes of sums [count, PANEL] of rows r … and of the columns from `first` on; see `multiply`. */
INLINE void finished(float *sums, int64_t r, int64_t count, int64_t first, int64_t outs, const float *bias, int64_t how,
                     float *out) {
    int64_t width = outs - first < PANEL ? outs - first : PANEL;
    for (float *s = sums; s < sums + count * PANEL; s += PANEL, r++) {
        for (int64_t j = 0; bias && j < width; j++) s[j] += bias[first + j];
        if (how == GATED) {
            float *to = out + (r * outs + first) / 2;
            for (int64_t j = 0; j < LANES; j++) to[j] = silu(s[j]) * s[j + LANES];
        } else {
            float *to = out + r * outs + first;
            for (int64_t j = 0; j < width; j++) to[j] = how == ADDED ? to[j] + s[j] : s[j];
        }
    }
}

/* out[n, outs] = y W + bias, or `how` says: is added to out; or is silu of the first LANES columns of each panel times
 * the others, out[n, outs / 2]. y is x[n, in], or with `norm` [in] x / sqrt(mean x^2 + eps) * norm. W stands in panels
 * [in][PANEL], float32 or (narrow) bfloat16, filled up with zeros. A thread's part of it; `kept` has room for x. */
static void multiply(float *kept, const float *x, const void *w, int64_t narrow, const float *bias, const float *norm,
                     float eps, float *out, int64_t n, int64_t in, int64_t outs, int64_t how) {
    int64_t panels = (outs + PANEL - 1) / PANEL, pieces = (n + ROWS - 1) / ROWS, chunks = (pieces + CHUNK - 1) / CHUNK;
    /* Each piece of rows stands column by column, as it is read. */
#pragma omp for
    for (int64_t i = 0; i < pieces; i++) {
        int64_t begin = n * i / pieces, R = n * (i + 1) / pieces - begin;
        for (int64_t r = 0; r < R; r++) {
            const float *from = x + (begin + r) * in;
            float factor = norm ? rms_factor(from, in, eps) : 1.0f, *to = kept + begin * in + r;
            for (int64_t k = 0; k < in; k++) to[k * R] = norm ? from[k] * factor * norm[k] : from[k];
        }
    }
#pragma omp for collapse(2)
    for (int64_t c = 0; c < chunks; c++)
        for (int64_t p = 0; p < panels; p++) {
            float sums[ROWS * PANEL];
            int64_t at = p * PANEL * in;
            for (int64_t i = c * CHUNK; i < pieces && i < (c + 1) * CHUNK; i++) {
                int64_t r = n * i / pieces, count = n * (i + 1) / pieces - r;
                const float *piece = kept + r * in;
                if (narrow)
                    FOR_ROWS(count, block(R, 1, 1, 0, piece, 1, R, in, w, at, sums))
                else
                    FOR_ROWS(count, block(R, 0, 1, 0, piece, 1, R, in, w, at, sums))
                finished(sums, r, count, p * PANEL, outs, bias, how, out);
            }
        }
}

/* The first `turned` of the heads x[., dim] of a token, normed first where there are norms, by cosines, then sines. */
INLINE void turned_heads(float *x, const float *by, const float *norms, float eps, int64_t turned, int64_t dim) {
    for (int64_t h = 0; h < turned; h++) {
        float *y = x + h * dim;
        if (norms) {
            float factor = rms_factor(y, dim, eps);
            for (int64_t d = 0; d < dim; d++) y[d] *= factor * norms[h * dim + d];
        }
        rotated(y, by, 1.0f, y, dim, 0);
    }
}

/* out[G, dim] = softmax(scale * q[G, dim] keys^T) values, of the first `count` keys and values [., dim]; `scores` has
 * room for G rows `room` apart. */
INLINE void heads(int G, const float *q, const float *keys, const float *values, int64_t count, int64_t dim, float scale,
                  float *scores, int64_t room, float *out) {
    int64_t whole = dim - dim % LANES;
    float total[GROUP];
    for (int64_t j = 0; j < count; j++) {
        const float *key = keys + j * dim;
        vec acc[GROUP];
#pragma GCC unroll 4
        for (int g = 0; g < G; g++) acc[g] = (vec){0};
        for (int64_t d = 0; d < whole; d += LANES)
#pragma GCC unroll 4
            for (int g = 0; g < G; g++) acc[g] += *(const vec *)(q + g * dim + d) * *(const vec *)(key + d);
#pragma GCC unroll 4
        for (int g = 0; g < G; g++) {
            float score = sum_of(acc[g]);
            for (int64_t d = whole; d < dim; d++) score += q[g * dim + d] * key[d];
            scores[g * room + j] = score * scale;
        }
    }
    for (int g = 0; g < G; g++) {
        float *s = scores + g * room;
        total[g] = exponentials(s, largest(s, count), count, s);
    }
    int64_t first = 0;
    for (; first + 2 * LANES <= whole; first += 2 * LANES) {
        vec acc[GROUP][2];
#pragma GCC unroll 4
        for (int g = 0; g < G; g++) acc[g][0] = acc[g][1] = (vec){0};
        for (int64_t j = 0; j < count; j++) {
            vec a = *(const vec *)(values + j * dim + first), b = *(const vec *)(values + j * dim + first + LANES);
#pragma GCC unroll 4
            for (int g = 0; g < G; g++) {
                acc[g][0] += a * scores[g * room + j];
                acc[g][1] += b * scores[g * room + j];
            }
        }
#pragma GCC unroll 4
        for (int g = 0; g < G; g++) {
            *(vec *)(out + g * dim + first) = acc[g][0] / total[g];
            *(vec *)(out + g * dim + first + LANES) = acc[g][1] / total[g];
        }
    }
    for (int g = 0; g < G; g++)
        for (int64_t d = first; d < dim; d++) {
            float sum = 0;
            for (int64_t j = 0; j < count; j++) sum += scores[g * room + j] * values[j * dim + d];
            out[g * dim + d] = sum / total[g];
        }
}

/* A row's `count`th key and value k, v [dim] of one head go to keys, values [capacity, dim], and the queries q [group,
 * dim] that read it attend to all that are there -> out [group, dim]; `scores` has room for GROUP rows. */
static void attend_row(const float *q, const float *k, const float *v, float *keys, float *values, int64_t count,
                       int64_t group, int64_t dim, int64_t capacity, float scale, float *scores, float *out) {
    memcpy(keys + (count - 1) * dim, k, sizeof(float) * dim);
    memcpy(values + (count - 1) * dim, v, sizeof(float) * dim);
    for (int64_t g = 0; g < group; g += GROUP) {
        const float *asks = q + g * dim;
        float *to = out + g * dim;
        switch (group - g) {
            case 1: heads(1, asks, keys, values, count, dim, scale, scores, capacity, to); break;
            case 2: heads(2, asks, keys, values, count, dim, scale, scores, capacity, to); break;
            case 3: heads(3, asks, keys, values, count, dim, scale, scores, capacity, to); break;
            default: heads(4, asks, keys, values, count, dim, scale, scores, capacity, to);
        }
    }
}

/* One token a row: append its key and value k, v [n, kv, dim] to the row's `lengths`, and let its queries q [n, kv,
 * group, dim] attend to all of them -> out [n, kv, group, dim]. keys, values [rows, kv, capacity, dim]. Rows and heads
 * of q, k and v are `row` and `head` numbers apart. */
void attend(const float *q, int64_t q_row, int64_t q_head, const float *k, int64_t k_row, int64_t k_head, const float *v,
            int64_t v_row, int64_t v_head, const int64_t *lengths, float *keys, float *values, float *out, int64_t n,
            int64_t kv, int64_t group, int64_t dim, int64_t capacity, float scale) {
#pragma omp parallel if (n * kv > 1)
    {
        float *scores = malloc(sizeof(float) * GROUP * capacity);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < n * kv; i++) {
            int64_t r = i / kv, h = i % kv, slot = i * capacity * dim;
            attend_row(q + r * q_row + h * q_head, k + r * k_row + h * k_head, v + r * v_row + h * v_head, keys + slot,
                       values + slot, lengths[r] + 1, group, dim, capacity, scale, scores, out + i * group * dim);
        }
        free(scores);
    }
}

/* What a layer of the Llama family is made of; biases and norms of heads are NULL where it has none. */
struct layer {
    const float *before, *between, *heads;
    const void *qkv, *out, *gate_up, *down;
    const float *qkv_bias, *out_bias, *gate_up_bias, *down_bias;
    float *keys, *values;
};

/* A model of these layers, whose feed-forward part is `ffn` wide, padded to whole vectors. */
struct model {
    const struct layer *layers;
    const void *embedding, *head;
    const float *norm, *head_bias;
    int64_t count, narrow, width, kv, group, dim, ffn, vocabulary;
    float eps, scale;
};

/* One token a row through the whole model: tokens and lengths [n] -> logits [n, vocabulary]. */
void decode(const struct model *m, const int64_t *tokens, const int64_t *lengths, const float *table, int64_t n,
            int64_t capacity, float *logits) {
    int64_t width = m->width, dim = m->dim, group = m->group, narrow = m->narrow, ffn = m->ffn;
    int64_t head = (group + 2) * dim, row = m->kv * head, heads = m->kv * group * dim;
    int64_t widest = width > heads ? width : heads;
    if (ffn > widest) widest = ffn;
    float *h = malloc(sizeof(float) * (n * (width + row + heads + ffn) + n * widest));
    float *qkv = h + n * width, *attended = qkv + n * row, *gated = attended + n * heads, *kept = gated + n * ffn;
#pragma omp parallel if (n * width * (row + 2 * ffn + m->vocabulary) > SMALL)
    {
        float *scores = malloc(sizeof(float) * GROUP * capacity);
#pragma omp for
        for (int64_t r = 0; r < n; r++)
            for (int64_t d = 0; d < width; d++) h[r * width + d] = number(m->embedding, tokens[r] * width + d, narrow);
        for (const struct layer *l = m->layers; l < m->layers + m->count; l++) {
            multiply(kept, h, l->qkv, narrow, l->qkv_bias, l->before, m->eps, qkv, n, width, row, PLAIN);
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < n * m->kv; i++) {
                float *q = qkv + i * head, *k = q + group * dim;
                int64_t length = lengths[i / m->kv], slot = i * capacity * dim;
                turned_heads(q, table + length * dim, l->heads, m->eps, group + 1, dim);
                attend_row(q, k, k + dim, l->keys + slot, l->values + slot, length + 1, group, dim, capacity, m->scale,
                           scores, attended + i * group * dim);
            }
                multiply(kept, attended, l->out, narrow, l->out_bias, NULL, m->eps, h, n, heads, width, ADDED);
            multiply(kept, h, l->gate_up, narrow, l->gate_up_bias, l->between, m->eps, gated, n, width, 2 * ffn,
                     GATED);
            multiply(kept, gated, l->down, narrow, l->down_bias, NULL, m->eps, h, n, ffn, width, ADDED);
        }
        multiply(kept, h, m->head, narrow, m->head_bias, m->norm, m->eps, logits, n, width, m->vocabulary, PLAIN);
        free(scores);
    }
    free(h);
}

/* Of each row of logits [n, size] the first token whose distribution function exceeds u, and its log-probability. */
void choose(const float *logits, const double *u, int64_t n, int64_t size, int64_t *tokens, float *logprobs) {
    int64_t blocks = (size + BLOCK - 1) / BLOCK;
#pragma omp parallel if (n * size > SMALL / 4)
    {
        float *mass = malloc(sizeof(float) * size);
        double *below = malloc(sizeof(double) * (blocks + 1)); /* the mass of all blocks before this one */
#pragma omp for
        for (int64_t r = 0; r < n; r++) {
            const float *z = logits + r * size;
            float most = largest(z, size);
            below[0] = 0;
            for (int64_t b = 0; b < blocks; b++) {
                int64_t first = b * BLOCK, count = size - first < BLOCK ? size - first : BLOCK;
                below[b + 1] = below[b] + exponentials(z + first, most, count, mass + first);
            }
            double wanted = u[r] * below[blocks], found = 0;
            int64_t b = 0, at = -1;
            /* Whatever the rounding, a block and a token that have mass are taken. */
            while (b < blocks - 1 && below[b + 1] <= wanted) b++;
            while (b > 0 && below[b + 1] == below[b]) b--;
            int64_t end = (b + 1) * BLOCK < size ? (b + 1) * BLOCK : size;
            for (int64_t j = b * BLOCK; j < end && (at < 0 || below[b] + found <= wanted); j++) {
                found += mass[j];
                if (mass[j] > 0) at = j;
            }
            tokens[r] = at < 0 ? 0 : at;
            logprobs[r] = (float)((double)(z[tokens[r]] - most) - log(below[blocks]));
        }
        free(below);
        free(mass);
    }
}

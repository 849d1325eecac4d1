/* Causal attention of training, over sequences of a packed batch that begin alike (see fast/layout.py): forward, and
 * backward by computing probabilities again (Dao et al. 2022). PANEL queries at a time stand in the lanes of vectors, so
 * that what a softmax sums up stands one below another; keys and values are read as they are.
 *
 * Sequence r has the tokens cells[starts[r] .. starts[r + 1]], the first own[r] of which are another sequence's, which
 * asks for them. qkv [N, heads + 2 kv, dim] holds each token's queries, keys and values; `turns` [N, dim] the cosines, then
 * the sines of the angles by which its position turns queries and keys, or NULL. */

#include "vectors.h"

/* One head of one token, scaled and turned where there is anything to turn by; backwards it is turned back. */
INLINE void placed(const float *from, const float *turn, float scale, float *to, int64_t dim, int back) {
    if (turn) return rotated(from, turn, scale, to, dim, back);
    for (int64_t d = 0; d < dim; d++) to[d] = from[d] * scale;
}

/* [PANEL, dim] -> [dim, PANEL], or back. */
static void transposed(const float *from, int64_t rows, int64_t columns, float *to) {
    for (int64_t i = 0; i < rows; i += 8)
        for (int64_t j = 0; j < columns; j += 8)
            for (int64_t b = j; b < j + 8 && b < columns; b++)
                for (int64_t a = i; a < i + 8 && a < rows; a++) to[b * rows + a] = from[a * columns + b];
}

/* What all of a sequence's queries of one head of keys share. */
struct task {
    const int64_t *cells;
    int64_t length, own, count; /* `count` queries, of all heads of the group, column by column */
    int64_t heads, kv, head, group, dim;
    const float *qkv, *turns;
    float scale;
};

/* PANEL of them: queries first, first + 1, … */
struct panel {
    int64_t lanes, keys, sure; /* how many there are; keys that one of them sees, and that all of them see */
    int32_t column[PANEL];
    int64_t row[PANEL]; /* token * heads + head */
};

static struct task task_of(int64_t i, const float *qkv, const float *turns, const int64_t *cells, const int64_t *starts,
                           const int64_t *own, int64_t heads, int64_t kv, int64_t dim, float scale) {
    int64_t r = i / kv, group = heads / kv, length = starts[r + 1] - starts[r];
    return (struct task){cells + starts[r], length, own[r], (length - own[r]) * group, heads, kv, i % kv, group, dim, qkv,
                         turns, scale};
}

static void keys_and_values(const struct task *t, float *keys, float *values) {
    int64_t wide = t->heads + 2 * t->kv;
    for (int64_t c = 0; c < t->length; c++) {
        const float *key = t->qkv + (t->cells[c] * wide + t->heads + t->head) * t->dim;
        placed(key, t->turns ? t->turns + t->cells[c] * t->dim : NULL, 1.0f, keys + c * t->dim, t->dim, 0);
        memcpy(values + c * t->dim, key + t->kv * t->dim, sizeof(float) * t->dim);
    }
}

static struct panel panel_of(const struct task *t, int64_t first) {
    struct panel p = {.lanes = t->count - first < PANEL ? t->count - first : PANEL};
    for (int64_t l = 0; l < PANEL; l++) {
        int64_t i = first + (l < p.lanes ? l : p.lanes - 1);
        p.column[l] = t->own + i / t->group;
        p.row[l] = t->cells[p.column[l]] * t->heads + t->head * t->group + i % t->group;
    }
    p.sure = p.column[0] + 1;
    p.keys = p.column[p.lanes - 1] + 1;
    return p;
}

/* The panel's queries [PANEL, dim], turned and scaled; those of lanes that mean nothing are zero. */
static void queries(const struct task *t, const struct panel *p, float *to) {
    memset(to, 0, sizeof(float) * PANEL * t->dim);
    for (int64_t l = 0; l < p->lanes; l++) {
        int64_t token = p->row[l] / t->heads, head = p->row[l] % t->heads;
        placed(t->qkv + (token * (t->heads + 2 * t->kv) + head) * t->dim, t->turns ? t->turns + token * t->dim : NULL,
               t->scale, to + l * t->dim, t->dim, 0);
    }
}

/* scores[keys, PANEL] = keys[keys, dim] q[dim, PANEL], -inf where a query does not see a key. */
static void scored(const struct panel *p, const float *keys, const float *q, int64_t dim, float *scores) {
    for (int64_t j = 0; j < p->keys; j += ROWS) {
        int64_t count = p->keys - j < ROWS ? p->keys - j : ROWS;
        FOR_ROWS(count, block(R, 0, 0, 0, keys + j * dim, dim, 1, dim, q, 0, scores + j * PANEL))
    }
    for (int64_t j = p->sure; j < p->keys; j++)
        for (int64_t l = 0; l < PANEL; l++)
            scores[j * PANEL + l] = j > p->column[l] ? -INFINITY : scores[j * PANEL + l];
}

/* out[dim, PANEL] = x[keys, dim]^T w[keys, PANEL] */
static void summed(const float *x, const float *w, int64_t keys, int64_t dim, float *out) {
    int64_t pieces = (dim + ROWS - 1) / ROWS;
    for (int64_t i = 0; i < pieces; i++) {
        int64_t d = dim * i / pieces, count = dim * (i + 1) / pieces - d;
        FOR_ROWS(count, block(R, 0, 0, 0, x + d, 1, dim, keys, w, 0, out + d * PANEL))
    }
}

/* -> out [N, heads, dim], and the logarithm of each query's sum of exponentials, sums [N, heads]. */
void attention(const float *qkv, const float *turns, const int64_t *cells, const int64_t *starts, const int64_t *own,
               int64_t sequences, int64_t longest, int64_t heads, int64_t kv, int64_t dim, float scale, float *out,
               float *sums) {
#pragma omp parallel
    {
        float *keys = malloc(sizeof(float) * (longest * (2 * dim + PANEL) + 4 * PANEL * dim));
        float *values = keys + longest * dim, *p = values + longest * dim;
        float *rows = p + longest * PANEL, *q = rows + PANEL * dim, *found = q + PANEL * dim;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < sequences * kv; i++) {
            struct task t = task_of(i, qkv, turns, cells, starts, own, heads, kv, dim, scale);
            if (t.count) keys_and_values(&t, keys, values);
            for (int64_t first = 0; first < t.count; first += PANEL) {
                struct panel at = panel_of(&t, first);
                float most[PANEL], total[PANEL] = {0};
                queries(&t, &at, rows);
                transposed(rows, PANEL, dim, q);
                scored(&at, keys, q, dim, p);
                for (int64_t l = 0; l < PANEL; l++) most[l] = p[l];
                for (int64_t j = 1; j < at.keys; j++)
                    for (int64_t l = 0; l < PANEL; l++) most[l] = p[j * PANEL + l] > most[l] ? p[j * PANEL + l] : most[l];
                for (int64_t j = 0; j < at.keys; j++)
                    for (int64_t l = 0; l < PANEL; l++) total[l] += p[j * PANEL + l] = exponential(p[j * PANEL + l] - most[l]);
                summed(values, p, at.keys, dim, found);
                for (int64_t d = 0; d < dim; d++)
                    for (int64_t l = 0; l < PANEL; l++) found[d * PANEL + l] /= total[l];
                transposed(found, dim, PANEL, rows);
                for (int64_t l = 0; l < at.lanes; l++) {
                    memcpy(out + at.row[l] * dim, rows + l * dim, sizeof(float) * dim);
                    sums[at.row[l]] = most[l] + logf(total[l]);
                }
            }
        }
        free(keys);
    }
}

/* x[PANEL, dim] as a sum over lanes reads it: [dim / PANEL][PANEL lanes][PANEL], the last columns filled with zeros. */
static void by_lanes(const float *x, int64_t dim, float *to) {
    for (int64_t d = 0; d < dim; d += PANEL)
        for (int64_t l = 0; l < PANEL; l++)
            for (int64_t c = 0; c < PANEL; c++) to[d * PANEL + l * PANEL + c] = d + c < dim ? x[l * dim + d + c] : 0.0f;
}

/* into[dim / PANEL][length][PANEL] += w[keys, PANEL lanes] x[PANEL lanes, dim], x as `by_lanes` lays it out. */
static void added(const float *w, const float *x, int64_t keys, int64_t length, int64_t dim, float *into) {
    for (int64_t d = 0; d < dim; d += PANEL)
        for (int64_t j = 0; j < keys; j += ROWS) {
            int64_t count = keys - j < ROWS ? keys - j : ROWS;
            float *to = into + d * length + j * PANEL;
            FOR_ROWS(count, block(R, 0, 0, 1, w + j * PANEL, PANEL, 1, PANEL, x, d * PANEL, to))
        }
}

/* Gradients [N, heads + 2 kv, dim] of qkv from those of out. What sequence r adds to the keys and values of the tokens
 * that are another's stands in `shared` [kv, 2, dim] for each of its first own[r] cells, one sequence after another, until
 * all are done: whichever thread comes first, the sums are the same. */
void attention_back(const float *qkv, const float *turns, const int64_t *cells, const int64_t *starts, const int64_t *own,
                    int64_t sequences, int64_t longest, int64_t heads, int64_t kv, int64_t dim, float scale,
                    const float *out, const float *sums, const float *grad, float *gradient, float *shared) {
    int64_t wide = heads + 2 * kv, filled = (dim + PANEL - 1) / PANEL * PANEL;
#pragma omp parallel
    {
        float *keys = malloc(sizeof(float) * (longest * 2 * (dim + filled + PANEL) + PANEL * (4 * dim + 3 * filled)));
        float *values = keys + longest * dim, *for_keys = values + longest * dim, *for_values = for_keys + longest * filled;
        float *p = for_values + longest * filled, *ds = p + longest * PANEL, *rows = ds + longest * PANEL;
        float *q = rows + PANEL * dim, *g = q + PANEL * dim, *found = g + PANEL * dim, *q_lanes = found + PANEL * filled;
        float *g_lanes = q_lanes + PANEL * filled;
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < sequences * kv; i++) {
            struct task t = task_of(i, qkv, turns, cells, starts, own, heads, kv, dim, scale);
            keys_and_values(&t, keys, values);
            memset(for_keys, 0, sizeof(float) * 2 * t.length * filled);
            for_values = for_keys + t.length * filled;
            for (int64_t first = 0; first < t.count; first += PANEL) {
                struct panel at = panel_of(&t, first);
                float log_sum[PANEL], along[PANEL];
                queries(&t, &at, rows);
                transposed(rows, PANEL, dim, q);
                by_lanes(rows, dim, q_lanes);
                for (int64_t l = 0; l < PANEL; l++) {
                    float sum = 0, *to = rows + l * dim;
                    const float *from = grad + at.row[l] * dim, *o = out + at.row[l] * dim;
                    for (int64_t d = 0; d < dim; d++) to[d] = l < at.lanes ? from[d] : 0.0f;
#pragma omp simd reduction(+ : sum)
                    for (int64_t d = 0; d < dim; d++) sum += to[d] * o[d];
                    along[l] = sum;
                    log_sum[l] = l < at.lanes ? sums[at.row[l]] : INFINITY;
                }
                transposed(rows, PANEL, dim, g);
                by_lanes(rows, dim, g_lanes);
                scored(&at, keys, q, dim, p);
                for (int64_t j = 0; j < at.keys; j += ROWS) {
                    int64_t count = at.keys - j < ROWS ? at.keys - j : ROWS;
                    FOR_ROWS(count, block(R, 0, 0, 0, values + j * dim, dim, 1, dim, g, 0, ds + j * PANEL))
                }
                for (int64_t j = 0; j < at.keys; j++)
                    for (int64_t l = 0; l < PANEL; l++) {
                        float odds = exponential(p[j * PANEL + l] - log_sum[l]);
                        p[j * PANEL + l] = odds;
                        ds[j * PANEL + l] = odds * (ds[j * PANEL + l] - along[l]);
                    }
                added(p, g_lanes, at.keys, t.length, dim, for_values);
                added(ds, q_lanes, at.keys, t.length, dim, for_keys);
                summed(keys, ds, at.keys, dim, found);
                transposed(found, dim, PANEL, rows);
                for (int64_t l = 0; l < at.lanes; l++) {
                    int64_t token = at.row[l] / heads, head = at.row[l] % heads;
                    placed(rows + l * dim, turns ? turns + token * dim : NULL, scale, gradient + (token * wide + head) * dim,
                           dim, 1);
                }
            }
            /* The shared cells of the sequences before this one. */
            int64_t before = 0;
            for (int64_t r = 0; r < i / kv; r++) before += own[r];
            for (int64_t c = 0; c < t.length; c++) {
                const float *turn = turns ? turns + t.cells[c] * dim : NULL;
                float *to = gradient + (t.cells[c] * wide + heads + t.head) * dim, *value = to + kv * dim;
                if (c < t.own) to = shared + ((before + c) * kv + t.head) * 2 * dim, value = to + dim;
                for (int64_t d = 0; d < dim; d += PANEL) {
                    int64_t size = dim - d < PANEL ? dim - d : PANEL;
                    memcpy(found + d, for_keys + d * t.length + c * PANEL, sizeof(float) * size);
                    memcpy(value + d, for_values + d * t.length + c * PANEL, sizeof(float) * size);
                }
                placed(found, turn, 1.0f, to, dim, 1);
            }
        }
        free(keys);
#pragma omp for
        for (int64_t h = 0; h < kv; h++) {
            const float *more = shared + h * 2 * dim;
            for (int64_t r = 0; r < sequences; r++)
                for (int64_t c = 0; c < own[r]; c++, more += kv * 2 * dim) {
                    float *to = gradient + (cells[starts[r] + c] * wide + heads + h) * dim;
                    for (int64_t d = 0; d < dim; d++) {
                        to[d] += more[d];
                        to[kv * dim + d] += more[dim + d];
                    }
                }
        }
    }
}

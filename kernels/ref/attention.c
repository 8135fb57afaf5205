/* attention.c - reference implementation of causal attention over a paged KV cache.
 * Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

#include <math.h>

/* CHUNK is the number of columns of the output that are summed in one pass over the keys. Each pass
 * computes all scores again. */
enum { PAGE = PLUMB_KV_PAGE, CHUNK = 64 };

struct store {
    const float *kc, *vc;
    const struct plumb_rows *rows;
    int64_t hk, d;
};

static const float *key(const struct store *t, int64_t seq, int64_t j, int64_t head)
{
    const int64_t page = t->rows->page[seq * t->rows->max_pages + j / PAGE];
    /* the address of the key's first component; its components are PAGE floats apart */
    return t->kc + (page * t->hk + head) * t->d * PAGE + j % PAGE;
}

static const float *value(const struct store *t, int64_t seq, int64_t j, int64_t head)
{
    const int64_t page = t->rows->page[seq * t->rows->max_pages + j / PAGE];
    return t->vc + ((page * t->hk + head) * PAGE + j % PAGE) * t->d;
}

static double dot_key(const float *q, const float *k, int64_t d)
{
    double sum = 0.0;
    for (int64_t e = 0; e < d; e++)
        sum += (double)q[e] * k[e * PAGE];
    return sum;
}

static double dot(const float *a, const float *b, int64_t d)
{
    double sum = 0.0;
    for (int64_t e = 0; e < d; e++)
        sum += (double)a[e] * b[e];
    return sum;
}

/* Adds f x[e * stride] to sum[e] for the columns e of one chunk: CHUNK columns, or `left` if fewer
 * are left. */
static void add(double sum[CHUNK], double f, const float *x, int64_t stride, int64_t left)
{
    for (int64_t e = 0; e < CHUNK && e < left; e++)
        sum[e] += f * x[e * stride];
}

static void store(float *y, const double sum[CHUNK], int64_t left)
{
    for (int64_t e = 0; e < CHUNK && e < left; e++)
        y[e] = (float)sum[e];
}

/* Returns the attention score of a query and a key: scaled, and soft-capped if shape->cap > 0. */
static double score_of(const struct plumb_attn_shape *shape, const float *q, const float *k)
{
    const double score = shape->scale * dot_key(q, k, shape->d), cap = shape->cap;
    return cap > 0.0 ? cap * tanh(score / cap) : score;
}

static int64_t first_visible(int64_t pos, int64_t window)
{
    return window > 0 && pos + 1 > window ? pos + 1 - window : 0;
}

plumb_status plumb_ref_kv_write_fwd(plumb_stream *s, float *kc, float *vc, const float *k,
                                    const float *v, const struct plumb_rows *rows, int64_t hk,
                                    int64_t d)
{
    (void)s;
    for (int64_t i = 0; i < rows->n; i++) {
        const int64_t at = rows->pos[i] % PAGE;
        const int64_t page = rows->page[rows->seq[i] * rows->max_pages + rows->pos[i] / PAGE];
        for (int64_t a = 0; a < hk; a++)
            for (int64_t e = 0; e < d; e++) {
                kc[((page * hk + a) * d + e) * PAGE + at] = k[(i * hk + a) * d + e];
                vc[((page * hk + a) * PAGE + at) * d + e] = v[(i * hk + a) * d + e];
            }
    }
    return PLUMB_OK;
}

plumb_status plumb_ref_attention_fwd(plumb_stream *s, float *o, float *lse, const float *q,
                                     const float *kc, const float *vc,
                                     const struct plumb_rows *rows,
                                     const struct plumb_attn_shape *shape)
{
    (void)s;
    const int64_t h = shape->h, d = shape->d, group = h / shape->hk;
    const struct store t = {kc, vc, rows, shape->hk, d};
    for (int64_t i = 0; i < rows->n; i++)
        for (int64_t a = 0; a < h; a++) {
            const float *qi = q + (i * h + a) * d;
            const int64_t seq = rows->seq[i], end = rows->pos[i] + 1;
            const int64_t begin = first_visible(rows->pos[i], shape->window);
            double max = -INFINITY, sum = 0.0;
            for (int64_t j = begin; j < end; j++)
                max = fmax(max, score_of(shape, qi, key(&t, seq, j, a / group)));
            for (int64_t j = begin; j < end; j++)
                sum += exp(score_of(shape, qi, key(&t, seq, j, a / group)) - max);
            const double l = max + log(sum);
            lse[i * h + a] = (float)l;
            float *oi = o + (i * h + a) * d;
            for (int64_t e = 0; e < d; e += CHUNK) {
                double out[CHUNK] = {0};
                for (int64_t j = begin; j < end; j++) {
                    const double p = exp(score_of(shape, qi, key(&t, seq, j, a / group)) - l);
                    add(out, p, value(&t, seq, j, a / group) + e, 1, d - e);
                }
                store(oi + e, out, d - e);
            }
        }
    return PLUMB_OK;
}

int64_t plumb_ref_attention_work_count(int64_t n, const struct plumb_attn_shape *shape, int threads)
{
    (void)n, (void)shape, (void)threads;
    return 0;
}

/* The attention probability p of query row i, head a and key position j, and the gradient ds of the
 * loss with respect to the scaled score before its cap. */
struct pair {
    double p, ds;
};
static struct pair pair_of(const struct store *t, const struct plumb_attn_shape *shape,
                           const float *dout, const float *o, const float *lse, const float *q,
                           int64_t i, int64_t a, int64_t j)
{
    const int64_t at = (i * shape->h + a) * shape->d, head = a / (shape->h / shape->hk);
    const int64_t seq = t->rows->seq[i];
    const double score = score_of(shape, q + at, key(t, seq, j, head)), cap = shape->cap;
    const double p = exp(score - lse[i * shape->h + a]);
    const double dp = dot(dout + at, value(t, seq, j, head), shape->d);
    const double slope = cap > 0.0 ? 1.0 - (score / cap) * (score / cap) : 1.0;
    return (struct pair){p, p * slope * (dp - dot(dout + at, o + at, shape->d))};
}

plumb_status plumb_ref_attention_bwd(plumb_stream *s, float *dq, float *dk, float *dv,
                                     const float *dout, const float *o, const float *lse,
                                     const float *q, const float *kc, const float *vc, float *work,
                                     const struct plumb_rows *rows,
                                     const struct plumb_attn_shape *shape)
{
    (void)s, (void)work;
    const int64_t h = shape->h, hk = shape->hk, d = shape->d, group = h / hk;
    const struct store t = {kc, vc, rows, hk, d};
    for (int64_t i = 0; i < rows->n; i++)
        for (int64_t a = 0; a < h; a++)
            for (int64_t e = 0; e < d; e += CHUNK) {
                double sum[CHUNK] = {0};
                for (int64_t j = first_visible(rows->pos[i], shape->window); j <= rows->pos[i]; j++)
                    add(sum, pair_of(&t, shape, dout, o, lse, q, i, a, j).ds * shape->scale,
                        key(&t, rows->seq[i], j, a / group) + e * PAGE, PAGE, d - e);
                store(dq + (i * h + a) * d + e, sum, d - e);
            }
    /* this loop computes the gradients of the key and the value of row r */
    for (int64_t r = 0; r < rows->n; r++)
        for (int64_t a = 0; a < hk; a++)
            for (int64_t e = 0; e < d; e += CHUNK) {
                const int64_t j = rows->pos[r];
                double sum_k[CHUNK] = {0}, sum_v[CHUNK] = {0};
                for (int64_t b = a * group; b < (a + 1) * group; b++)
                    for (int64_t i = r; i < rows->n && rows->seq[i] == rows->seq[r]; i++) {
                        if (j < first_visible(rows->pos[i], shape->window))
                            continue;
                        const struct pair f = pair_of(&t, shape, dout, o, lse, q, i, b, j);
                        add(sum_k, f.ds * shape->scale, q + (i * h + b) * d + e, 1, d - e);
                        add(sum_v, f.p, dout + (i * h + b) * d + e, 1, d - e);
                    }
                store(dk + (r * hk + a) * d + e, sum_k, d - e);
                store(dv + (r * hk + a) * d + e, sum_v, d - e);
            }
    return PLUMB_OK;
}

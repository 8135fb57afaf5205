/* attention_bwd.c - gradients of causal attention; recomputes the probabilities from the saved
 * log-sum-exp.
 * Layer 1 (cpu). Includes attention.h.
 *
 * One thread computes all gradients of one sequence and one kv head, so exactly one thread adds
 * each sum. dk and dv of a key block (the keys of one page) are sums over the query heads of the kv
 * head and, within a query head, over tiles of TILE rows, both in ascending order; dq is a sum over
 * key blocks in ascending order. The terms of one tile or key block are added in a chain that
 * starts at 0, and its result is added to the sum, because one long chain over all rows would lose
 * accuracy. */
#include "cpu/attention.h"

enum { TILE = 48 };

struct bwd {
    float *dq, *dk, *dv;
    const float *dout, *o, *lse, *q, *kc, *vc;
    float *dot;     /* (n,h) dot products of dout and o, per row and query head */
    float *scratch; /* scratch memory: scratch_count floats for each thread */
    int32_t *run;   /* first row of each sequence, followed by n as the end of the last one */
    int64_t scratch_count;
    const struct plumb_rows *rows;
    const struct plumb_attn_shape *shape;
};

/* The scratch memory of one thread, divided into its arrays. */
struct scratch {
    float *k, *vt, *dk, *dv; /* keys (PAGE,dp), values (d,PAGE), gradients of both (PAGE,dp) */
    float *p, *ds;           /* (TILE,PAGE) probabilities, gradients of the scores */
    float *q, *dout, *dq;    /* (TILE,dp) copies with padded rows, used when d % 16 != 0 */
    int64_t d, dp;
};

static int64_t scratch_count(int64_t d)
{
    const int64_t dp = plumb_ceil_div(d, 16) * 16;
    return 4 * PAGE * dp + 2 * TILE * PAGE + 3 * TILE * dp;
}

static struct scratch scratch_at(float *at, int64_t d)
{
    struct scratch r = {.d = d, .dp = plumb_ceil_div(d, 16) * 16};
    float **part[] = {&r.k, &r.vt, &r.dk, &r.dv, &r.p, &r.ds, &r.q, &r.dout, &r.dq};
    for (int i = 0; i < 9; i++) {
        *part[i] = at;
        at += i < 4 ? PAGE * r.dp : i < 6 ? TILE * PAGE : TILE * r.dp;
    }
    return r;
}

/* Loads `keys` keys and their values into the scratch memory, transposed: the keys are the columns
 * of kt and become the rows of r->k; the values are the rows of v and become the columns of r->vt.
 * Fills the rest of the block with zeros and clears dk and dv. */
static void load_block(struct scratch *r, const float *kt, const float *v, int64_t keys)
{
    if (keys < PAGE || r->d < r->dp)
        memset(r->k, 0, (size_t)(PAGE * r->dp) * sizeof(float));
    if (keys < PAGE)
        memset(r->vt, 0, (size_t)(PAGE * r->d) * sizeof(float));
    vec_transpose(r->k, r->dp, kt, PAGE, r->d, keys);
    vec_transpose(r->vt, PAGE, v, r->d, keys, r->d);
    memset(r->dk, 0, (size_t)(PAGE * r->dp) * sizeof(float));
    memset(r->dv, 0, (size_t)(PAGE * r->dp) * sizeof(float));
}

/* row_weights for one vector of 16 scores with a soft cap. On entry p[] holds the products s = q.k,
 * and ds[] holds dp = dout.v. With t = tanh(scale s / cap), replaces s by p = exp(cap t - lse), and
 * dp by ds = p (dp - dot) scale (1 - t^2). */
VEC_FN void capped_weights(float *p, float *ds, const struct plumb_attn_shape *shape, float lse,
                           float dot)
{
    const v16 scale = v16_set1(shape->scale), cap = v16_set1(shape->cap);
    const v16 t = v16_tanh(v16_mul(v16_mul(v16_load(p), scale), v16_set1(1.0f / shape->cap)));
    const v16 e = v16_exp(v16_fma(t, cap, v16_set1(-lse)));
    const v16 slope = v16_mul(v16_fma(v16_sub(v16_set1(0.0f), t), t, v16_set1(1.0f)), scale);
    const v16 g = v16_mul(v16_sub(v16_load(ds), v16_set1(dot)), slope);
    v16_store(p, e);
    v16_store(ds, v16_mul(e, g));
}

/* Computes p = exp(scale s - lse) and ds = p (dp - dot) scale for one row and the keys of one
 * block; with a soft cap, the formulas of capped_weights. On entry p holds the products s = q.k,
 * and ds holds dp = dout.v; dot is dout.o of the row. Both become zero outside of keys [begin, end)
 * of the block. */
VEC_FN void row_weights(float *p, float *ds, const struct plumb_attn_shape *shape, float lse,
                        float dot, int64_t begin, int64_t end)
{
    const float scale = shape->scale;
    for (int w = 0; w < 32; w += 16) {
        if (shape->cap > 0.0f) {
            capped_weights(p + w, ds + w, shape, lse, dot);
            continue;
        }
        const v16 s = v16_fma(v16_load(p + w), v16_set1(scale), v16_set1(-lse));
        const v16 e = v16_exp(s);
        const v16 g = v16_mul(v16_sub(v16_load(ds + w), v16_set1(dot)), v16_set1(scale));
        v16_store(p + w, e);
        v16_store(ds + w, v16_mul(e, g));
    }
    for (int64_t j = 0; j < begin; j++)
        p[j] = ds[j] = 0.0f;
    for (int64_t j = end; j < PAGE; j++)
        p[j] = ds[j] = 0.0f;
}

static void copy_rows(float *to, int64_t ldt, const float *from, int64_t ldf, int64_t rows,
                      int64_t d)
{
    for (int64_t i = 0; i < rows; i++)
        memcpy(to + i * ldt, from + i * ldf, (size_t)d * sizeof(float));
}

/* Adds the gradients of the scores of query head a in rows [i, i + rows) with the key block that
 * begins at position `first`: to b->dq, and to the block's dk and dv in r. `start` is the first row
 * of the sequence. */
static void tile(const struct bwd *b, struct scratch *r, const float *kt, int64_t start, int64_t i,
                 int64_t rows, int64_t a, int64_t first)
{
    const int64_t h = b->shape->h, d = r->d, dp = r->dp, at = ((start + i) * h + a) * d;
    const float *q = b->q + at, *dout = b->dout + at;
    float *dq = b->dq + at;
    int64_t ld = h * d;
    if (d % 16) { /* a full vector of 16 floats at the end of a row would overwrite the next head */
        copy_rows(r->q, dp, q, ld, rows, d);
        copy_rows(r->dout, dp, dout, ld, rows, d);
        copy_rows(r->dq, dp, dq, ld, rows, d);
        q = r->q, dout = r->dout, dq = r->dq, ld = dp;
    }
    mm(r->p, PAGE, (struct mat){q, ld, 1}, kt, PAGE, rows, PAGE, d, MM_SET);
    mm(r->ds, PAGE, (struct mat){dout, ld, 1}, r->vt, PAGE, rows, PAGE, d, MM_SET);
    for (int64_t m = 0; m < rows; m++) {
        int64_t begin, end;
        visible(first, i + m, b->shape->window, &begin, &end);
        row_weights(r->p + m * PAGE, r->ds + m * PAGE, b->shape, b->lse[(start + i + m) * h + a],
                    b->dot[(start + i + m) * h + a], begin, end);
    }
    mm(r->dv, dp, (struct mat){r->p, 1, PAGE}, dout, ld, PAGE, dp, rows, MM_ADD);
    mm(r->dk, dp, (struct mat){r->ds, 1, PAGE}, q, ld, PAGE, dp, rows, MM_ADD);
    mm(dq, ld, (struct mat){r->ds, PAGE, 1}, r->k, dp, rows, dp, PAGE, MM_ADD);
    if (d % 16)
        copy_rows(b->dq + at, h * d, dq, dp, rows, d);
}

static void clear_rows(const struct bwd *b, int64_t begin, int64_t end, int64_t first_head,
                       int64_t heads)
{
    const int64_t h = b->shape->h, d = b->shape->d;
    for (int64_t i = begin; i < end; i++)
        for (int64_t a = first_head; a < first_head + heads; a++) {
            const float *dout = b->dout + (i * h + a) * d, *o = b->o + (i * h + a) * d;
            v16 sum = v16_set1(0.0f);
            for (int64_t e = 0; e < d; e += 16) {
                const int n = (int)plumb_min_i64(16, d - e);
                sum = v16_fma(v16_load_n(dout + e, n), v16_load_n(o + e, n), sum);
            }
            b->dot[i * h + a] = v16_sum(sum);
            memset(b->dq + (i * h + a) * d, 0, (size_t)d * sizeof(float));
        }
}

static void units(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct bwd *b = arg;
    const int64_t hk = b->shape->hk, group = b->shape->h / hk, d = b->shape->d;
    const int64_t window = b->shape->window;
    struct scratch r = scratch_at(b->scratch + thread * b->scratch_count, d);
    for (int64_t u = begin; u < end; u++) {
        const int64_t g = u % hk, start = b->run[u / hk], len = b->run[u / hk + 1] - start;
        const int32_t *page = b->rows->page + b->rows->seq[start] * b->rows->max_pages;
        clear_rows(b, start, start + len, g * group, group);
        for (int64_t first = 0; first < len; first += PAGE) {
            const int64_t at = (page[first / PAGE] * hk + g) * PAGE * d;
            const int64_t keys = plumb_min_i64(PAGE, len - first);
            const int64_t past = window > 0 ? plumb_min_i64(len, first + keys - 1 + window) : len;
            load_block(&r, b->kc + at, b->vc + at, keys);
            for (int64_t a = g * group; a < (g + 1) * group; a++)
                for (int64_t i = first; i < past; i += TILE)
                    tile(b, &r, b->kc + at, start, i, plumb_min_i64(TILE, past - i), a, first);
            copy_rows(b->dk + ((start + first) * hk + g) * d, hk * d, r.dk, r.dp, keys, d);
            copy_rows(b->dv + ((start + first) * hk + g) * d, hk * d, r.dv, r.dp, keys, d);
        }
    }
}

static int64_t aligned(int64_t count)
{
    return plumb_ceil_div(count, 64) * 64;
}

int64_t PLUMB_CPU(attention_work_count)(int64_t n, const struct plumb_attn_shape *shape,
                                        int threads)
{
    return aligned(n + 1) + aligned(n * shape->h) + threads * aligned(scratch_count(shape->d));
}

plumb_status PLUMB_CPU(attention_bwd)(plumb_stream *s, float *dq, float *dk, float *dv,
                                      const float *dout, const float *o, const float *lse,
                                      const float *q, const float *kc, const float *vc, float *work,
                                      const struct plumb_rows *rows,
                                      const struct plumb_attn_shape *shape)
{
    const int64_t n = rows->n;
    struct bwd b = {dq, dk, dv, dout, o, lse, q, kc, vc, NULL, NULL, NULL, 0, rows, shape};
    b.run = (int32_t *)(void *)work;
    b.dot = work + aligned(n + 1);
    b.scratch = b.dot + aligned(n * shape->h);
    b.scratch_count = aligned(scratch_count(shape->d));
    int64_t runs = 0;
    for (int64_t i = 0; i < n; i = run_end(rows, i, n))
        b.run[runs++] = (int32_t)i;
    b.run[runs] = (int32_t)n;
    const int64_t items = runs * shape->hk;
    split(s, items, n / plumb_max_i64(1, runs) * n / plumb_max_i64(1, runs) * shape->d, units, &b);
    return PLUMB_OK;
}

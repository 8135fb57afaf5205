/* attention.c - causal attention over a paged KV cache with an online softmax, page by page, and
 * the kernel that writes keys and values into their pages. Layer 1 (cpu). Includes attention.h.
 *
 * A thread computes a range of consecutive rows for one kv head. It groups the (row, query head)
 * pairs of one sequence into tiles, because all pairs of a tile use the same keys and values: each
 * page is loaded once per tile. The result of a pair is one chain of operations over the keys that
 * it attends to, page by page, so it does not depend on how rows are divided into tiles, threads
 * and batches. */
#include "cpu/attention.h"

enum { TILE_FLOATS = 3072, TILE_PAIRS = 96, UNIT_ROWS = 48, GROUP = 8 };

struct fwd {
    float *o, *lse;
    const float *q, *kc, *vc;
    const struct plumb_rows *rows;
    const struct plumb_attn_shape *shape;
    int64_t unit_rows;
};

/* A tile: (row, query head) pairs of one sequence that are processed together, page by page. A run
 * is a sequence's adjacent rows. The pairs of a run and one kv head are numbered row by row: pair m
 * belongs to row m / group of the run and to query head m % group of the kv head, with group = h /
 * hk. Pair p of the tile is pair begin + p, where `begin` is the argument of run_tile. */
struct tile {
    float q[TILE_FLOATS];       /* (pairs,d) queries, multiplied by the scale */
    float o[TILE_FLOATS];       /* (pairs,dp) running sums of the output */
    float s[TILE_PAIRS * PAGE]; /* scores of one page, then their softmax weights */
    /* a page of values whose rows are padded from d to dp floats; used if d % 16 != 0 */
    float v[PAGE * ATTN_MAX_D];
    v16 sum[TILE_PAIRS]; /* running sum of the softmax weights, one per lane */
    float max[TILE_PAIRS];
    int32_t pos[TILE_PAIRS];
    int64_t pairs, d, dp;
    float cap; /* soft cap of the scores; 0: none */
};

/* Replaces the scores s (PAGE,) of one pair and the keys of one page by cap tanh(score / cap). */
VEC_FN void cap_scores(float *s, float cap)
{
    for (int w = 0; w < PAGE; w += 16) {
        const v16 x = v16_mul(v16_load(s + w), v16_set1(1.0f / cap));
        v16_store(s + w, v16_mul(v16_tanh(x), v16_set1(cap)));
    }
}

/* One step of the online softmax for pair p: replaces the scores of one page by their weights and
 * updates the pair's running maximum, weight sum and output. */
VEC_FN void softmax_step(struct tile *t, int64_t p)
{
    float *s = t->s + p * PAGE, *o = t->o + p * t->dp;
    const v16 s0 = v16_load(s), s1 = v16_load(s + 16);
    const float block = v16_hmax(v16_max(s0, s1)), before = t->max[p];
    const float max = block > before ? block : before;
    const v16 m = v16_set1(max);
    const v16 p0 = v16_exp(v16_sub(s0, m)), p1 = v16_exp(v16_sub(s1, m));
    v16_store(s, p0);
    v16_store(s + 16, p1);
    /* If the maximum did not change, shrink is exactly 1. Testing for this would take longer than
     * the multiplication. */
    const v16 shrink = v16_exp(v16_sub(v16_set1(before), m));
    for (int64_t e = 0; e < t->dp; e += 16)
        v16_store(o + e, v16_mul(v16_load(o + e), shrink));
    t->max[p] = max;
    t->sum[p] = v16_add(v16_mul(t->sum[p], shrink), v16_add(p0, p1));
}

/* Adds the values of keys [begin, end) of the page, weighted by the softmax weights in t->s, to the
 * output of (row, head) pair p. */
static void add_values(struct tile *t, int64_t p, const float *v, int64_t ldv, int64_t begin,
                       int64_t end)
{
    if (begin < end)
        mm(t->o + p * t->dp, t->dp, (struct mat){t->s + p * PAGE + begin, PAGE, 1}, v + begin * ldv,
           ldv, 1, t->dp, end - begin, true);
}

/* Processes one page for pairs [p, p + n) of the tile, n <= GROUP. `first` is the position of the
 * page's first key. */
static void advance_group(struct tile *t, const float *kt, const float *v, int64_t ldv, int64_t p,
                          int64_t n, int64_t first, int64_t window)
{
    const int64_t d = t->d, dp = t->dp;
    float *s = t->s + p * PAGE, *o = t->o + p * dp;
    /* [from, to): keys of the page that all n pairs attend to; none if to <= from */
    int64_t begin[GROUP], end[GROUP], from = 0, to = PAGE;
    bool any = false;
    for (int64_t i = 0; i < n; i++) {
        visible(first, t->pos[p + i], window, &begin[i], &end[i]);
        from = plumb_max_i64(from, begin[i]);
        to = plumb_min_i64(to, end[i]);
        any |= begin[i] < end[i];
    }
    if (!any)
        return;
    mm(s, PAGE, (struct mat){t->q + p * d, d, 1}, kt, PAGE, n, PAGE, d, MM_SET);
    for (int64_t i = 0; i < n; i++) {
        if (begin[i] == end[i])
            continue;
        if (t->cap > 0.0f)
            cap_scores(s + i * PAGE, t->cap);
        for (int64_t j = 0; j < begin[i]; j++)
            s[i * PAGE + j] = -INFINITY;
        for (int64_t j = end[i]; j < PAGE; j++)
            s[i * PAGE + j] = -INFINITY;
        softmax_step(t, p + i);
    }
    to = plumb_max_i64(from, to);
    for (int64_t i = 0; i < n; i++)
        add_values(t, p + i, v, ldv, begin[i], plumb_min_i64(from, end[i]));
    if (from < to)
        mm(o, dp, (struct mat){s + from, PAGE, 1}, v + from * ldv, ldv, n, dp, to - from, MM_CHAIN);
    for (int64_t i = 0; i < n; i++)
        add_values(t, p + i, v, ldv, plumb_max_i64(to, begin[i]), end[i]);
}

/* Processes the page whose first key is at position `first` for all pairs of the tile. */
static void advance(struct tile *t, const float *kt, const float *v, int64_t first, int64_t window)
{
    int64_t ldv = t->d;
    if (t->d % 16) {
        int64_t begin, end;
        visible(first, t->pos[t->pairs - 1], 0, &begin, &end);
        for (int64_t j = 0; j < end; j++)
            memcpy(t->v + j * t->dp, v + j * t->d, (size_t)t->d * sizeof(*v));
        v = t->v;
        ldv = t->dp;
    }
    for (int64_t p = 0; p < t->pairs; p += GROUP)
        advance_group(t, kt, v, ldv, p, plumb_min_i64(GROUP, t->pairs - p), first, window);
}

/* Prefetches the next page's keys and values of one head while the current page is processed. */
VEC_FN void fetch(const float *kt, const float *v, int64_t d)
{
    for (int64_t i = 0; i < d * PAGE; i += 16) {
        __builtin_prefetch(kt + i);
        __builtin_prefetch(v + i);
    }
}

/* Computes o and lse of pairs [begin, begin + t->pairs) of kv head `head`. Pair 0 is the first pair
 * of row `row`, the first row of a run (struct tile). */
static void run_tile(const struct fwd *f, struct tile *t, int64_t row, int64_t head, int64_t begin)
{
    const struct plumb_attn_shape *shape = f->shape;
    const int64_t h = shape->h, hk = shape->hk, d = shape->d, group = h / hk, dp = t->dp;
    const int32_t *page = f->rows->page + f->rows->seq[row] * f->rows->max_pages;
    for (int64_t p = 0; p < t->pairs; p++) {
        const int64_t i = row + (begin + p) / group, a = head * group + (begin + p) % group;
        for (int64_t e = 0; e < d; e++)
            t->q[p * d + e] = f->q[(i * h + a) * d + e] * shape->scale;
        for (int64_t e = 0; e < dp; e += 16)
            v16_store(t->o + p * dp + e, v16_set1(0.0f));
        t->sum[p] = v16_set1(0.0f);
        t->max[p] = -INFINITY;
        t->pos[p] = f->rows->pos[i];
    }
    const int64_t last = t->pos[t->pairs - 1] / PAGE, low = t->pos[0] + 1 - shape->window;
    const int64_t step = PAGE * d;
    for (int64_t b = shape->window > 0 && low > 0 ? low / PAGE : 0; b <= last; b++) {
        const int64_t at = (page[b] * hk + head) * step;
        if (t->pairs <= 8 && b < last) {
            const int64_t next = (page[b + 1] * hk + head) * step;
            fetch(f->kc + next, f->vc + next, d);
        }
        advance(t, f->kc + at, f->vc + at, b * PAGE, shape->window);
    }
    for (int64_t p = 0; p < t->pairs; p++) {
        const int64_t i = row + (begin + p) / group, a = head * group + (begin + p) % group;
        const float sum = v16_sum(t->sum[p]);
        for (int64_t e = 0; e < d; e++)
            f->o[(i * h + a) * d + e] = t->o[p * dp + e] / sum;
        f->lse[i * h + a] = (float)((double)t->max[p] + log((double)sum));
    }
}

static void units(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct fwd *f = arg;
    const int64_t hk = f->shape->hk, group = f->shape->h / hk, d = f->shape->d;
    struct tile t;
    t.d = d;
    t.dp = plumb_ceil_div(d, 16) * 16;
    t.cap = f->shape->cap;
    if (d % 16)
        memset(t.v, 0, (size_t)(PAGE * t.dp) * sizeof(float));
    const int64_t most = plumb_max_i64(1, plumb_min_i64(TILE_PAIRS, TILE_FLOATS / t.dp));
    (void)thread;
    for (int64_t u = begin; u < end; u++) {
        const int64_t head = u % hk, first = u / hk * f->unit_rows;
        const int64_t last = plumb_min_i64(first + f->unit_rows, f->rows->n);
        for (int64_t i = first, e; i < last; i = e) {
            e = run_end(f->rows, i, last);
            for (int64_t p = 0; p < (e - i) * group; p += most) {
                t.pairs = plumb_min_i64(most, (e - i) * group - p);
                run_tile(f, &t, i, head, p);
            }
        }
    }
}

plumb_status PLUMB_CPU(attention_fwd)(plumb_stream *s, float *o, float *lse, const float *q,
                                      const float *kc, const float *vc,
                                      const struct plumb_rows *rows,
                                      const struct plumb_attn_shape *shape)
{
    if (shape->d > ATTN_MAX_D)
        return plumb_ref_attention_fwd(s, o, lse, q, kc, vc, rows, shape);
    struct fwd f = {o, lse, q, kc, vc, rows, shape, UNIT_ROWS};
    while (f.unit_rows > 1 &&
           plumb_ceil_div(rows->n, f.unit_rows) * shape->hk < 4 * split_threads(s))
        f.unit_rows /= 2;
    int64_t keys = 0;
    for (int64_t i = 0; i < rows->n; i++)
        keys += rows->pos[i] + 1;
    const int64_t n = plumb_ceil_div(rows->n, f.unit_rows) * shape->hk;
    split(s, n, keys / plumb_max_i64(1, n) * shape->h * shape->d, units, &f);
    return PLUMB_OK;
}

struct write {
    float *kc, *vc;
    const float *k, *v;
    const struct plumb_rows *rows;
    int64_t hk, d;
};

static void write_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct write *w = arg;
    const struct plumb_rows *rows = w->rows;
    const int64_t hk = w->hk, d = w->d;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const int64_t at = rows->pos[i] % PAGE;
        const int64_t page = rows->page[rows->seq[i] * rows->max_pages + rows->pos[i] / PAGE];
        for (int64_t a = 0; a < hk; a++) {
            float *kt = w->kc + (page * hk + a) * d * PAGE + at;
            const float *k = w->k + (i * hk + a) * d;
            for (int64_t e = 0; e < d; e++)
                kt[e * PAGE] = k[e];
            memcpy(w->vc + ((page * hk + a) * PAGE + at) * d, w->v + (i * hk + a) * d,
                   (size_t)d * sizeof(float));
        }
    }
}

plumb_status PLUMB_CPU(kv_write_fwd)(plumb_stream *s, float *kc, float *vc, const float *k,
                                     const float *v, const struct plumb_rows *rows, int64_t hk,
                                     int64_t d)
{
    struct write w = {kc, vc, k, v, rows, hk, d};
    split(s, rows->n, 8 * hk * d, write_rows, &w);
    return PLUMB_OK;
}

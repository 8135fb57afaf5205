/* check_attention.c - checks the kernels of the KV store and of attention. A row must have the same
 * bits in training, prefill and decoding.
 * Test. */
#include <string.h>

#include "check.h"

/* Heads of up to SMALL elements are checked with every kind of input, larger heads only with
 * RANDOM. */
enum { PAGE = PLUMB_KV_PAGE, SEQS = 4, PAGES = 24, SMALL = 20 };

/* The inputs of one case: SEQS complete sequences, with q, k and v of all their rows. */
struct world {
    int64_t len[SEQS], start[SEQS], n;
    struct plumb_attn_shape shape;
    const float *q, *k, *v; /* arrays of all rows, (n,...), one sequence after another */
};

/* The rows of a world that one call of a kernel computes, and a KV store. */
struct scene {
    struct plumb_rows rows;
    int32_t *seq, *pos, *page;
    float *kc, *vc;
};

static struct world world_of(struct check *c, int64_t h, int64_t hk, int64_t d, int64_t window,
                             float cap, enum kind kind)
{
    static const int64_t len[SEQS] = {1, 33, 75, 32};
    struct world w = {.shape = {h, hk, d, 1.0f / sqrtf((float)d), cap, window}};
    for (int i = 0; i < SEQS; i++) {
        w.start[i] = w.n;
        w.len[i] = len[i];
        w.n += len[i];
    }
    w.q = check_in(c, w.n * h * d, kind);
    w.k = check_in(c, w.n * hk * d, kind == ZERO ? RANDOM : kind);
    w.v = check_in(c, w.n * hk * d, RANDOM);
    return w;
}

/* Appends positions [begin, end) of sequence i to the rows of the scene. */
static void add_rows(struct scene *s, int i, int64_t begin, int64_t end)
{
    for (int64_t p = begin; p < end; p++) {
        s->seq[s->rows.n] = i;
        s->pos[s->rows.n++] = (int32_t)p;
    }
}

/* Returns a scene without rows. The order of its pages depends on `order`, and the pages contain
 * NaN. */
static struct scene scene_of(struct check *c, const struct world *w, uint64_t order)
{
    const int64_t hk = w->shape.hk, d = w->shape.d;
    struct scene s = {.rows = {.n_seq = SEQS, .max_pages = PAGES / SEQS}};
    s.seq = check_bytes(c, w->n * 4);
    s.pos = check_bytes(c, w->n * 4);
    s.page = check_bytes(c, PAGES * 4);
    s.kc = check_out(c, PAGES * hk * d * PAGE);
    s.vc = check_out(c, PAGES * hk * d * PAGE);
    for (int i = 0; i < PAGES; i++)
        s.page[i] = (int32_t)((i * 7 + (int)order * 5) % PAGES);
    s.rows.seq = s.seq;
    s.rows.pos = s.pos;
    s.rows.page = s.page;
    return s;
}

/* Returns the scene's rows of x (n,width), an array of the world. */
static float *pick(struct check *c, const struct world *w, const struct scene *s, const float *x,
                   int64_t width)
{
    float *y = check_out(c, s->rows.n * width);
    for (int64_t i = 0; i < s->rows.n; i++)
        memcpy(y + i * width, x + (w->start[s->seq[i]] + s->pos[i]) * width, (size_t)width * 4);
    check_freeze(c, y);
    return y;
}

/* Writes the keys and values of positions [0, end) of sequence i to the store. */
static void write_keys(struct check *c, const struct world *w, struct scene *s, int i, int64_t end)
{
    const int64_t width = w->shape.hk * w->shape.d, keep = s->rows.n;
    s->rows.n = 0;
    add_rows(s, i, 0, end);
    CHECK_OK(c->k.kv_write_fwd(c->s, s->kc, s->vc, w->k + w->start[i] * width,
                               w->v + w->start[i] * width, &s->rows, w->shape.hk, w->shape.d));
    s->rows.n = keep;
}

static struct scene training(struct check *c, const struct world *w)
{
    struct scene s = scene_of(c, w, 1);
    for (int i = 0; i < SEQS; i++)
        write_keys(c, w, &s, i, w->len[i]);
    s.rows.n = 0;
    for (int i = 0; i < SEQS; i++)
        add_rows(&s, i, 0, w->len[i]);
    return s;
}

/* Checks that row r of the results o and lse has the bits of position p of sequence i in the
 * results of the whole world. */
static void same_row(struct check *c, const struct world *w, const char *what, const float *o,
                     const float *lse, const float *want_o, const float *want_lse, int i, int64_t p,
                     int64_t r)
{
    const int64_t h = w->shape.h, width = h * w->shape.d, at = w->start[i] + p;
    check_same(c, what, o + r * width, want_o + at * width, width * 4);
    check_same(c, what, lse + r * h, want_lse + at * h, h * 4);
}

/* Checks that positions [begin, end) of sequence i have the same bits if the KV store has no keys
 * from position `end` on. */
static void partial(struct check *c, const struct world *w, const char *what, const float *want_o,
                    const float *want_lse, int i, int64_t begin, int64_t end)
{
    const int64_t h = w->shape.h, d = w->shape.d;
    const int mark = c->n_held;
    struct scene s = scene_of(c, w, (uint64_t)(2 + begin % 3));
    write_keys(c, w, &s, i, end);
    s.rows.n = 0;
    add_rows(&s, i, begin, end);
    const float *q = pick(c, w, &s, w->q, h * d);
    float *o = check_out(c, s.rows.n * h * d), *lse = check_out(c, s.rows.n * h);
    CHECK_OK(c->k.attention_fwd(c->s, o, lse, q, s.kc, s.vc, &s.rows, &w->shape));
    for (int64_t r = 0; r < s.rows.n; r++)
        same_row(c, w, what, o, lse, want_o, want_lse, i, begin + r, r);
    for (; c->n_held > mark; c->n_held--) {
        free(c->held[c->n_held - 1].copy);
        free(c->held[c->n_held - 1].memory);
    }
}

/* Checks a decode step of all sequences together, and the training batch with the sequences in
 * another order. */
static void mixed(struct check *c, const struct world *w, const float *want_o,
                  const float *want_lse)
{
    const int64_t h = w->shape.h, d = w->shape.d;
    struct scene s = scene_of(c, w, 3);
    for (int i = 0; i < SEQS; i++)
        write_keys(c, w, &s, i, w->len[i]);
    for (int part = 0; part < 2; part++) {
        s.rows.n = 0;
        for (int i = SEQS - 1; i >= 0; i--)
            add_rows(&s, i, part == 0 ? w->len[i] - 1 : 0, w->len[i]);
        const float *q = pick(c, w, &s, w->q, h * d);
        float *o = check_out(c, s.rows.n * h * d), *lse = check_out(c, s.rows.n * h);
        CHECK_OK(c->k.attention_fwd(c->s, o, lse, q, s.kc, s.vc, &s.rows, &w->shape));
        for (int64_t r = 0; r < s.rows.n; r++)
            same_row(c, w, part == 0 ? "decode batch" : "other order", o, lse, want_o, want_lse,
                     s.seq[r], s.pos[r], r);
    }
}

static const struct {
    int64_t h, hk, d, window;
    float cap;
} shape[] = {{1, 1, 16, 0, 0},    {2, 2, 64, 0, 0},  {6, 2, 12, 0, 0},    {4, 1, 20, 40, 0},
             {3, 3, 33, 5, 0},    {8, 1, 128, 0, 0}, {2, 1, 2, 1, 0},     {2, 1, 160, 50, 0},
             {6, 2, 12, 0, 1.5f}, {2, 1, 20, 7, 4},  {4, 2, 64, 0, 0.7f}, {2, 1, 96, 0, 5}};
#define EACH(i, list) for (size_t i = 0; i < sizeof(list) / sizeof(*(list)); i++)

void check_kv_write_fwd(struct check *c)
{
    EACH(i, shape)
    {
        const int64_t hk = shape[i].hk, d = shape[i].d, width = hk * d;
        const struct world w = world_of(c, shape[i].h, hk, d, 0, 0.0f, RANDOM);
        check_at(c, "hk %lld d %lld", (long long)hk, (long long)d);
        struct scene s = training(c, &w);
        float *kc = check_out(c, PAGES * width * PAGE), *vc = check_out(c, PAGES * width * PAGE);
        CHECK_OK(c->ref.kv_write_fwd(NULL, kc, vc, w.k, w.v, &s.rows, hk, d));
        check_same(c, "kc", s.kc, kc, PAGES * width * PAGE * 4);
        check_same(c, "vc", s.vc, vc, PAGES * width * PAGE * 4);
        /* Checks the layout that kernels.h defines with the last row of the last sequence. */
        const int64_t r = w.n - 1, pos = s.pos[r], page = s.page[3 * s.rows.max_pages + pos / PAGE];
        CHECK(kc[((page * hk + hk - 1) * d + d - 1) * PAGE + pos % PAGE] == w.k[w.n * width - 1]);
        CHECK(vc[((page * hk + hk - 1) * PAGE + pos % PAGE) * d + d - 1] == w.v[w.n * width - 1]);
        check_done(c);
    }
}

void check_attention_fwd(struct check *c)
{
    /* keeps scores below 100; with larger scores, their rounding would change the weights */
    c->huge = 3.0f;
    EACH(i, shape) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t h = shape[i].h, d = shape[i].d;
        if (kind != RANDOM && d > SMALL)
            continue;
        check_at(c, "h %lld hk %lld d %lld window %lld cap %g kind %d", (long long)h,
                 (long long)shape[i].hk, (long long)d, (long long)shape[i].window,
                 (double)shape[i].cap, kind);
        const struct world w =
            world_of(c, h, shape[i].hk, d, shape[i].window, shape[i].cap, (enum kind)kind);
        struct scene s = training(c, &w);
        float *o = check_out(c, w.n * h * d), *lse = check_out(c, w.n * h);
        float *want = check_out(c, w.n * h * d), *want_lse = check_out(c, w.n * h);
        CHECK_OK(c->k.attention_fwd(c->s, o, lse, w.q, s.kc, s.vc, &s.rows, &w.shape));
        check_digest(c, o, w.n * h * d * 4);
        check_digest(c, lse, w.n * h * 4);
        if (c->threads == 1) {
            CHECK_OK(
                c->ref.attention_fwd(NULL, want, want_lse, w.q, s.kc, s.vc, &s.rows, &w.shape));
            check_stored(c, "o", o, want, w.n * h * d, 1e-5, 1e-5);
            check_close(c, "lse", lse, want_lse, w.n * h, 2e-6, 2e-6);
        }
        if (kind == RANDOM) {
            for (int64_t p = 0; p < w.len[2]; p += 1 + p % 3)
                partial(c, &w, "decoded row", o, lse, 2, p, p + 1);
            partial(c, &w, "prefill", o, lse, 2, 0, 40);
            partial(c, &w, "later chunk", o, lse, 2, 17, 70);
            partial(c, &w, "one row", o, lse, 0, 0, 1);
            mixed(c, &w, o, lse);
        }
        check_done(c);
    }
}

void check_attention_work_count(struct check *c)
{
    EACH(i, shape)
    {
        const struct plumb_attn_shape s = {shape[i].h, shape[i].hk, shape[i].d, 1.0f, 0, 0};
        CHECKF(c->k.attention_work_count(99, &s, c->threads) <=
                   c->k.attention_work_count(100, &s, c->threads),
               "%s", c->at);
    }
}

void check_attention_bwd(struct check *c)
{
    c->huge = 3.0f;
    c->floor = 1.0; /* with equal keys, the gradients of the scores cancel */
    EACH(i, shape) for (int kind = 0; kind < KINDS; kind++)
    {
        const int64_t h = shape[i].h, hk = shape[i].hk, d = shape[i].d;
        if (kind != RANDOM && d > SMALL)
            continue;
        check_at(c, "h %lld hk %lld d %lld window %lld cap %g kind %d", (long long)h, (long long)hk,
                 (long long)d, (long long)shape[i].window, (double)shape[i].cap, kind);
        const struct world w =
            world_of(c, h, hk, d, shape[i].window, shape[i].cap, (enum kind)kind);
        struct scene s = training(c, &w);
        const float *dout = check_in(c, w.n * h * d, RANDOM);
        float *o = check_out(c, w.n * h * d), *lse = check_out(c, w.n * h);
        CHECK_OK(c->k.attention_fwd(c->s, o, lse, w.q, s.kc, s.vc, &s.rows, &w.shape));
        check_freeze(c, o);
        check_freeze(c, lse);
        check_freeze(c, s.kc);
        check_freeze(c, s.vc);
        float *dq = check_out(c, w.n * h * d), *dk = check_out(c, w.n * hk * d);
        float *dv = check_out(c, w.n * hk * d);
        float *work = check_out(c, c->k.attention_work_count(w.n, &w.shape, c->threads));
        CHECK_OK(c->k.attention_bwd(c->s, dq, dk, dv, dout, o, lse, w.q, s.kc, s.vc, work, &s.rows,
                                    &w.shape));
        check_digest(c, dq, w.n * h * d * 4);
        check_digest(c, dk, w.n * hk * d * 4);
        check_digest(c, dv, w.n * hk * d * 4);
        if (c->threads == 1) {
            float *want_q = check_out(c, w.n * h * d), *want_k = check_out(c, w.n * hk * d);
            float *want_v = check_out(c, w.n * hk * d);
            CHECK_OK(c->ref.attention_bwd(NULL, want_q, want_k, want_v, dout, o, lse, w.q, s.kc,
                                          s.vc, NULL, &s.rows, &w.shape));
            check_stored(c, "dq", dq, want_q, w.n * h * d, 1e-5, 1e-5);
            check_stored(c, "dk", dk, want_k, w.n * hk * d, 1e-5, 1e-5);
            check_stored(c, "dv", dv, want_v, w.n * hk * d, 1e-5, 1e-5);
        }
        check_done(c);
    }
}

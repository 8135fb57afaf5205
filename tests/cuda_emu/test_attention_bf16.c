/* test_attention_bf16.c - compares attention on tensor cores with sums in double. Each element must
 * be within a bound on its rounding errors. Also checks that training, prefill and decoding give
 * the same bits.
 * Test. Includes gpu.h, cuda/cuda.h. */
#include "cuda/cuda.h"
#include "gpu.h"

/* STEP: distance between consecutive pages of a sequence in the store */
enum { PAGE = PLUMB_KV_PAGE, SEQS = 4, STEP = 11 };
enum kind { ONES, TINY, LARGE, ZERO, SPIKE, RANDOM, KINDS };
/* this byte in every position is NaN in bfloat16 and in float32 */
static const unsigned FILL = 0xff;

#ifdef PLUMB_CUDA_EMU
#include <cuda_runtime_api.h>
int64_t plumb_emu_bank_conflicts(void);
static const unsigned seeds[] = {0, 1, 2};
#else
static void plumb_emu_seed(unsigned seed)
{
    (void)seed;
}
static int64_t plumb_emu_bank_conflicts(void)
{
    return 0;
}
static const unsigned seeds[] = {0, 1};
#endif
enum { ORDERS = sizeof(seeds) / sizeof(*seeds) };

static float widen(plumb_bf16 x)
{
    const uint32_t u = (uint32_t)x.bits << 16;
    float f;
    memcpy(&f, &u, sizeof(f));
    return f;
}
static plumb_bf16 narrow(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof(u));
    return (plumb_bf16){(uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}

/* ---- worlds: the inputs of one test case, whole sequences ------------------------------------ */

struct world {
    struct plumb_attn_shape shape;
    int64_t len[SEQS], start[SEQS], n, max_pages;
    plumb_bf16 *q, *k, *v, *dout; /* arrays of all rows, (n,...), one sequence after another */
};

static plumb_bf16 *numbers(struct rng *r, int64_t n, enum kind kind)
{
    plumb_bf16 *x = malloc((size_t)n * sizeof(*x));
    CHECK(x);
    for (int64_t i = 0; i < n; i++) {
        const float f = rng_f(r, -1.0f, 1.0f);
        const float of[KINDS] = {1.0f, f * 1e-20f, f * 6.0f, 0.0f, i % 37 == 5 ? 20.0f : f, f};
        x[i] = narrow(of[kind]);
    }
    return x;
}

static struct world world_of(const struct plumb_attn_shape *shape, const int64_t len[SEQS],
                             enum kind kind)
{
    struct world w = {.shape = *shape};
    struct rng r = {(uint64_t)(shape->h * 1000 + shape->d * 10 + kind + 1)};
    for (int i = 0; i < SEQS; i++) {
        w.start[i] = w.n;
        w.len[i] = len[i];
        w.n += len[i];
        if (len[i] / PAGE >= w.max_pages)
            w.max_pages = len[i] / PAGE + 1;
    }
    w.max_pages += w.max_pages % STEP == 0 ? 1 : 0;
    w.shape.scale = 1.0f / sqrtf((float)shape->d);
    w.q = numbers(&r, w.n * shape->h * shape->d, kind);
    w.k = numbers(&r, w.n * shape->hk * shape->d, kind == ZERO ? RANDOM : kind);
    w.v = numbers(&r, w.n * shape->hk * shape->d, RANDOM);
    w.dout = numbers(&r, w.n * shape->h * shape->d, RANDOM);
    return w;
}

static void world_fini(struct world *w)
{
    free(w->q);
    free(w->k);
    free(w->v);
    free(w->dout);
}

/* ---- attention by its definition, in double, and a bound on the rounding errors
 * ---------------- */

/* want: the exact sum. size: the sum of the magnitudes of its terms. before: the sum of the
 * magnitudes of values that cancel within the terms. */
struct sum {
    double want, size, before;
};
static void add(struct sum *s, double x, double before)
{
    s->want += x;
    s->size += fabs(x);
    s->before += fabs(before);
}

static double dot(const plumb_bf16 *a, const plumb_bf16 *b, int64_t d)
{
    double sum = 0.0;
    for (int64_t e = 0; e < d; e++)
        sum += (double)widen(a[e]) * widen(b[e]);
    return sum;
}
static double dot_size(const plumb_bf16 *a, const plumb_bf16 *b, int64_t d)
{
    double sum = 0.0;
    for (int64_t e = 0; e < d; e++)
        sum += fabs((double)widen(a[e]) * widen(b[e]));
    return sum;
}

/* Checks that `got` is within the rounding bound of the sum. Each term contains the rounding of p
 * or ds to bfloat16 (2^-8) and the float32 error of scores of up to some hundreds. The values that
 * cancel (before) contain the error of a float32 sum over d. The result is rounded once. */
static void near(const char *what, double got, struct sum s, double scale, int64_t at)
{
    const double bound = 0x1p-8 * fabs(s.want) * scale + 0x1.1p-8 * s.size * scale +
                         0x1p-20 * s.before * scale + 1e-38;
    CHECKF(fabs(got - s.want * scale) <= bound, "%s at %lld: %g, not %g +- %g", what, (long long)at,
           got, s.want * scale, bound);
}

struct result {
    plumb_bf16 *o, *dq, *dk, *dv;
    float *lse;
};

/* sequence_of returns the first row of the sequence that row i belongs to. The next function
 * returns the first row that row i attends to. */
static int64_t sequence_of(const struct world *w, int64_t i)
{
    int seq = SEQS - 1;
    while (w->start[seq] > i)
        seq--;
    return w->start[seq];
}
static int64_t first_seen(const struct world *w, int64_t i)
{
    const int64_t start = sequence_of(w, i), window = w->shape.window;
    return window > 0 && i - start + 1 > window ? i + 1 - window : start;
}

/* score_of returns the scaled and soft-capped score of a query and a key. The next function returns
 * the derivative of the cap at a score. */
static double score_of(const struct world *w, const plumb_bf16 *q, const plumb_bf16 *k)
{
    const double s = w->shape.scale * dot(q, k, w->shape.d), cap = w->shape.cap;
    return cap > 0.0 ? cap * tanh(s / cap) : s;
}
static double slope_of(const struct world *w, double score)
{
    const double cap = w->shape.cap;
    return cap > 0.0 ? 1.0 - (score / cap) * (score / cap) : 1.0;
}

static void check_fwd(const struct world *w, const struct result *r)
{
    const int64_t h = w->shape.h, hk = w->shape.hk, d = w->shape.d;
    double *p = malloc((size_t)w->n * sizeof(*p));
    CHECK(p);
    for (int64_t i = 0; i < w->n; i++)
        for (int64_t a = 0; a < h; a++) {
            const int64_t begin = first_seen(w, i), at = (i * h + a) * d, kv = a / (h / hk);
            double max = -INFINITY, total = 0.0;
            for (int64_t j = begin; j <= i; j++) {
                p[j] = score_of(w, w->q + at, w->k + (j * hk + kv) * d);
                max = fmax(max, p[j]);
            }
            for (int64_t j = begin; j <= i; j++)
                total += exp(p[j] - max);
            const double lse = max + log(total);
            CHECKF(fabs(r->lse[i * h + a] - lse) <= 2e-6 * (1.0 + fabs(lse)),
                   "lse %lld: %g, not %g", (long long)i, (double)r->lse[i * h + a], lse);
            for (int64_t e = 0; e < d; e++) {
                struct sum s = {0};
                for (int64_t j = begin; j <= i; j++)
                    add(&s, exp(p[j] - lse) * widen(w->v[(j * hk + kv) * d + e]), 0.0);
                near("o", widen(r->o[at + e]), s, 1.0, at + e);
            }
        }
    free(p);
}

/* Checks the gradients. The backward reads o and lse; they are those of the tested forward, in
 * r. */
static void check_bwd(const struct world *w, const struct result *r)
{
    const int64_t h = w->shape.h, hk = w->shape.hk, d = w->shape.d, scores = w->n * h * w->n;
    struct pair {
        double p, ds, before;
    } *pair = malloc((size_t)scores * sizeof(*pair));
    CHECK(pair);
#define PAIR(i, a, j) (&pair[((i)*h + (a)) * w->n + (j)])
    for (int64_t i = 0; i < w->n; i++)
        for (int64_t a = 0; a < h; a++)
            for (int64_t j = first_seen(w, i); j <= i; j++) {
                const plumb_bf16 *dout = w->dout + (i * h + a) * d, *o = r->o + (i * h + a) * d;
                const plumb_bf16 *k = w->k + (j * hk + a / (h / hk)) * d;
                const plumb_bf16 *v = w->v + (j * hk + a / (h / hk)) * d;
                const double score = score_of(w, w->q + (i * h + a) * d, k);
                const double p = exp(score - r->lse[i * h + a]), s = p * slope_of(w, score);
                /* Near the cap, the derivative 1 - t^2 is small, but has the float32 error of 1. */
                const double blurred = w->shape.cap > 0 ? s + 0.25 * p : s;
                *PAIR(i, a, j) =
                    (struct pair){p, s * (dot(dout, v, d) - dot(dout, o, d)),
                                  blurred * (dot_size(dout, v, d) + dot_size(dout, o, d))};
            }
    for (int64_t i = 0; i < w->n; i++)
        for (int64_t a = 0; a < h; a++)
            for (int64_t e = 0; e < d; e++) {
                struct sum s = {0};
                for (int64_t j = first_seen(w, i); j <= i; j++) {
                    const struct pair *f = PAIR(i, a, j);
                    const double k = widen(w->k[(j * hk + a / (h / hk)) * d + e]);
                    add(&s, f->ds * k, f->before * k);
                }
                near("dq", widen(r->dq[(i * h + a) * d + e]), s, w->shape.scale, i);
            }
    for (int64_t j = 0; j < w->n; j++)
        for (int64_t kv = 0; kv < hk; kv++)
            for (int64_t e = 0; e < d; e++) {
                struct sum k = {0}, v = {0};
                for (int64_t i = j; i < w->n && sequence_of(w, i) == sequence_of(w, j); i++)
                    for (int64_t a = kv * (h / hk); a < (kv + 1) * (h / hk); a++) {
                        if (j < first_seen(w, i))
                            continue;
                        const struct pair *f = PAIR(i, a, j);
                        const double q = widen(w->q[(i * h + a) * d + e]);
                        add(&k, f->ds * q, f->before * q);
                        add(&v, f->p * widen(w->dout[(i * h + a) * d + e]), 0.0);
                    }
                near("dk", widen(r->dk[(j * hk + kv) * d + e]), k, w->shape.scale, j);
                near("dv", widen(r->dv[(j * hk + kv) * d + e]), v, 1.0, j);
            }
#undef PAIR
    free(pair);
}

/* ---- on the device ----------------------------------------------------------------------- */

/* A KV store whose pages lie in any order, and some rows of a world that are computed with it. */
struct scene {
    struct plumb_backend *b;
    const struct world *w;
    void *held[64];
    int n_held;
    plumb_bf16 *kc, *vc;
    struct plumb_rows rows;
    int32_t *seq, *pos; /* copies of the row table in host memory */
};

static void *on_device(struct scene *s, const void *host, int64_t bytes)
{
    void *data = NULL;
    CHECK(s->n_held < (int)(sizeof(s->held) / sizeof(*s->held)));
    CHECK_OK(s->b->alloc(s->b, &data, bytes, "attention test"));
    unsigned char *fill = host ? NULL : malloc((size_t)bytes);
    if (fill)
        memset(fill, (int)FILL, (size_t)bytes);
    CHECK_OK(s->b->to_device(s->b, data, host ? host : fill, bytes));
    free(fill);
    return s->held[s->n_held++] = data;
}

static struct scene scene_of(struct plumb_backend *b, const struct world *w, int order)
{
    struct scene s = {.b = b, .w = w, .rows = {.n_seq = SEQS, .max_pages = w->max_pages}};
    const int64_t pages = SEQS * w->max_pages, store = pages * w->shape.hk * PAGE * w->shape.d;
    int32_t *page = malloc((size_t)pages * sizeof(*page));
    CHECK(page);
    for (int64_t i = 0; i < pages; i++)
        page[i] = (int32_t)((i * STEP + order * 5) % pages);
    s.rows.page = on_device(&s, page, pages * (int64_t)sizeof(*page));
    free(page);
    s.kc = on_device(&s, NULL, store * (int64_t)sizeof(*s.kc));
    s.vc = on_device(&s, NULL, store * (int64_t)sizeof(*s.vc));
    s.seq = calloc((size_t)w->n, sizeof(*s.seq));
    s.pos = calloc((size_t)w->n, sizeof(*s.pos));
    CHECK(s.seq && s.pos);
    return s;
}

static void scene_fini(struct scene *s)
{
    for (int i = 0; i < s->n_held; i++)
        s->b->release(s->b, s->held[i]);
    free(s->seq);
    free(s->pos);
}

/* Appends positions [begin, end) of sequence i to the rows of the scene. */
static void add_rows(struct scene *s, int i, int64_t begin, int64_t end)
{
    for (int64_t p = begin; p < end; p++) {
        s->seq[s->rows.n] = i;
        s->pos[s->rows.n++] = (int32_t)p;
    }
}
static void place_rows(struct scene *s)
{
    s->rows.seq = on_device(s, s->seq, s->rows.n * (int64_t)sizeof(*s->seq));
    s->rows.pos = on_device(s, s->pos, s->rows.n * (int64_t)sizeof(*s->pos));
}

/* Returns device memory with the scene's rows of x (n,width), an array of the world. */
static plumb_bf16 *pick(struct scene *s, const plumb_bf16 *x, int64_t width)
{
    plumb_bf16 *host = malloc((size_t)(s->rows.n * width) * sizeof(*host));
    CHECK(host);
    for (int64_t i = 0; i < s->rows.n; i++)
        memcpy(host + i * width, x + (s->w->start[s->seq[i]] + s->pos[i]) * width,
               (size_t)width * sizeof(*host));
    plumb_bf16 *data = on_device(s, host, s->rows.n * width * (int64_t)sizeof(*host));
    free(host);
    return data;
}

static void *fetch(struct scene *s, const void *data, int64_t bytes)
{
    void *host = malloc((size_t)bytes);
    CHECK(host);
    CHECK_OK(s->b->to_host(s->b, host, data, bytes));
    return host;
}

/* Writes the keys and values of positions [0, end) of sequence i to the store. */
static void write_keys(struct scene *s, int i, int64_t end)
{
    const struct plumb_attn_shape *shape = &s->w->shape;
    add_rows(s, i, 0, end);
    place_rows(s);
    CHECK_OK(s->b->k.bf16.kv_write_fwd(
        s->b->stream, s->kc, s->vc, pick(s, s->w->k, shape->hk * shape->d),
        pick(s, s->w->v, shape->hk * shape->d), &s->rows, shape->hk, shape->d));
    s->rows.n = 0;
}

/* Returns o and lse of the scene's rows. If `backward`, also returns the gradients; then the scene
 * must have all rows of the world. */
static struct result attend(struct scene *s, bool backward)
{
    const struct plumb_attn_shape *shape = &s->w->shape;
    const struct plumb_bf16_kernels *k = &s->b->k.bf16;
    const int64_t n = s->rows.n, h = shape->h, wide = n * h * shape->d * 2;
    const int64_t narrow_ = n * shape->hk * shape->d * 2;
    struct result r = {0};
    place_rows(s);
    plumb_bf16 *q = pick(s, s->w->q, h * shape->d), *o = on_device(s, NULL, wide);
    float *lse = on_device(s, NULL, n * h * 4);
    CHECK_OK(k->attention_fwd(s->b->stream, o, lse, q, s->kc, s->vc, &s->rows, shape));
    if (backward) {
        plumb_bf16 *dout = pick(s, s->w->dout, h * shape->d), *dq = on_device(s, NULL, wide);
        plumb_bf16 *dk = on_device(s, NULL, narrow_), *dv = on_device(s, NULL, narrow_);
        float *work = on_device(s, NULL, k->attention_work_count(n, shape, 1) * 4);
        CHECK_OK(k->attention_bwd(s->b->stream, dq, dk, dv, dout, o, lse, q, s->kc, s->vc, work,
                                  &s->rows, shape));
        r.dq = fetch(s, dq, wide);
        r.dk = fetch(s, dk, narrow_);
        r.dv = fetch(s, dv, narrow_);
    }
    r.o = fetch(s, o, wide);
    r.lse = fetch(s, lse, n * h * 4);
    return r;
}

static void result_fini(struct result *r)
{
    free(r->o);
    free(r->lse);
    free(r->dq);
    free(r->dk);
    free(r->dv);
}

static struct result training(struct plumb_backend *b, const struct world *w, bool backward)
{
    struct scene s = scene_of(b, w, 1);
    for (int i = 0; i < SEQS; i++)
        write_keys(&s, i, w->len[i]);
    for (int i = 0; i < SEQS; i++)
        add_rows(&s, i, 0, w->len[i]);
    const struct result r = attend(&s, backward);
    scene_fini(&s);
    return r;
}

/* Checks that every row of the scene has the same bits as in the computation of the whole world. */
static void same_rows(const char *what, struct scene *s, const struct result *want)
{
    const int64_t h = s->w->shape.h, width = h * s->w->shape.d;
    struct result r = attend(s, false);
    for (int64_t i = 0; i < s->rows.n; i++) {
        const int64_t at = s->w->start[s->seq[i]] + s->pos[i];
        CHECKF(memcmp(r.o + i * width, want->o + at * width, (size_t)width * 2) == 0 &&
                   memcmp(r.lse + i * h, want->lse + at * h, (size_t)h * 4) == 0,
               "%s: sequence %d, position %d has other bits than in training", what, s->seq[i],
               s->pos[i]);
    }
    result_fini(&r);
    scene_fini(s);
}

/* Checks positions [begin, end) of one sequence, computed with a store that has no later keys. */
static void part(struct plumb_backend *b, const struct world *w, const struct result *want,
                 const char *what, int i, int64_t begin, int64_t end)
{
    struct scene s = scene_of(b, w, (int)(2 + begin % 3));
    write_keys(&s, i, end);
    add_rows(&s, i, begin, end);
    same_rows(what, &s, want);
}

/* Checks a decode step of all sequences, and the training batch with the sequences in reversed
 * order. */
static void mixed(struct plumb_backend *b, const struct world *w, const struct result *want)
{
    for (int whole = 0; whole < 2; whole++) {
        struct scene s = scene_of(b, w, 3);
        for (int i = 0; i < SEQS; i++)
            write_keys(&s, i, w->len[i]);
        for (int i = SEQS - 1; i >= 0; i--)
            add_rows(&s, i, whole ? 0 : w->len[i] - 1, w->len[i]);
        same_rows(whole ? "other order" : "decode batch", &s, want);
    }
}

/* Checks rows around the borders between chunks of keys: with one block of threads per chunk, and
 * with one block for all chunks. */
static void chunks(struct plumb_backend *b, const struct world *w, const struct result *want)
{
    static const int64_t pos[] = {510, 511, 512, 543, 600, 1023, 1024, 1100};
    struct plumb_cuda *c = (struct plumb_cuda *)(void *)b->stream;
    const int64_t room = c->chunk_floats;
    for (size_t i = 0; i < sizeof(pos) / sizeof(*pos); i++)
        for (int apart = 0; apart < 2; apart++) {
            c->chunk_floats = apart ? room : 0;
            part(b, w, want, apart ? "chunks apart" : "chunks in a row", 2, pos[i], pos[i] + 1);
        }
    part(b, w, want, "prefill from within a chunk", 2, 505, 1030);
}

/* ---- cases --------------------------------------------------------------------------------- */

static const struct {
    struct plumb_attn_shape shape;
    int64_t len[SEQS];
    bool every_kind, chunks;
} list[] = {
    {.shape = {.h = 1, .hk = 1, .d = 16}, .len = {1, 33, 75, 32}, .every_kind = true},
    {.shape = {.h = 4, .hk = 2, .d = 32, .window = 40}, .len = {5, 64, 90, 1}, .every_kind = true},
    {.shape = {.h = 2, .hk = 1, .d = 64}, .len = {200, 2, 97, 65}},
    {.shape = {.h = 4, .hk = 1, .d = 64, .window = 5}, .len = {3, 33, 48, 1}},
    {.shape = {.h = 7, .hk = 1, .d = 80}, .len = {1, 33, 50, 2}},
    {.shape = {.h = 8, .hk = 1, .d = 128}, .len = {1, 20, 40, 2}},
    {.shape = {.h = 2, .hk = 2, .d = 128, .window = 50}, .len = {1, 2, 130, 31}},
    {.shape = {.h = 2, .hk = 1, .d = 256, .window = 33}, .len = {1, 33, 70, 2}},
    {.shape = {.h = 20, .hk = 1, .d = 24},
     .len = {1, 12, 34, 3}}, /* needs two tiles of heads in decoding */
    {.shape = {.h = 3, .hk = 3, .d = 8, .window = 1}, .len = {1, 3, 70, 2}},
    {.shape = {.h = 4, .hk = 2, .d = 32, .cap = 1.5f}, .len = {5, 64, 90, 1}, .every_kind = true},
    {.shape = {.h = 2, .hk = 1, .d = 256, .window = 33, .cap = 0.6f}, .len = {1, 33, 70, 2}},
    {.shape = {.h = 1, .hk = 1, .d = 16}, .len = {2, 3, 1101, 40}, .chunks = true},
    {.shape = {.h = 2, .hk = 1, .d = 8, .window = 600}, .len = {2, 3, 1101, 1}, .chunks = true},
};
enum { CASES = sizeof(list) / sizeof(*list) };

static void run(int at, enum kind kind)
{
    struct plumb_backend *b = NULL;
    struct world w = world_of(&list[at].shape, list[at].len, kind);
    struct result first = {0};
    for (int order = 0; order < ORDERS; order++) {
        plumb_emu_seed(seeds[order]);
        CHECK_OK(plumb_backend_cuda_create(&b, 0));
        struct result r = training(b, &w, true);
        if (order == 0) {
            check_fwd(&w, &r);
            check_bwd(&w, &r);
            first = r;
            for (int64_t p = 0; kind == RANDOM && p < w.len[2]; p += 1 + p / 8 * 8 + p / 64 * 64)
                part(b, &w, &first, "decoded row", 2, p, p + 1);
        } else {
            const size_t n = (size_t)(w.n * w.shape.h * w.shape.d) * sizeof(*r.o);
            const size_t hk = n / (size_t)w.shape.h * (size_t)w.shape.hk;
            CHECKF(memcmp(r.o, first.o, n) == 0 && memcmp(r.dq, first.dq, n) == 0 &&
                       memcmp(r.dk, first.dk, hk) == 0 && memcmp(r.dv, first.dv, hk) == 0,
                   "order %u gives other bits", seeds[order]);
            result_fini(&r);
        }
        if (list[at].chunks && order < 2)
            chunks(b, &w, &first);
        if (kind == RANDOM && order < 2) {
            const int64_t len = w.len[2];
            part(b, &w, &first, "prefill", 2, 0, len / 2);
            part(b, &w, &first, "later chunk", 2, len / 4, len - 5);
            mixed(b, &w, &first);
        }
        plumb_backend_destroy(&b);
    }
    result_fini(&first);
    world_fini(&w);
}

static void refusals(void)
{
    struct plumb_backend *b = NULL;
    const struct plumb_attn_shape odd = {.h = 1, .hk = 1, .d = 12, .scale = 1.0f};
    const struct plumb_attn_shape wide = {.h = 1, .hk = 1, .d = 264, .scale = 1.0f};
    const struct plumb_attn_shape fits = {.h = 1, .hk = 1, .d = 16, .scale = 1.0f};
    const struct plumb_rows rows = {.n = 1, .n_seq = 1, .max_pages = 1};
    plumb_bf16 x[16] = {{0}};
    plumb_bf16 *off = (plumb_bf16 *)((char *)x + (16 - (uintptr_t)x % 16) % 16 + 2);
    CHECK_OK(plumb_backend_cuda_create(&b, 0));
    const struct plumb_bf16_kernels *k = &b->k.bf16;
    CHECK_FAILS(k->attention_fwd(b->stream, NULL, NULL, NULL, NULL, NULL, &rows, &odd),
                PLUMB_ERR_UNSUPPORTED, "head size 12");
    CHECK_FAILS(k->attention_bwd(b->stream, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                                 NULL, &rows, &wide),
                PLUMB_ERR_UNSUPPORTED, "head size 264");
    CHECK_FAILS(k->kv_write_fwd(b->stream, NULL, NULL, NULL, NULL, &rows, 1, 20),
                PLUMB_ERR_UNSUPPORTED, "head size 20");
    CHECK_FAILS(k->attention_fwd(b->stream, NULL, NULL, off, NULL, NULL, &rows, &fits),
                PLUMB_ERR_SHAPE, "16 bytes");
    plumb_backend_destroy(&b);
}

/* Usage: test_attention_bf16 [CASE]... */
int main(int argc, char **argv)
{
    skip_without_gpu();
    refusals();
    for (int i = 0; i < CASES; i++) {
        bool wanted = argc == 1;
        for (int j = 1; j < argc; j++)
            wanted = wanted || atoi(argv[j]) == i;
        for (int kind = 0; wanted && kind < KINDS; kind++)
            if (kind == RANDOM || list[i].every_kind)
                run(i, (enum kind)kind);
        if (wanted)
            printf("case %d: h %lld hk %lld d %lld window %lld cap %g\n", i,
                   (long long)list[i].shape.h, (long long)list[i].shape.hk,
                   (long long)list[i].shape.d, (long long)list[i].shape.window,
                   (double)list[i].shape.cap);
        fflush(stdout);
    }
    CHECK(plumb_emu_bank_conflicts() == 0);
    return 0;
}

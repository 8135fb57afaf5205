/* staged.c - kernels for host memory: each copies its arguments to the device, runs the device's
 * kernel and copies the results back.
 * Test. Includes staged.h. */
#include "staged.h"

#include "base/num.h"
#include "harness.h"

struct buffer {
    void *host, *base, *device;
    int64_t bytes; /* number of bytes in host memory */
    bool changes, narrow;
};
struct desk {
    struct plumb_backend *b;
    struct buffer buffer[20];
    int n;
};

static struct desk desk_of(plumb_stream *s)
{
    return (struct desk){.b = (struct plumb_backend *)(void *)s};
}

/* Returns a copy of the buffer's contents as the device needs them: the bytes of host memory, or
 * its floats rounded to bfloat16. The caller frees the copy. */
static void *device_form(const struct buffer *f, int64_t *bytes)
{
    *bytes = f->narrow ? f->bytes / 2 : f->bytes;
    void *data = malloc((size_t)*bytes + 1);
    CHECK(data);
    for (int64_t i = 0; f->narrow && i < f->bytes / 4; i++)
        ((uint16_t *)data)[i] = plumb_to_bf16(((const float *)f->host)[i]);
    if (!f->narrow)
        memcpy(data, f->host, (size_t)*bytes);
    return data;
}

static void to_host_form(const struct buffer *f, const void *data)
{
    for (int64_t i = 0; f->narrow && i < f->bytes / 4; i++)
        ((float *)f->host)[i] = plumb_from_bf16(((const uint16_t *)data)[i]);
    if (!f->narrow)
        memcpy(f->host, data, (size_t)f->bytes);
}

static void *stage(struct desk *d, const void *host, int64_t bytes, bool changes, bool real)
{
    const bool narrow = real && d->b->dtype == PLUMB_BF16;
    const int64_t off = (int64_t)((uintptr_t)host % 16) / (narrow ? 2 : 1);
    int64_t size;
    if (!host)
        return NULL;
    for (int i = 0; i < d->n; i++)
        if (d->buffer[i].host == host) { /* two arguments of the kernel are the same array */
            CHECK(d->buffer[i].bytes == bytes && d->buffer[i].narrow == narrow);
            d->buffer[i].changes |= changes;
            return d->buffer[i].device;
        }
    struct buffer *f = &d->buffer[d->n++];
    CHECK(d->n <= (int)(sizeof(d->buffer) / sizeof(*d->buffer)));
    *f = (struct buffer){
        .host = (void *)(uintptr_t)host, .bytes = bytes, .changes = changes, .narrow = narrow};
    void *data = device_form(f, &size);
    CHECK_OK(d->b->alloc(d->b, &f->base, size + off, "staged"));
    f->device = (char *)f->base + off;
    CHECK_OK(d->b->to_device(d->b, f->device, data, size));
    free(data);
    return f->device;
}
#define IN(x, count)       stage(&d, (x), (count) * (int64_t)sizeof(*(x)), false, false)
#define OUT(x, count)      stage(&d, (x), (count) * (int64_t)sizeof(*(x)), true, false)
#define REAL_IN(x, count)  stage(&d, (x), (count) * (int64_t)sizeof(*(x)), false, true)
#define REAL_OUT(x, count) stage(&d, (x), (count) * (int64_t)sizeof(*(x)), true, true)

static plumb_status finish(struct desk *d, plumb_status st)
{
    CHECK_OK(d->b->sync(d->b));
    for (int i = 0; i < d->n; i++) {
        struct buffer *f = &d->buffer[i];
        int64_t size;
        void *before = device_form(f, &size), *back = malloc((size_t)size + 1);
        CHECK(back);
        CHECK_OK(d->b->to_host(d->b, back, f->device, size));
        if (f->changes)
            to_host_form(f, back);
        else
            CHECKF(memcmp(back, before, (size_t)size) == 0, "input %d was changed", i);
        free(before);
        free(back);
        d->b->release(d->b, f->base);
    }
    return st;
}
#define RUN(kernel, ...)                                                                           \
    do {                                                                                           \
        const plumb_status st_ = d.b->k.kernel(d.b->stream, __VA_ARGS__);                          \
        return finish(&d, st_);                                                                    \
    } while (0)
/* Runs the device's bfloat16 version of a kernel if the backend computes in bfloat16, else the
 * float32 version. */
#define RUN_REAL(kernel, ...)                                                                      \
    do {                                                                                           \
        if (d.b->dtype == PLUMB_BF16)                                                              \
            RUN(bf16.kernel, __VA_ARGS__);                                                         \
        RUN(kernel, __VA_ARGS__);                                                                  \
    } while (0)

static int64_t rows_named(const int32_t *index, int64_t n)
{
    int64_t end = 0;
    for (int64_t i = 0; i < n; i++)
        end = index[i] >= end ? index[i] + 1 : end;
    return end;
}

static plumb_status gather_fwd(plumb_stream *s, float *y, const float *x, const int32_t *index,
                               int64_t n, int64_t c)
{
    struct desk d = desk_of(s);
    RUN_REAL(gather_fwd, REAL_OUT(y, n * c), REAL_IN(x, rows_named(index, n) * c), IN(index, n), n,
             c);
}
static plumb_status gather_bwd(plumb_stream *s, float *dx, const float *dy, const int32_t *index,
                               int64_t n, int64_t c, int64_t m)
{
    struct desk d = desk_of(s);
    RUN_REAL(gather_bwd, REAL_OUT(dx, m * c), REAL_IN(dy, n * c), IN(index, n), n, c, m);
}
static plumb_status move_rows(plumb_stream *s, float *x, const int32_t *pair, int64_t n, int64_t c,
                              int64_t planes, int64_t stride)
{
    struct desk d = desk_of(s);
    const int64_t all = (planes - 1) * stride + rows_named(pair, 2 * n) * c;
    RUN_REAL(move_rows, REAL_OUT(x, all), IN(pair, 2 * n), n, c, planes, stride);
}
static plumb_status segment_mean_fwd(plumb_stream *s, float *y, const float *x,
                                     const int64_t *offset, int64_t g, int64_t c)
{
    struct desk d = desk_of(s);
    RUN_REAL(segment_mean_fwd, OUT(y, g * c), REAL_IN(x, offset[g] * c), IN(offset, g + 1), g, c);
}
static plumb_status add_fwd(plumb_stream *s, float *y, const float *a, const float *b, int64_t n)
{
    struct desk d = desk_of(s);
    RUN_REAL(add_fwd, REAL_OUT(y, n), REAL_IN(a, n), REAL_IN(b, n), n);
}
static plumb_status scale_fwd(plumb_stream *s, float *y, const float *x, float factor, int64_t n)
{
    struct desk d = desk_of(s);
    RUN_REAL(scale_fwd, REAL_OUT(y, n), REAL_IN(x, n), factor, n);
}
static plumb_status rmsnorm_fwd(plumb_stream *s, float *y, float *rstd, const float *x,
                                const float *w, int64_t n, int64_t c, float eps, float shift)
{
    struct desk d = desk_of(s);
    RUN_REAL(rmsnorm_fwd, REAL_OUT(y, n * c), OUT(rstd, n), REAL_IN(x, n * c), IN(w, c), n, c, eps,
             shift);
}
static plumb_status rmsnorm_bwd(plumb_stream *s, float *dx, float *dw, const float *dy,
                                const float *x, const float *w, const float *rstd, int64_t n,
                                int64_t c, float shift)
{
    struct desk d = desk_of(s);
    RUN_REAL(rmsnorm_bwd, REAL_OUT(dx, n * c), OUT(dw, c), REAL_IN(dy, n * c), REAL_IN(x, n * c),
             IN(w, c), IN(rstd, n), n, c, shift);
}
static plumb_status layernorm_fwd(plumb_stream *s, float *y, float *mean, float *rstd,
                                  const float *x, const float *w, const float *bias, int64_t n,
                                  int64_t c, float eps)
{
    struct desk d = desk_of(s);
    RUN_REAL(layernorm_fwd, REAL_OUT(y, n * c), OUT(mean, n), OUT(rstd, n), REAL_IN(x, n * c),
             IN(w, c), IN(bias, c), n, c, eps);
}
static plumb_status layernorm_bwd(plumb_stream *s, float *dx, float *dw, float *dbias,
                                  const float *dy, const float *x, const float *w,
                                  const float *mean, const float *rstd, int64_t n, int64_t c)
{
    struct desk d = desk_of(s);
    RUN_REAL(layernorm_bwd, REAL_OUT(dx, n * c), OUT(dw, c), OUT(dbias, c), REAL_IN(dy, n * c),
             REAL_IN(x, n * c), IN(w, c), IN(mean, n), IN(rstd, n), n, c);
}
static plumb_status rope_fwd(plumb_stream *s, float *x, const float *cos_sin, const int32_t *pos,
                             int64_t n, int64_t h, int64_t width, int64_t r)
{
    struct desk d = desk_of(s);
    RUN_REAL(rope_fwd, REAL_OUT(x, n * h * width), IN(cos_sin, rows_named(pos, n) * r), IN(pos, n),
             n, h, width, r);
}
static plumb_status rope_bwd(plumb_stream *s, float *x, const float *cos_sin, const int32_t *pos,
                             int64_t n, int64_t h, int64_t width, int64_t r)
{
    struct desk d = desk_of(s);
    RUN_REAL(rope_bwd, REAL_OUT(x, n * h * width), IN(cos_sin, rows_named(pos, n) * r), IN(pos, n),
             n, h, width, r);
}
static plumb_status act_fwd(plumb_stream *s, float *y, const float *gate, const float *up,
                            int64_t n, enum plumb_activation act)
{
    struct desk d = desk_of(s);
    RUN_REAL(act_fwd, REAL_OUT(y, n), REAL_IN(gate, n), REAL_IN(up, n), n, act);
}
static plumb_status act_bwd(plumb_stream *s, float *dgate, float *dup, const float *dy,
                            const float *gate, const float *up, int64_t n,
                            enum plumb_activation act)
{
    struct desk d = desk_of(s);
    RUN_REAL(act_bwd, REAL_OUT(dgate, n), REAL_OUT(dup, n), REAL_IN(dy, n), REAL_IN(gate, n),
             REAL_IN(up, n), n, act);
}
static plumb_status linear_pack(plumb_stream *s, float *packed, const float *w, int64_t out,
                                int64_t in)
{
    struct desk d = desk_of(s);
    RUN_REAL(linear_pack, REAL_OUT(packed, d.b->k.linear_packed_count(out, in)), IN(w, out * in),
             out, in);
}
static plumb_status linear_fwd(plumb_stream *s, float *y, const float *x, const float *packed,
                               const float *bias, int64_t n, int64_t out, int64_t in)
{
    struct desk d = desk_of(s);
    RUN_REAL(linear_fwd, REAL_OUT(y, n * out), REAL_IN(x, n * in),
             REAL_IN(packed, d.b->k.linear_packed_count(out, in)), IN(bias, out), n, out, in);
}
static plumb_status linear_bwd_x(plumb_stream *s, float *dx, const float *dy, const float *w,
                                 float *work, int64_t n, int64_t out, int64_t in, int accumulate)
{
    struct desk d = desk_of(s);
    RUN_REAL(linear_bwd_x, REAL_OUT(dx, n * in), REAL_IN(dy, n * out), REAL_IN(w, out * in),
             OUT(work, d.b->k.linear_work_count(n, out, in, d.b->threads)), n, out, in, accumulate);
}
static plumb_status linear_bwd_w(plumb_stream *s, float *dw, float *dbias, const float *dy,
                                 const float *x, float *work, int64_t n, int64_t out, int64_t in)
{
    struct desk d = desk_of(s);
    RUN_REAL(linear_bwd_w, OUT(dw, out * in), OUT(dbias, out), REAL_IN(dy, n * out),
             REAL_IN(x, n * in), OUT(work, d.b->k.linear_work_count(n, out, in, d.b->threads)), n,
             out, in);
}

static struct plumb_rows stage_rows(struct desk *desk, const struct plumb_rows *r)
{
    struct desk d = *desk;
    const struct plumb_rows on_device = {r->n,
                                         r->n_seq,
                                         r->max_pages,
                                         IN(r->seq, r->n),
                                         IN(r->pos, r->n),
                                         IN(r->page, r->n_seq * r->max_pages),
                                         r->present};
    *desk = d;
    return on_device;
}
/* Returns the number of floats in the keys (or values) of a layer, for as many pages as the page
 * table names. */
static int64_t page_floats(const struct plumb_rows *r, int64_t hk, int64_t width)
{
    return rows_named(r->page, r->n_seq * r->max_pages) * hk * width * PLUMB_KV_PAGE;
}
static plumb_status kv_write_fwd(plumb_stream *s, float *kc, float *vc, const float *k,
                                 const float *v, const struct plumb_rows *rows, int64_t hk,
                                 int64_t width)
{
    struct desk d = desk_of(s);
    const int64_t store = page_floats(rows, hk, width), n = rows->n * hk * width;
    const struct plumb_rows r = stage_rows(&d, rows);
    RUN_REAL(kv_write_fwd, REAL_OUT(kc, store), REAL_OUT(vc, store), REAL_IN(k, n), REAL_IN(v, n),
             &r, hk, width);
}
static plumb_status attention_fwd(plumb_stream *s, float *o, float *lse, const float *q,
                                  const float *kc, const float *vc, const struct plumb_rows *rows,
                                  const struct plumb_attn_shape *shape)
{
    struct desk d = desk_of(s);
    const int64_t store = page_floats(rows, shape->hk, shape->d), n = rows->n * shape->h;
    const struct plumb_rows r = stage_rows(&d, rows);
    RUN_REAL(attention_fwd, REAL_OUT(o, n * shape->d), OUT(lse, n), REAL_IN(q, n * shape->d),
             REAL_IN(kc, store), REAL_IN(vc, store), &r, shape);
}
static plumb_status attention_bwd(plumb_stream *s, float *dq, float *dk, float *dv,
                                  const float *dout, const float *o, const float *lse,
                                  const float *q, const float *kc, const float *vc, float *work,
                                  const struct plumb_rows *rows,
                                  const struct plumb_attn_shape *shape)
{
    struct desk d = desk_of(s);
    const int64_t store = page_floats(rows, shape->hk, shape->d), n = rows->n * shape->h;
    const int64_t wide = n * shape->d, narrow = rows->n * shape->hk * shape->d;
    const struct plumb_rows r = stage_rows(&d, rows);
    RUN_REAL(attention_bwd, REAL_OUT(dq, wide), REAL_OUT(dk, narrow), REAL_OUT(dv, narrow),
             REAL_IN(dout, wide), REAL_IN(o, wide), IN(lse, n), REAL_IN(q, wide),
             REAL_IN(kc, store), REAL_IN(vc, store),
             OUT(work, d.b->k.attention_work_count(rows->n, shape, d.b->threads)), &r, shape);
}

static plumb_status logprob_fwd(plumb_stream *s, float *logp, float *lse, const float *logits,
                                const int32_t *target, int64_t n, int64_t v)
{
    struct desk d = desk_of(s);
    RUN(logprob_fwd, OUT(logp, n), OUT(lse, n), IN(logits, n * v), IN(target, n), n, v);
}
static plumb_status softcap_fwd(plumb_stream *s, float *z, int64_t n, float cap)
{
    struct desk d = desk_of(s);
    RUN(softcap_fwd, OUT(z, n), n, cap);
}
static plumb_status entropy_fwd(plumb_stream *s, float *entropy, float *mean, const float *logits,
                                const float *lse, int64_t n, int64_t v)
{
    struct desk d = desk_of(s);
    RUN(entropy_fwd, OUT(entropy, n), OUT(mean, n), IN(logits, n * v), IN(lse, n), n, v);
}
static plumb_status logprob_bwd(plumb_stream *s, float *dlogits, const float *logits,
                                const float *lse, const int32_t *target, const float *dlogp,
                                int64_t n, int64_t v, float cap)
{
    struct desk d = desk_of(s);
    RUN_REAL(logprob_bwd, REAL_OUT(dlogits, n * v), IN(logits, n * v), IN(lse, n), IN(target, n),
             IN(dlogp, n), n, v, cap);
}
static plumb_status sample_fwd(plumb_stream *s, int32_t *token, float *logp, float *logp_sampled,
                               const float *logits, const double *u,
                               const struct plumb_sample_param *p, float *work, int64_t n,
                               int64_t v)
{
    struct desk d = desk_of(s);
    RUN(sample_fwd, OUT(token, n), OUT(logp, n), OUT(logp_sampled, n), IN(logits, n * v), IN(u, n),
        p, OUT(work, d.b->k.sample_work_count(n, v, d.b->threads)), n, v);
}
static plumb_status penalty_fwd(plumb_stream *s, float *y, const float *x, const int32_t *seen,
                                float penalty, int64_t n, int64_t v)
{
    struct desk d = desk_of(s);
    RUN(penalty_fwd, OUT(y, n * v), IN(x, n * v), IN(seen, n * ((v + 31) / 32)), penalty, n, v);
}
static plumb_status accumulate(plumb_stream *s, float *y, const float *x, int64_t n)
{
    struct desk d = desk_of(s);
    RUN(accumulate, OUT(y, n), IN(x, n), n);
}
static plumb_status sumsq(plumb_stream *s, double *out, const float *x, int64_t n, int64_t block)
{
    struct desk d = desk_of(s);
    RUN(sumsq, OUT(out, (n + block - 1) / block), IN(x, n), n, block);
}
static plumb_status adamw(plumb_stream *s, float *w, float *m, float *v, const float *g, int64_t n,
                          const struct plumb_adamw *p)
{
    struct desk d = desk_of(s);
    RUN(adamw, OUT(w, n), OUT(m, n), OUT(v, n), IN(g, n), n, p);
}

static plumb_status hash_blocks(plumb_stream *s, uint64_t *out, const float *x, int64_t n)
{
    struct desk d = desk_of(s);
    RUN(hash_blocks, OUT(out, (n + PLUMB_HASH_BLOCK - 1) / PLUMB_HASH_BLOCK), IN(x, n), n);
}

static plumb_status normal(plumb_stream *s, float *w, int64_t n, double std,
                           const struct plumb_rng_key *key)
{
    struct desk d = desk_of(s);
    RUN(normal, OUT(w, n), n, std, key);
}

/* These device kernels have both bfloat16 and float32 arguments. staged_mixed_table puts them in
 * place of gather_fwd, gather_bwd and linear_fwd, so they have the types of these float32
 * kernels. */
static plumb_status embed_fwd(plumb_stream *s, float *y, const float *x, const int32_t *index,
                              int64_t n, int64_t c)
{
    struct desk d = desk_of(s);
    RUN(bf16.embed_fwd, REAL_OUT(y, n * c), IN(x, rows_named(index, n) * c), IN(index, n), n, c);
}
static plumb_status embed_bwd(plumb_stream *s, float *dx, const float *dy, const int32_t *index,
                              int64_t n, int64_t c, int64_t m)
{
    struct desk d = desk_of(s);
    RUN(bf16.embed_bwd, OUT(dx, m * c), REAL_IN(dy, n * c), IN(index, n), n, c, m);
}
static plumb_status head_fwd(plumb_stream *s, float *y, const float *x, const float *packed,
                             const float *bias, int64_t n, int64_t out, int64_t in)
{
    struct desk d = desk_of(s);
    CHECK(!bias);
    RUN(bf16.head_fwd, OUT(y, n * out), REAL_IN(x, n * in), REAL_IN(packed, out * in), n, out, in);
}

/* The kernels that access memory. Functions that only return sizes of packed weights or of scratch
 * memory are left out. */
#define STAGED_LIST(X)                                                                             \
    X(gather_fwd)                                                                                  \
    X(gather_bwd)                                                                                  \
    X(move_rows)                                                                                   \
    X(segment_mean_fwd)                                                                            \
    X(add_fwd)                                                                                     \
    X(scale_fwd)                                                                                   \
    X(layernorm_fwd)                                                                               \
    X(layernorm_bwd)                                                                               \
    X(rmsnorm_fwd)                                                                                 \
    X(rmsnorm_bwd)                                                                                 \
    X(rope_fwd)                                                                                    \
    X(rope_bwd)                                                                                    \
    X(act_fwd)                                                                                     \
    X(act_bwd)                                                                                     \
    X(linear_pack)                                                                                 \
    X(linear_fwd)                                                                                  \
    X(linear_bwd_x)                                                                                \
    X(linear_bwd_w)                                                                                \
    X(kv_write_fwd)                                                                                \
    X(attention_fwd)                                                                               \
    X(attention_bwd)                                                                               \
    X(softcap_fwd)                                                                                 \
    X(logprob_fwd)                                                                                 \
    X(entropy_fwd)                                                                                 \
    X(logprob_bwd)                                                                                 \
    X(sample_fwd)                                                                                  \
    X(penalty_fwd) X(accumulate) X(sumsq) X(adamw) X(hash_blocks) X(normal)

void staged_table(struct plumb_kernels *t)
{
    plumb_kernels_init_cuda(t);
#define X(k) t->k = k;
    STAGED_LIST(X)
#undef X
}

void staged_mixed_table(struct plumb_kernels *t)
{
    staged_table(t);
    t->gather_fwd = embed_fwd;
    t->gather_bwd = embed_bwd;
    t->linear_fwd = head_fwd;
}

plumb_stream *staged_stream(struct plumb_backend *b)
{
    return (plumb_stream *)(void *)b;
}

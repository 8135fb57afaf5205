/* vocab.c - the soft cap of logits, token log-probabilities and their gradient, and the entropy,
 * vectorised.
 * Layer 1 (cpu). Includes vocab.h, split.h. */
#include "cpu/vocab.h"

#include "cpu/split.h"

struct job {
    float *logp, *lse, *dz;
    const float *z, *lse_in, *dlogp;
    const int32_t *target;
    int64_t v;
    float cap;
};

static void softcap(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    const v16 cap = v16_set1(b->cap), by = v16_set1(1.0f / b->cap);
    (void)thread;
    for (int64_t i = begin; i < end; i += 16) {
        const int n = end - i < 16 ? (int)(end - i) : 16;
        const v16 z = v16_load_n(b->dz + i, n);
        v16_store_n(b->dz + i, v16_mul(cap, v16_tanh(v16_mul(z, by))), n);
    }
}

/* Returns the derivative of the soft cap where its output is z; `by` must be 1 / cap. */
VEC_FN v16 cap_slope(v16 z, v16 by)
{
    const v16 t = v16_mul(z, by);
    return v16_fma(v16_sub(v16_set1(0.0f), t), t, v16_set1(1.0f));
}

/* Computes the gradient of row i with respect to the logits before the soft cap; b->z holds the
 * logits after the soft cap. */
static void bwd_capped(const struct job *b, int64_t i)
{
    const int64_t v = b->v, at = b->target[i];
    const float *z = b->z + i * v;
    float *dz = b->dz + i * v;
    const v16 lse = v16_set1(b->lse_in[i]), minus = v16_set1(-b->dlogp[i]);
    const v16 by = v16_set1(1.0f / b->cap);
    const double t = (double)z[at] / (double)b->cap;
    const double own = -expm1((double)z[at] - (double)b->lse_in[i]) * (1.0 - t * t);
    for (int64_t j = 0; j < v; j += 16) {
        const int n = (int)plumb_min_i64(16, v - j);
        const v16 zj = v16_load_n(z + j, n);
        const v16 p = v16_mul(minus, v16_exp(v16_sub(zj, lse)));
        v16_store_n(dz + j, v16_mul(p, cap_slope(zj, by)), n);
    }
    dz[at] = (float)(b->dlogp[i] * own);
}

static void fwd(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *z = b->z + i * b->v;
        const double lse = vocab_lse(z, b->v, vocab_max(z, b->v));
        b->lse[i] = (float)lse;
        b->logp[i] = (float)((double)z[b->target[i]] - lse);
    }
}

/* Writes the entropy of each row in [begin, end) to b->logp and the mean of its logits to b->lse.
 * Blocks of 4096 logits are summed in one accumulator of 16 lanes; the block sums are added in
 * double. */
static void entropy(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    const int64_t v = b->v;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *z = b->z + i * v;
        const v16 lse = v16_set1(b->lse_in[i]);
        double sum = 0.0, all = 0.0;
        for (int64_t at = 0; at < v; at += 4096) {
            const int64_t stop = v - at < 4096 ? v : at + 4096;
            v16 part = v16_set1(0.0f), whole = v16_set1(0.0f);
            for (int64_t j = at; j < stop; j += 16) {
                const int n = stop - j < 16 ? (int)(stop - j) : 16;
                /* lanes after the end of the row are filled with lse, so a = 0 and they add exp(0)
                 * * 0 = 0 to part */
                const v16 zj = n == 16 ? v16_load(z + j) : v16_load_fill(z + j, n, b->lse_in[i]);
                const v16 a = v16_sub(zj, lse);
                part = v16_fma(v16_exp(a), a, part);
                whole = v16_add(whole, n == 16 ? zj : v16_load_n(z + j, n));
            }
            sum -= (double)v16_sum(part);
            all += (double)v16_sum(whole);
        }
        b->logp[i] = (float)sum;
        b->lse[i] = (float)(all / (double)v);
    }
}

static void bwd(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    const int64_t v = b->v;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *z = b->z + i * v;
        float *dz = b->dz + i * v;
        if (b->cap > 0.0f) {
            bwd_capped(b, i);
            continue;
        }
        const v16 lse = v16_set1(b->lse_in[i]), minus = v16_set1(-b->dlogp[i]);
        /* expm1 keeps 1 - p accurate when the target's probability p is close to 1 */
        const double rest = -expm1((double)z[b->target[i]] - (double)b->lse_in[i]);
        int64_t j = 0;
        for (; j + 16 <= v; j += 16)
            v16_store(dz + j, v16_mul(minus, v16_exp(v16_sub(v16_load(z + j), lse))));
        if (j < v) {
            const int n = (int)(v - j);
            v16_store_n(dz + j, v16_mul(minus, v16_exp(v16_sub(v16_load_n(z + j, n), lse))), n);
        }
        dz[b->target[i]] = (float)(b->dlogp[i] * rest);
    }
}

plumb_status PLUMB_CPU(softcap_fwd)(plumb_stream *s, float *z, int64_t n, float cap)
{
    struct job b = {.dz = z, .cap = cap};
    split(s, n, 4, softcap, &b);
    return PLUMB_OK;
}

plumb_status PLUMB_CPU(logprob_fwd)(plumb_stream *s, float *logp, float *lse, const float *logits,
                                    const int32_t *target, int64_t n, int64_t v)
{
    struct job b = {.logp = logp, .lse = lse, .z = logits, .target = target, .v = v};
    split(s, n, 2 * v, fwd, &b);
    return PLUMB_OK;
}

plumb_status PLUMB_CPU(entropy_fwd)(plumb_stream *s, float *out, float *mean, const float *logits,
                                    const float *lse, int64_t n, int64_t v)
{
    struct job b = {.logp = out, .lse = mean, .z = logits, .lse_in = lse, .v = v};
    split(s, n, 2 * v, entropy, &b);
    return PLUMB_OK;
}

plumb_status PLUMB_CPU(logprob_bwd)(plumb_stream *s, float *dlogits, const float *logits,
                                    const float *lse, const int32_t *target, const float *dlogp,
                                    int64_t n, int64_t v, float cap)
{
    struct job b = {.dz = dlogits,
                    .z = logits,
                    .lse_in = lse,
                    .target = target,
                    .dlogp = dlogp,
                    .v = v,
                    .cap = cap};
    split(s, n, 2 * v, bwd, &b);
    return PLUMB_OK;
}

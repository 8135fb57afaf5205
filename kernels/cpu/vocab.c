/* vocab.c - token log-probabilities over the vocabulary, vectorised.
 * Layer 1 (cpu). Includes vocab.h, split.h. */
#include "cpu/vocab.h"

#include "cpu/split.h"

struct job {
    float *logp, *lse, *dz;
    const float *z, *lse_in, *dlogp;
    const int32_t *target;
    int64_t v;
};

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

static void bwd(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    const int64_t v = b->v;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *z = b->z + i * v;
        float *dz = b->dz + i * v;
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

plumb_status PLUMB_CPU(logprob_fwd)(plumb_stream *s, float *logp, float *lse, const float *logits,
                                    const int32_t *target, int64_t n, int64_t v)
{
    struct job b = {.logp = logp, .lse = lse, .z = logits, .target = target, .v = v};
    split(s, n, 2 * v, fwd, &b);
    return PLUMB_OK;
}

plumb_status PLUMB_CPU(logprob_bwd)(plumb_stream *s, float *dlogits, const float *logits,
                                    const float *lse, const int32_t *target, const float *dlogp,
                                    int64_t n, int64_t v)
{
    struct job b = {
        .dz = dlogits, .z = logits, .lse_in = lse, .target = target, .dlogp = dlogp, .v = v};
    split(s, n, 2 * v, bwd, &b);
    return PLUMB_OK;
}

/* vocab.c - reference implementation of the soft cap of logits, of token log-probabilities and
 * their gradient, and of the entropy. Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

#include <math.h>

plumb_status plumb_ref_softcap_fwd(plumb_stream *s, float *z, int64_t n, float cap)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        z[i] = (float)(cap * tanh((double)z[i] / cap));
    return PLUMB_OK;
}

plumb_status plumb_ref_logprob_fwd(plumb_stream *s, float *logp, float *lse, const float *logits,
                                   const int32_t *target, int64_t n, int64_t v)
{
    (void)s;
    for (int64_t i = 0; i < n; i++) {
        const float *z = logits + i * v;
        double max = -INFINITY, sum = 0.0;
        for (int64_t j = 0; j < v; j++)
            max = fmax(max, z[j]);
        for (int64_t j = 0; j < v; j++)
            sum += exp(z[j] - max);
        const double l = max + log(sum);
        lse[i] = (float)l;
        logp[i] = (float)(z[target[i]] - l);
    }
    return PLUMB_OK;
}

plumb_status plumb_ref_logprob_bwd(plumb_stream *s, float *dlogits, const float *logits,
                                   const float *lse, const int32_t *target, const float *dlogp,
                                   int64_t n, int64_t v, float cap)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < v; j++) {
            const double z = logits[i * v + j], a = z - lse[i];
            const double slope = cap > 0.0f ? 1.0 - (z / cap) * (z / cap) : 1.0;
            dlogits[i * v + j] = (float)(dlogp[i] * slope * (j == target[i] ? -expm1(a) : -exp(a)));
        }
    return PLUMB_OK;
}

plumb_status plumb_ref_entropy_fwd(plumb_stream *s, float *entropy, float *mean,
                                   const float *logits, const float *lse, int64_t n, int64_t v)
{
    (void)s;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0.0, all = 0.0;
        for (int64_t j = 0; j < v; j++) {
            const double a = (double)logits[i * v + j] - lse[i];
            sum -= exp(a) * a;
            all += logits[i * v + j];
        }
        entropy[i] = (float)sum;
        mean[i] = (float)(all / (double)v);
    }
    return PLUMB_OK;
}

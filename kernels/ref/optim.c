/* optim.c - reference implementation of AdamW and of the sum of squares.
 * Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

#include <math.h>

plumb_status plumb_ref_sumsq(plumb_stream *s, double *out, const float *x, int64_t n, int64_t block)
{
    (void)s;
    for (int64_t b = 0; b * block < n; b++) {
        double sum = 0.0;
        for (int64_t i = b * block; i < n && i < (b + 1) * block; i++)
            sum += (double)x[i] * x[i];
        out[b] = sum;
    }
    return PLUMB_OK;
}

plumb_status plumb_ref_adamw(plumb_stream *s, float *w, float *m, float *v, const float *g,
                             int64_t n, const struct plumb_adamw *p)
{
    (void)s;
    for (int64_t i = 0; i < n; i++) {
        const double gi = (double)g[i] * p->grad_scale;
        const double mi = p->beta1 * (double)m[i] + (1.0 - p->beta1) * gi;
        const double vi = p->beta2 * (double)v[i] + (1.0 - p->beta2) * gi * gi;
        m[i] = (float)mi;
        v[i] = (float)vi;
        w[i] = (float)(w[i] - p->lr * (mi / p->correction1 / (sqrt(vi / p->correction2) + p->eps) +
                                       p->weight_decay * (double)w[i]));
    }
    return PLUMB_OK;
}

/* rmsnorm.c - reference implementation of root-mean-square normalisation.
 * Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

#include <math.h>

plumb_status plumb_ref_rmsnorm_fwd(plumb_stream *s, float *y, float *rstd, const float *x,
                                   const float *w, int64_t n, int64_t c, float eps, float shift)
{
    (void)s;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (int64_t j = 0; j < c; j++)
            sum += (double)x[i * c + j] * x[i * c + j];
        const double r = 1.0 / sqrt(sum / (double)c + eps);
        rstd[i] = (float)r;
        for (int64_t j = 0; j < c; j++)
            y[i * c + j] = (float)(x[i * c + j] * r * ((double)w[j] + shift));
    }
    return PLUMB_OK;
}

plumb_status plumb_ref_rmsnorm_bwd(plumb_stream *s, float *dx, float *dw, const float *dy,
                                   const float *x, const float *w, const float *rstd, int64_t n,
                                   int64_t c, float shift)
{
    (void)s;
    for (int64_t i = 0; i < n; i++) {
        const double r = rstd[i];
        double dot = 0.0; /* dot product of the row: the sum over j of dy w x */
        for (int64_t j = 0; j < c; j++)
            dot += (double)dy[i * c + j] * ((double)w[j] + shift) * x[i * c + j];
        for (int64_t j = 0; j < c; j++) {
            const double g = (double)dy[i * c + j] * ((double)w[j] + shift);
            dx[i * c + j] =
                (float)(dx[i * c + j] + r * (g - r * r * x[i * c + j] * dot / (double)c));
        }
    }
    for (int64_t j = 0; j < c; j++) {
        double sum = dw[j];
        for (int64_t i = 0; i < n; i++)
            sum += (double)dy[i * c + j] * x[i * c + j] * rstd[i];
        dw[j] = (float)sum;
    }
    return PLUMB_OK;
}

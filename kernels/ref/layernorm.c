/* layernorm.c - reference implementation of layer normalisation with weight and bias.
 * Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

#include <math.h>

plumb_status plumb_ref_layernorm_fwd(plumb_stream *s, float *y, float *mean, float *rstd,
                                     const float *x, const float *w, const float *bias, int64_t n,
                                     int64_t c, float eps)
{
    (void)s;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0.0, squares = 0.0;
        for (int64_t j = 0; j < c; j++)
            sum += x[i * c + j];
        const double m = sum / (double)c;
        for (int64_t j = 0; j < c; j++)
            squares += (x[i * c + j] - m) * (x[i * c + j] - m);
        const double r = 1.0 / sqrt(squares / (double)c + eps);
        mean[i] = (float)m;
        rstd[i] = (float)r;
        for (int64_t j = 0; j < c; j++)
            y[i * c + j] = (float)((x[i * c + j] - m) * r * w[j] + bias[j]);
    }
    return PLUMB_OK;
}

plumb_status plumb_ref_layernorm_bwd(plumb_stream *s, float *dx, float *dw, float *dbias,
                                     const float *dy, const float *x, const float *w,
                                     const float *mean, const float *rstd, int64_t n, int64_t c)
{
    (void)s;
    for (int64_t i = 0; i < n; i++) {
        const double m = mean[i], r = rstd[i];
        double sum = 0.0, dot = 0.0; /* of the row: the sums over j of g = dy w and of g xhat */
        for (int64_t j = 0; j < c; j++) {
            const double g = (double)dy[i * c + j] * w[j];
            sum += g;
            dot += g * (x[i * c + j] - m) * r;
        }
        for (int64_t j = 0; j < c; j++) {
            const double g = (double)dy[i * c + j] * w[j], xhat = (x[i * c + j] - m) * r;
            dx[i * c + j] =
                (float)(dx[i * c + j] + r * (g - sum / (double)c - xhat * dot / (double)c));
        }
    }
    for (int64_t j = 0; j < c; j++) {
        double sum_w = dw[j], sum_bias = dbias[j];
        for (int64_t i = 0; i < n; i++) {
            sum_w += (double)dy[i * c + j] * ((double)x[i * c + j] - mean[i]) * rstd[i];
            sum_bias += dy[i * c + j];
        }
        dw[j] = (float)sum_w;
        dbias[j] = (float)sum_bias;
    }
    return PLUMB_OK;
}

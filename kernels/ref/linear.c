/* linear.c - reference implementation of the linear layer; sums are in double.
 * Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

/* The reference needs no special layout: linear_pack copies w, row-major. */
int64_t plumb_ref_linear_packed_count(int64_t out, int64_t in)
{
    return out * in;
}

plumb_status plumb_ref_linear_pack(plumb_stream *s, float *packed, const float *w, int64_t out,
                                   int64_t in)
{
    (void)s;
    for (int64_t i = 0; i < out * in; i++)
        packed[i] = w[i];
    return PLUMB_OK;
}

plumb_status plumb_ref_linear_fwd(plumb_stream *s, float *y, const float *x, const float *packed,
                                  const float *bias, int64_t n, int64_t out, int64_t in)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        for (int64_t o = 0; o < out; o++) {
            double sum = 0.0;
            for (int64_t k = 0; k < in; k++)
                sum += (double)x[i * in + k] * (double)packed[o * in + k];
            y[i * out + o] = (float)(sum + (bias ? (double)bias[o] : 0.0));
        }
    return PLUMB_OK;
}

int64_t plumb_ref_linear_work_count(int64_t n, int64_t out, int64_t in, int threads)
{
    (void)n, (void)out, (void)in, (void)threads;
    return 0;
}

plumb_status plumb_ref_linear_bwd_x(plumb_stream *s, float *dx, const float *dy, const float *w,
                                    float *work, int64_t n, int64_t out, int64_t in, int accumulate)
{
    (void)s, (void)work;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < in; k++) {
            double sum = accumulate ? (double)dx[i * in + k] : 0.0;
            for (int64_t o = 0; o < out; o++)
                sum += (double)dy[i * out + o] * (double)w[o * in + k];
            dx[i * in + k] = (float)sum;
        }
    return PLUMB_OK;
}

plumb_status plumb_ref_linear_bwd_w(plumb_stream *s, float *dw, float *dbias, const float *dy,
                                    const float *x, float *work, int64_t n, int64_t out, int64_t in)
{
    (void)s, (void)work;
    for (int64_t o = 0; o < out; o++) {
        for (int64_t k = 0; k < in; k++) {
            double sum = (double)dw[o * in + k];
            for (int64_t i = 0; i < n; i++)
                sum += (double)dy[i * out + o] * (double)x[i * in + k];
            dw[o * in + k] = (float)sum;
        }
        if (!dbias)
            continue;
        double sum = (double)dbias[o];
        for (int64_t i = 0; i < n; i++)
            sum += (double)dy[i * out + o];
        dbias[o] = (float)sum;
    }
    return PLUMB_OK;
}

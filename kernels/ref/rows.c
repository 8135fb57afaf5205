/* rows.c - reference implementation of the kernels that gather, scatter, average and add rows.
 * Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

#include <string.h>

plumb_status plumb_ref_gather_fwd(plumb_stream *s, float *y, const float *x, const int32_t *index,
                                  int64_t n, int64_t c)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        memcpy(y + i * c, x + index[i] * c, (size_t)c * sizeof(*y));
    return PLUMB_OK;
}

plumb_status plumb_ref_gather_bwd(plumb_stream *s, float *dx, const float *dy, const int32_t *index,
                                  int64_t n, int64_t c, int64_t m)
{
    (void)s, (void)m;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < c; j++)
            dx[index[i] * c + j] += dy[i * c + j];
    return PLUMB_OK;
}

plumb_status plumb_ref_move_rows(plumb_stream *s, float *x, const int32_t *pair, int64_t n,
                                 int64_t c, int64_t planes, int64_t stride)
{
    (void)s;
    for (int64_t p = 0; p < planes; p++)
        for (int64_t i = 0; i < n; i++)
            memcpy(x + p * stride + pair[2 * i + 1] * c, x + p * stride + pair[2 * i] * c,
                   (size_t)c * sizeof(*x));
    return PLUMB_OK;
}

plumb_status plumb_ref_segment_mean_fwd(plumb_stream *s, float *y, const float *x,
                                        const int64_t *offset, int64_t g, int64_t c)
{
    (void)s;
    for (int64_t i = 0; i < g; i++) {
        const int64_t rows = offset[i + 1] - offset[i];
        for (int64_t j = 0; j < c; j++) {
            double sum = 0.0;
            for (int64_t r = offset[i]; r < offset[i + 1]; r++)
                sum += x[r * c + j];
            y[i * c + j] = rows > 0 ? (float)(sum / (double)rows) : 0.0f;
        }
    }
    return PLUMB_OK;
}

plumb_status plumb_ref_add_fwd(plumb_stream *s, float *y, const float *a, const float *b, int64_t n)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
    return PLUMB_OK;
}

plumb_status plumb_ref_scale_fwd(plumb_stream *s, float *y, const float *x, float factor, int64_t n)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        y[i] = factor * x[i];
    return PLUMB_OK;
}

plumb_status plumb_ref_accumulate(plumb_stream *s, float *y, const float *x, int64_t n)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
    return PLUMB_OK;
}

/* rope.c - reference implementation of rotary position embedding.
 * Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

static void rotate(float *x, const float *cos_sin, const int32_t *pos, int64_t n, int64_t h,
                   int64_t d, int64_t r, double sign)
{
    const int64_t half = r / 2;
    for (int64_t i = 0; i < n; i++) {
        const float *c = cos_sin + pos[i] * r, *s = c + half;
        for (int64_t a = 0; a < h; a++) {
            float *x1 = x + (i * h + a) * d, *x2 = x1 + half;
            for (int64_t j = 0; j < half; j++) {
                const double u = x1[j], v = x2[j], cj = c[j], sj = sign * s[j];
                x1[j] = (float)(u * cj - v * sj);
                x2[j] = (float)(v * cj + u * sj);
            }
        }
    }
}

plumb_status plumb_ref_rope_fwd(plumb_stream *s, float *x, const float *cos_sin, const int32_t *pos,
                                int64_t n, int64_t h, int64_t d, int64_t r)
{
    (void)s;
    rotate(x, cos_sin, pos, n, h, d, r, 1.0);
    return PLUMB_OK;
}

plumb_status plumb_ref_rope_bwd(plumb_stream *s, float *dx, const float *cos_sin,
                                const int32_t *pos, int64_t n, int64_t h, int64_t d, int64_t r)
{
    (void)s;
    rotate(dx, cos_sin, pos, n, h, d, r, -1.0);
    return PLUMB_OK;
}

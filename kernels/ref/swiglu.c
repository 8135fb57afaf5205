/* swiglu.c - reference implementation of SwiGLU, the gated activation of the MLP.
 * Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

#include <math.h>

plumb_status plumb_ref_swiglu_fwd(plumb_stream *s, float *y, const float *gate, const float *up,
                                  int64_t n)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)(gate[i] / (1.0 + exp(-(double)gate[i])) * up[i]);
    return PLUMB_OK;
}

plumb_status plumb_ref_swiglu_bwd(plumb_stream *s, float *dgate, float *dup, const float *dy,
                                  const float *gate, const float *up, int64_t n)
{
    (void)s;
    for (int64_t i = 0; i < n; i++) {
        const double g = gate[i], u = up[i], sig = 1.0 / (1.0 + exp(-g));
        dgate[i] = (float)(dy[i] * u * sig * (1.0 + g * (1.0 - sig)));
        dup[i] = (float)(dy[i] * g * sig);
    }
    return PLUMB_OK;
}

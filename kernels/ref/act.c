/* act.c - reference implementation of the activations of the MLP, gated and plain.
 * Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

#include <math.h>

static double sigmoid(double z)
{
    return 1.0 / (1.0 + exp(-z));
}

/* The value of an activation at z, and its derivative. */
struct point {
    double value, slope;
};
static struct point point_of(enum plumb_activation kind, double z)
{
    if (kind == PLUMB_ACT_SILU) {
        const double s = sigmoid(z);
        return (struct point){z * s, s * (1.0 + z * (1.0 - s))};
    }
    if (kind == PLUMB_ACT_GELU) {
        const double s = 0.5 * erfc(-z * sqrt(0.5));
        return (struct point){z * s,
                              s + z * exp(-0.5 * z * z) * 0.3989422804014327}; /* 1/sqrt(2 pi) */
    }
    /* GELU's tanh form: (1 + tanh(u)) / 2 = sigmoid(2 u), u = sqrt(2 / pi) (z + 0.044715 z^3) */
    const double k = 2.0 * 0.7978845608028654; /* 2 sqrt(2 / pi) */
    const double s = sigmoid(k * (z + 0.044715 * z * z * z));
    return (struct point){z * s, s + z * s * (1.0 - s) * k * (1.0 + 3.0 * 0.044715 * z * z)};
}

plumb_status plumb_ref_act_fwd(plumb_stream *s, float *y, const float *gate, const float *up,
                               int64_t n, enum plumb_activation kind)
{
    (void)s;
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)(point_of(kind, gate[i]).value * (up ? (double)up[i] : 1.0));
    return PLUMB_OK;
}

plumb_status plumb_ref_act_bwd(plumb_stream *s, float *dgate, float *dup, const float *dy,
                               const float *gate, const float *up, int64_t n,
                               enum plumb_activation kind)
{
    (void)s;
    for (int64_t i = 0; i < n; i++) {
        const struct point p = point_of(kind, gate[i]);
        const double u = up ? (double)up[i] : 1.0;
        dgate[i] = (float)(dy[i] * u * p.slope);
        if (up)
            dup[i] = (float)(dy[i] * p.value);
    }
    return PLUMB_OK;
}

/* act.c - the activations of the MLP, gated and plain, vectorised.
 * Layer 1 (cpu). Includes vec.h, split.h. */
#include "cpu/split.h"
#include "cpu/vec.h"

struct job {
    float *y, *dgate, *dup;
    const float *dy, *gate, *up;
};

VEC_FN v16 sigmoid(v16 g)
{
    const v16 one = v16_set1(1.0f);
    return v16_div(one, v16_add(one, v16_exp(v16_sub(v16_set1(0.0f), g))));
}

/* a = |x|, at most 40. below = Phi(-a), the distribution function of the standard normal at -a.
 * bell = exp(-a^2 / 2), the density without its constant factor. The computation of `bell` corrects
 * the rounding error of a^2, because exp would turn it into a large relative error. The ratio below
 * / bell is a polynomial in 1 / (1 + 0.345 a). Its coefficients were fitted for the least maximum
 * relative error (2^-24), and each one was rounded to float before the next one was fitted. The
 * relative error of `below` is at most 4e-7. */
struct normal {
    v16 a, below, bell;
};
VEC_FN struct normal normal_of(v16 x)
{
    const v16 zero = v16_set1(0.0f), one = v16_set1(1.0f);
    const v16 a = v16_min(v16_set1(40.0f), v16_max(x, v16_sub(zero, x)));
    const v16 square = v16_mul(a, a), half = v16_set1(-0.5f);
    const v16 lost = v16_fma(a, a, v16_sub(zero, square));
    const v16 rough = v16_exp(v16_mul(square, half));
    const v16 bell = v16_fma(rough, v16_mul(lost, half), rough);
    const v16 t = v16_div(one, v16_fma(v16_set1(0.345f), a, one));
    v16 p = v16_set1(-0x1.c9a78ap-6f);
    p = v16_fma(p, t, v16_set1(0x1.2558e8p-3f));
    p = v16_fma(p, t, v16_set1(-0x1.11a528p-2f));
    p = v16_fma(p, t, v16_set1(0x1.76d220p-3f));
    p = v16_fma(p, t, v16_set1(-0x1.1e432ap-5f));
    p = v16_fma(p, t, v16_set1(0x1.c5b186p-4f));
    p = v16_fma(p, t, v16_set1(0x1.e130e4p-4f));
    p = v16_fma(p, t, v16_set1(0x1.1a9ad8p-3f));
    p = v16_fma(p, t, v16_set1(0x1.19d8f8p-3f));
    return (struct normal){a, v16_mul(bell, v16_mul(p, t)), bell};
}

/* The constants of GELU's tanh form: (1 + tanh(u)) / 2 = sigmoid(2 u) with
 * 2 u = x (K + K3 x^2),  K = 2 sqrt(2 / pi),  K3 = 0.044715 K */
#define GELU_K  1.5957691216057308f
#define GELU_K3 0.0713548162726f

VEC_FN v16 gelu_sigmoid(v16 x, v16 square)
{
    return sigmoid(v16_mul(x, v16_fma(v16_set1(GELU_K3), square, v16_set1(GELU_K))));
}

/* Returns the activation of x. Every caller passes a constant as `kind`, so that the compiler
 * removes the branches. */
VEC_FN v16 value_of(const enum plumb_activation kind, v16 x)
{
    if (kind == PLUMB_ACT_SILU)
        return v16_mul(x, sigmoid(x));
    if (kind == PLUMB_ACT_GELU_TANH)
        return v16_mul(x, gelu_sigmoid(x, v16_mul(x, x)));
    const struct normal m = normal_of(x);
    return v16_sub(v16_max(v16_set1(0.0f), x), v16_mul(m.a, m.below));
}

/* Writes the activation of x to *value and its derivative to *slope. `kind` must be one of the two
 * forms of GELU. */
VEC_FN void gelu_point(const enum plumb_activation kind, v16 x, v16 *value, v16 *slope)
{
    const v16 zero = v16_set1(0.0f), one = v16_set1(1.0f), half = v16_set1(0.5f);
    if (kind == PLUMB_ACT_GELU) {
        const struct normal m = normal_of(x);
        const v16 size = v16_max(x, v16_sub(zero, x));
        const v16 sign = v16_div(x, v16_max(v16_set1(1e-30f), size)); /* 0 if x = 0 */
        const v16 up_to_x = v16_fma(sign, v16_sub(half, m.below), half);
        const v16 density = v16_mul(m.bell, v16_set1(0.39894228f)); /* 1 / sqrt(2 pi) */
        *value = v16_sub(v16_max(zero, x), v16_mul(m.a, m.below));
        *slope = v16_fma(v16_mul(sign, m.a), density, up_to_x);
        return;
    }
    /* for |x| > 30 the value of gelu_sigmoid is 0 or 1, so limiting z to [-30, 30] changes no
     * result; it keeps z^2 finite */
    const v16 limit = v16_set1(30.0f), low = v16_set1(-30.0f);
    const v16 z = v16_min(limit, v16_max(low, x)), square = v16_mul(z, z);
    const v16 sig = gelu_sigmoid(z, square);
    const v16 inner = v16_fma(v16_set1(3.0f * GELU_K3), square, v16_set1(GELU_K));
    const v16 rest = v16_mul(v16_mul(z, v16_sub(one, sig)), inner);
    *value = v16_mul(x, sig);
    *slope = v16_fma(sig, rest, sig);
}

VEC_FN v16 fwd_one(const enum plumb_activation kind, v16 g, v16 u)
{
    return v16_mul(value_of(kind, g), u);
}

VEC_FN void bwd_one(const enum plumb_activation kind, v16 *dg, v16 *du, v16 dy, v16 g, v16 u)
{
    if (kind == PLUMB_ACT_SILU) { /* dg = dy u sig (1 + g (1 - sig)),  du = dy g sig */
        const v16 one = v16_set1(1.0f), sig = sigmoid(g), dys = v16_mul(dy, sig);
        const v16 slope = v16_fma(g, v16_sub(one, sig), one);
        *dg = v16_mul(v16_mul(dys, u), slope);
        *du = v16_mul(dys, g);
        return;
    }
    v16 value, slope;
    gelu_point(kind, g, &value, &slope);
    *dg = v16_mul(v16_mul(dy, u), slope);
    *du = v16_mul(dy, value);
}

/* Returns the 16 numbers by which act(gate) is multiplied: up[i .. i+n-1] in lanes 0..n-1, or 1 in
 * all lanes if up is NULL (an activation that is not gated). */
VEC_FN v16 factor(const float *up, int64_t i, int n)
{
    return up ? v16_load_n(up + i, n) : v16_set1(1.0f);
}

VEC_FN void fwd_range(const enum plumb_activation kind, const struct job *b, int64_t begin,
                      int64_t end)
{
    int64_t i = begin;
    for (; i + 16 <= end; i += 16)
        v16_store(b->y + i, fwd_one(kind, v16_load(b->gate + i), factor(b->up, i, 16)));
    if (i < end) {
        const int n = (int)(end - i);
        v16_store_n(b->y + i, fwd_one(kind, v16_load_n(b->gate + i, n), factor(b->up, i, n)), n);
    }
}

VEC_FN void bwd_range(const enum plumb_activation kind, const struct job *b, int64_t begin,
                      int64_t end)
{
    v16 dg, du;
    for (int64_t i = begin; i < end; i += 16) {
        const int n = end - i < 16 ? (int)(end - i) : 16;
        bwd_one(kind, &dg, &du, v16_load_n(b->dy + i, n), v16_load_n(b->gate + i, n),
                factor(b->up, i, n));
        v16_store_n(b->dgate + i, dg, n);
        if (b->up)
            v16_store_n(b->dup + i, du, n);
    }
}

/* JOBS defines the forward and the backward job of one activation. `kind` is a constant in them, so
 * that their loops contain no branch on the activation. */
#define JOBS(kind)                                                                                 \
    static void fwd_##kind(void *arg, int64_t begin, int64_t end, int thread)                      \
    {                                                                                              \
        (void)thread;                                                                              \
        fwd_range(kind, arg, begin, end);                                                          \
    }                                                                                              \
    static void bwd_##kind(void *arg, int64_t begin, int64_t end, int thread)                      \
    {                                                                                              \
        (void)thread;                                                                              \
        bwd_range(kind, arg, begin, end);                                                          \
    }
JOBS(PLUMB_ACT_SILU)
JOBS(PLUMB_ACT_GELU)
JOBS(PLUMB_ACT_GELU_TANH)

static plumb_pool_fn *const fwd_of[] = {[PLUMB_ACT_SILU] = fwd_PLUMB_ACT_SILU,
                                        [PLUMB_ACT_GELU] = fwd_PLUMB_ACT_GELU,
                                        [PLUMB_ACT_GELU_TANH] = fwd_PLUMB_ACT_GELU_TANH};
static plumb_pool_fn *const bwd_of[] = {[PLUMB_ACT_SILU] = bwd_PLUMB_ACT_SILU,
                                        [PLUMB_ACT_GELU] = bwd_PLUMB_ACT_GELU,
                                        [PLUMB_ACT_GELU_TANH] = bwd_PLUMB_ACT_GELU_TANH};

plumb_status PLUMB_CPU(act_fwd)(plumb_stream *s, float *y, const float *gate, const float *up,
                                int64_t n, enum plumb_activation kind)
{
    struct job b = {.y = y, .gate = gate, .up = up};
    split(s, n, 3, fwd_of[kind], &b);
    return PLUMB_OK;
}

plumb_status PLUMB_CPU(act_bwd)(plumb_stream *s, float *dgate, float *dup, const float *dy,
                                const float *gate, const float *up, int64_t n,
                                enum plumb_activation kind)
{
    struct job b = {.dgate = dgate, .dup = dup, .dy = dy, .gate = gate, .up = up};
    split(s, n, 5, bwd_of[kind], &b);
    return PLUMB_OK;
}

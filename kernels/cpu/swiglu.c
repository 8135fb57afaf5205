/* swiglu.c - SwiGLU, the gated activation of the MLP, vectorised.
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

VEC_FN v16 fwd_one(v16 g, v16 u)
{
    return v16_mul(v16_mul(g, sigmoid(g)), u);
}

static void fwd(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    int64_t i = begin;
    (void)thread;
    for (; i + 16 <= end; i += 16)
        v16_store(b->y + i, fwd_one(v16_load(b->gate + i), v16_load(b->up + i)));
    if (i < end) {
        const int n = (int)(end - i);
        v16_store_n(b->y + i, fwd_one(v16_load_n(b->gate + i, n), v16_load_n(b->up + i, n)), n);
    }
}

/* dgate = dy u sig (1 + g (1 - sig)),  dup = dy g sig */
VEC_FN void bwd_one(v16 *dg, v16 *du, v16 dy, v16 g, v16 u)
{
    const v16 one = v16_set1(1.0f), sig = sigmoid(g), dys = v16_mul(dy, sig);
    const v16 slope = v16_fma(g, v16_sub(one, sig), one);
    *dg = v16_mul(v16_mul(dys, u), slope);
    *du = v16_mul(dys, g);
}

static void bwd(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    int64_t i = begin;
    v16 dg, du;
    (void)thread;
    for (; i + 16 <= end; i += 16) {
        bwd_one(&dg, &du, v16_load(b->dy + i), v16_load(b->gate + i), v16_load(b->up + i));
        v16_store(b->dgate + i, dg);
        v16_store(b->dup + i, du);
    }
    if (i < end) {
        const int n = (int)(end - i);
        bwd_one(&dg, &du, v16_load_n(b->dy + i, n), v16_load_n(b->gate + i, n),
                v16_load_n(b->up + i, n));
        v16_store_n(b->dgate + i, dg, n);
        v16_store_n(b->dup + i, du, n);
    }
}

plumb_status PLUMB_CPU(swiglu_fwd)(plumb_stream *s, float *y, const float *gate, const float *up,
                                   int64_t n)
{
    struct job b = {.y = y, .gate = gate, .up = up};
    split(s, n, 3, fwd, &b);
    return PLUMB_OK;
}

plumb_status PLUMB_CPU(swiglu_bwd)(plumb_stream *s, float *dgate, float *dup, const float *dy,
                                   const float *gate, const float *up, int64_t n)
{
    struct job b = {.dgate = dgate, .dup = dup, .dy = dy, .gate = gate, .up = up};
    split(s, n, 5, bwd, &b);
    return PLUMB_OK;
}

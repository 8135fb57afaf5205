/* optim.c - AdamW and the sum of squares, vectorised.
 * Layer 1 (cpu). Includes vec.h, split.h. */
#include "cpu/split.h"
#include "cpu/vec.h"

struct squares {
    double *out;
    const float *x;
    int64_t n, block;
};

/* Sums the squares of each block in double, where the square of a float is exact: in sixteen
 * chains, whose sums are added in a balanced tree. */
static void squares_of(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct squares *q = arg;
    (void)thread;
    for (int64_t b = begin; b < end; b++) {
        const float *x = q->x + b * q->block;
        const int64_t n = plumb_min_i64(q->block, q->n - b * q->block);
        double acc[16] = {0};
        int64_t i = 0;
        for (; i + 16 <= n; i += 16)
            for (int l = 0; l < 16; l++)
                acc[l] += (double)x[i + l] * x[i + l];
        for (int l = 0; i < n; i++, l++)
            acc[l] += (double)x[i] * x[i];
        for (int width = 8; width > 0; width /= 2)
            for (int l = 0; l < width; l++)
                acc[l] += acc[l + width];
        q->out[b] = acc[0];
    }
}

plumb_status PLUMB_CPU(sumsq)(plumb_stream *s, double *out, const float *x, int64_t n,
                              int64_t block)
{
    struct squares q = {out, x, n, block};
    split(s, plumb_ceil_div(n, block), plumb_min_i64(block, n), squares_of, &q);
    return PLUMB_OK;
}

struct adamw {
    float *w, *m, *v;
    const float *g;
    v16 scale, b1, b1c, b2, b2c, ic1, ic2, eps, lr, decay;
};

VEC_FN void adamw_step(const struct adamw *p, v16 *w, v16 *m, v16 *v, v16 g)
{
    g = v16_mul(g, p->scale);
    *m = v16_fma(p->b1, *m, v16_mul(p->b1c, g));
    *v = v16_fma(p->b2, *v, v16_mul(p->b2c, v16_mul(g, g)));
    const v16 root = v16_add(v16_sqrt(v16_mul(*v, p->ic2)), p->eps);
    const v16 step = v16_fma(p->decay, *w, v16_div(v16_mul(*m, p->ic1), root));
    *w = v16_fma(p->lr, step, *w);
}

static void adamw_range(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct adamw p = *(const struct adamw *)arg;
    int64_t i = begin;
    (void)thread;
    for (; i + 16 <= end; i += 16) {
        v16 w = v16_load(p.w + i), m = v16_load(p.m + i), v = v16_load(p.v + i);
        adamw_step(&p, &w, &m, &v, v16_load(p.g + i));
        v16_store(p.w + i, w);
        v16_store(p.m + i, m);
        v16_store(p.v + i, v);
    }
    if (i < end) {
        const int n = (int)(end - i);
        v16 w = v16_load_n(p.w + i, n), m = v16_load_n(p.m + i, n), v = v16_load_n(p.v + i, n);
        adamw_step(&p, &w, &m, &v, v16_load_n(p.g + i, n));
        v16_store_n(p.w + i, w, n);
        v16_store_n(p.m + i, m, n);
        v16_store_n(p.v + i, v, n);
    }
}

plumb_status PLUMB_CPU(adamw)(plumb_stream *s, float *w, float *m, float *v, const float *g,
                              int64_t n, const struct plumb_adamw *p)
{
    struct adamw a = {.w = w,
                      .m = m,
                      .v = v,
                      .g = g,
                      .scale = v16_set1(p->grad_scale),
                      .b1 = v16_set1(p->beta1),
                      .b1c = v16_set1((float)(1.0 - p->beta1)),
                      .b2 = v16_set1(p->beta2),
                      .b2c = v16_set1((float)(1.0 - p->beta2)),
                      .ic1 = v16_set1(1.0f / p->correction1),
                      .ic2 = v16_set1(1.0f / p->correction2),
                      .eps = v16_set1(p->eps),
                      .lr = v16_set1(-p->lr),
                      .decay = v16_set1(p->weight_decay)};
    split(s, n, 4, adamw_range, &a);
    return PLUMB_OK;
}

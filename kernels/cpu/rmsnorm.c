/* rmsnorm.c - root-mean-square normalisation, vectorised.
 * Layer 1 (cpu). Includes vec.h, split.h. */
#include "cpu/split.h"
#include "cpu/vec.h"

/* Returns sum_j (a_j (b_j + shift)) x_j, or sum_j a_j x_j if b is NULL. Four accumulators of 16
 * lanes run over blocks of 64 elements; the first accumulator also adds the rest. The order depends
 * on c only. */
VEC_FN float sum3(const float *a, const float *b, float shift, const float *x, int64_t c)
{
    v16 acc[4];
    const v16 more = v16_set1(shift);
    for (int i = 0; i < 4; i++)
        acc[i] = v16_set1(0.0f);
    int64_t j = 0;
    for (; j + 64 <= c; j += 64)
        for (int i = 0; i < 4; i++) {
            v16 l = v16_load(a + j + 16 * i);
            if (b)
                l = v16_mul(l, v16_add(v16_load(b + j + 16 * i), more));
            acc[i] = v16_fma(l, v16_load(x + j + 16 * i), acc[i]);
        }
    for (; j < c; j += 16) {
        const int n = c - j < 16 ? (int)(c - j) : 16;
        v16 l = v16_load_n(a + j, n);
        if (b)
            l = v16_mul(l, v16_add(v16_load_n(b + j, n), more));
        acc[0] = v16_fma(l, v16_load_n(x + j, n), acc[0]);
    }
    return v16_sum(v16_add(v16_add(acc[0], acc[1]), v16_add(acc[2], acc[3])));
}

struct fwd {
    float *y, *rstd;
    const float *x, *w;
    int64_t c;
    float eps, shift;
};

static void fwd_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct fwd *f = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *x = f->x + i * f->c;
        float *y = f->y + i * f->c;
        const float r = 1.0f / sqrtf(sum3(x, NULL, 0.0f, x, f->c) / (float)f->c + f->eps);
        const v16 rv = v16_set1(r), more = v16_set1(f->shift);
        f->rstd[i] = r;
        int64_t j = 0;
        for (; j + 16 <= f->c; j += 16)
            v16_store(y + j,
                      v16_mul(v16_mul(v16_load(x + j), rv), v16_add(v16_load(f->w + j), more)));
        if (j < f->c) {
            const int n = (int)(f->c - j);
            v16_store_n(
                y + j,
                v16_mul(v16_mul(v16_load_n(x + j, n), rv), v16_add(v16_load_n(f->w + j, n), more)),
                n);
        }
    }
}

plumb_status PLUMB_CPU(rmsnorm_fwd)(plumb_stream *s, float *y, float *rstd, const float *x,
                                    const float *w, int64_t n, int64_t c, float eps, float shift)
{
    struct fwd f = {y, rstd, x, w, c, eps, shift};
    split(s, n, 2 * c, fwd_rows, &f);
    return PLUMB_OK;
}

struct bwd {
    float *dx, *dw;
    const float *dy, *x, *w, *rstd;
    int64_t n, c;
    float shift;
};

static void bwd_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct bwd *b = arg;
    const int64_t c = b->c;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *x = b->x + i * c, *dy = b->dy + i * c;
        float *dx = b->dx + i * c;
        const float r = b->rstd[i];
        const v16 k = v16_set1(-(r * r * (sum3(dy, b->w, b->shift, x, c) / (float)c))),
                  rv = v16_set1(r);
        const v16 more = v16_set1(b->shift);
        int64_t j = 0;
        for (; j + 16 <= c; j += 16) {
            const v16 g = v16_mul(v16_load(dy + j), v16_add(v16_load(b->w + j), more));
            const v16 t = v16_fma(v16_load(x + j), k, g);
            v16_store(dx + j, v16_fma(t, rv, v16_load(dx + j)));
        }
        if (j < c) {
            const int n = (int)(c - j);
            const v16 g = v16_mul(v16_load_n(dy + j, n), v16_add(v16_load_n(b->w + j, n), more));
            const v16 t = v16_fma(v16_load_n(x + j, n), k, g);
            v16_store_n(dx + j, v16_fma(t, rv, v16_load_n(dx + j, n)), n);
        }
    }
}

/* bwd_strip computes the sums over rows [first, last) in chains that start at 0, and adds them to
 * columns [j, j + cols) of dw, cols <= 16 STRIP. */
enum { STRIP = 8, BLOCK_ROWS = PLUMB_SUM_BLOCK };
VEC_FN void bwd_strip(const struct bwd *b, int64_t first, int64_t last, int64_t j, int64_t cols)
{
    v16 sum[STRIP];
    const int64_t c = b->c, whole = cols / 16;
    const int rest = (int)(cols % 16);
    for (int v = 0; v < STRIP; v++)
        sum[v] = v16_set1(0.0f);
    for (int64_t i = first; i < last; i++) {
        const float *x = b->x + i * c + j, *dy = b->dy + i * c + j;
        const v16 r = v16_set1(b->rstd[i]);
        for (int64_t v = 0; v < whole; v++)
            sum[v] = v16_fma(v16_mul(v16_load(dy + 16 * v), r), v16_load(x + 16 * v), sum[v]);
        if (rest)
            sum[whole] = v16_fma(v16_mul(v16_load_n(dy + 16 * whole, rest), r),
                                 v16_load_n(x + 16 * whole, rest), sum[whole]);
    }
    float *dw = b->dw + j;
    for (int64_t v = 0; v < whole; v++)
        v16_store(dw + 16 * v, v16_add(v16_load(dw + 16 * v), sum[v]));
    if (rest)
        v16_store_n(dw + 16 * whole, v16_add(v16_load_n(dw + 16 * whole, rest), sum[whole]), rest);
}

/* Adds the gradients of columns [16 begin, 16 end) to dw. The sum over rows runs over blocks of
 * BLOCK_ROWS rows; the sum of a block is a chain that starts at 0, and the block sums are added in
 * order. The result does not depend on the number of threads. */
static void bwd_columns(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct bwd *b = arg;
    const int64_t last = plumb_min_i64(16 * end, b->c);
    (void)thread;
    for (int64_t i = 0; i < b->n; i += BLOCK_ROWS)
        for (int64_t j = 16 * begin; j < last; j += 16 * STRIP)
            bwd_strip(b, i, plumb_min_i64(i + BLOCK_ROWS, b->n), j,
                      plumb_min_i64(16 * STRIP, last - j));
}

plumb_status PLUMB_CPU(rmsnorm_bwd)(plumb_stream *s, float *dx, float *dw, const float *dy,
                                    const float *x, const float *w, const float *rstd, int64_t n,
                                    int64_t c, float shift)
{
    struct bwd b = {dx, dw, dy, x, w, rstd, n, c, shift};
    split(s, n, 4 * c, bwd_rows, &b);
    split(s, plumb_ceil_div(c, 16), 32 * n, bwd_columns, &b);
    return PLUMB_OK;
}

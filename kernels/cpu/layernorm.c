/* layernorm.c - layer normalisation with weight and bias, vectorised.
 * Layer 1 (cpu). Includes vec.h, split.h. */
#include "cpu/split.h"
#include "cpu/vec.h"

/* The sums of a row run in four accumulators of 16 lanes over blocks of 64 elements. In sum_of and
 * squares_of the first accumulator also adds the rest of the row; in row_sums the accumulators add
 * the rest in turn, 16 elements each. The order depends on c only. */
struct lanes {
    v16 at[4];
};
VEC_FN struct lanes no_lanes(void)
{
    const v16 zero = v16_set1(0.0f);
    return (struct lanes){{zero, zero, zero, zero}};
}
VEC_FN float total(struct lanes s)
{
    return v16_sum(v16_add(v16_add(s.at[0], s.at[1]), v16_add(s.at[2], s.at[3])));
}

/* Returns sum_j x_j. */
VEC_FN float sum_of(const float *x, int64_t c)
{
    struct lanes s = no_lanes();
    int64_t j = 0;
    for (; j + 64 <= c; j += 64)
        for (int i = 0; i < 4; i++)
            s.at[i] = v16_add(s.at[i], v16_load(x + j + 16 * i));
    for (; j < c; j += 16)
        s.at[0] = v16_add(s.at[0], v16_load_n(x + j, (int)plumb_min_i64(16, c - j)));
    return total(s);
}

/* Returns sum_j (x_j - mean)^2. */
VEC_FN float squares_of(const float *x, float mean, int64_t c)
{
    struct lanes s = no_lanes();
    const v16 m = v16_set1(mean);
    int64_t j = 0;
    for (; j + 64 <= c; j += 64)
        for (int i = 0; i < 4; i++) {
            const v16 d = v16_sub(v16_load(x + j + 16 * i), m);
            s.at[i] = v16_fma(d, d, s.at[i]);
        }
    for (; j < c; j += 16) {
        const v16 d = v16_sub(v16_load_fill(x + j, (int)plumb_min_i64(16, c - j), mean), m);
        s.at[0] = v16_fma(d, d, s.at[0]);
    }
    return total(s);
}

struct fwd {
    float *y, *mean, *rstd;
    const float *x, *w, *bias;
    int64_t c;
    float eps;
};

static void fwd_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct fwd *f = arg;
    const int64_t c = f->c;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *x = f->x + i * c;
        float *y = f->y + i * c;
        const float mean = sum_of(x, c) / (float)c;
        const float r = 1.0f / sqrtf(squares_of(x, mean, c) / (float)c + f->eps);
        const v16 m = v16_set1(mean), rv = v16_set1(r);
        f->mean[i] = mean;
        f->rstd[i] = r;
        for (int64_t j = 0; j < c; j += 16) {
            const int n = (int)plumb_min_i64(16, c - j);
            const v16 xhat = v16_mul(v16_sub(v16_load_n(x + j, n), m), rv);
            v16_store_n(y + j, v16_fma(xhat, v16_load_n(f->w + j, n), v16_load_n(f->bias + j, n)),
                        n);
        }
    }
}

plumb_status PLUMB_CPU(layernorm_fwd)(plumb_stream *s, float *y, float *mean, float *rstd,
                                      const float *x, const float *w, const float *bias, int64_t n,
                                      int64_t c, float eps)
{
    struct fwd f = {y, mean, rstd, x, w, bias, c, eps};
    split(s, n, 3 * c, fwd_rows, &f);
    return PLUMB_OK;
}

struct bwd {
    float *dx, *dw, *dbias;
    const float *dy, *x, *w, *mean, *rstd;
    int64_t n, c;
};

/* Computes the sums over a row of g = dy w and of g (x - mean). */
VEC_FN void row_sums(const struct bwd *b, const float *dy, const float *x, float mean, float *sum,
                     float *dot)
{
    struct lanes s = no_lanes(), d = no_lanes();
    const v16 m = v16_set1(mean);
    for (int64_t j = 0; j < b->c; j += 16) {
        const int n = (int)plumb_min_i64(16, b->c - j), i = (int)(j / 16 % 4);
        const v16 g = v16_mul(v16_load_n(dy + j, n), v16_load_n(b->w + j, n));
        s.at[i] = v16_add(s.at[i], g);
        d.at[i] = v16_fma(g, v16_sub(v16_load_n(x + j, n), m), d.at[i]);
    }
    *sum = total(s);
    *dot = total(d);
}

/* Computes for rows [begin, end): dx += rstd (g - mean of g - xhat times mean of (g xhat)), with
 * g = dy w and xhat = (x - mean) rstd. */
static void bwd_rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct bwd *b = arg;
    const int64_t c = b->c;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *x = b->x + i * c, *dy = b->dy + i * c;
        float *dx = b->dx + i * c, sum, dot;
        const float r = b->rstd[i];
        row_sums(b, dy, x, b->mean[i], &sum, &dot);
        const v16 m = v16_set1(b->mean[i]), rv = v16_set1(r), less = v16_set1(-sum / (float)c);
        const v16 k = v16_set1(-(r * r * (dot / (float)c)));
        for (int64_t j = 0; j < c; j += 16) {
            const int n = (int)plumb_min_i64(16, c - j);
            const v16 g = v16_fma(v16_load_n(dy + j, n), v16_load_n(b->w + j, n), less);
            const v16 t = v16_fma(v16_sub(v16_load_n(x + j, n), m), k, g);
            v16_store_n(dx + j, v16_fma(t, rv, v16_load_n(dx + j, n)), n);
        }
    }
}

/* bwd_column computes the sums over rows [first, last) in chains that start at 0, and adds them to
 * columns [j, j + n) of dw and dbias, n <= 16. */
enum { BLOCK_ROWS = PLUMB_SUM_BLOCK };
VEC_FN void bwd_column(const struct bwd *b, int64_t first, int64_t last, int64_t j, int n)
{
    const int64_t c = b->c;
    v16 dw = v16_set1(0.0f), dbias = v16_set1(0.0f);
    for (int64_t i = first; i < last; i++) {
        const v16 dy = v16_load_n(b->dy + i * c + j, n), r = v16_set1(b->rstd[i]);
        const v16 d = v16_sub(v16_load_n(b->x + i * c + j, n), v16_set1(b->mean[i]));
        dw = v16_fma(v16_mul(dy, r), d, dw);
        dbias = v16_add(dbias, dy);
    }
    v16_store_n(b->dw + j, v16_add(v16_load_n(b->dw + j, n), dw), n);
    v16_store_n(b->dbias + j, v16_add(v16_load_n(b->dbias + j, n), dbias), n);
}

/* Adds the gradients of columns [16 begin, 16 end) to dw and dbias. The sums over rows run over
 * blocks of BLOCK_ROWS rows, whose sums are added in order, for every number of threads. */
static void bwd_columns(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct bwd *b = arg;
    (void)thread;
    for (int64_t i = 0; i < b->n; i += BLOCK_ROWS)
        for (int64_t j = 16 * begin; j < 16 * end && j < b->c; j += 16)
            bwd_column(b, i, plumb_min_i64(i + BLOCK_ROWS, b->n), j,
                       (int)plumb_min_i64(16, b->c - j));
}

plumb_status PLUMB_CPU(layernorm_bwd)(plumb_stream *s, float *dx, float *dw, float *dbias,
                                      const float *dy, const float *x, const float *w,
                                      const float *mean, const float *rstd, int64_t n, int64_t c)
{
    struct bwd b = {dx, dw, dbias, dy, x, w, mean, rstd, n, c};
    split(s, n, 5 * c, bwd_rows, &b);
    split(s, plumb_ceil_div(c, 16), 32 * n, bwd_columns, &b);
    return PLUMB_OK;
}

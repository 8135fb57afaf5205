/* rows.c - the kernels that gather, scatter and add rows, vectorised.
 * Layer 1 (cpu). Includes vec.h, split.h. */
#include "cpu/split.h"
#include "cpu/vec.h"

struct job {
    float *y;
    const float *a, *b;
    const int32_t *index;
    int64_t n, c;
    float factor;
};

static void gather(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        memcpy(b->y + i * b->c, b->a + b->index[i] * b->c, (size_t)b->c * sizeof(float));
}

static void sum(float *y, const float *a, const float *b, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        v16_store(y + i, v16_add(v16_load(a + i), v16_load(b + i)));
    for (; i < n; i++)
        y[i] = a[i] + b[i];
}

/* Computes columns [begin, end) of the scatter-add. A thread owns columns and adds the rows in
 * ascending order, so the number of threads does not change the result. */
static void scatter(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    (void)thread;
    for (int64_t i = 0; i < b->n; i++) {
        float *y = b->y + b->index[i] * b->c + begin;
        sum(y, y, b->a + i * b->c + begin, end - begin);
    }
}

static void add(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    (void)thread;
    sum(b->y + begin, b->a + begin, b->b + begin, end - begin);
}

static void scale(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    const v16 factor = v16_set1(b->factor);
    (void)thread;
    for (int64_t i = begin; i < end; i += 16) {
        const int n = end - i < 16 ? (int)(end - i) : 16;
        v16_store_n(b->y + i, v16_mul(factor, v16_load_n(b->a + i, n)), n);
    }
}

plumb_status PLUMB_CPU(gather_fwd)(plumb_stream *s, float *y, const float *x, const int32_t *index,
                                   int64_t n, int64_t c)
{
    struct job b = {.y = y, .a = x, .index = index, .c = c};
    split(s, n, 2 * c, gather, &b);
    return PLUMB_OK;
}

plumb_status PLUMB_CPU(gather_bwd)(plumb_stream *s, float *dx, const float *dy,
                                   const int32_t *index, int64_t n, int64_t c, int64_t m)
{
    struct job b = {.y = dx, .a = dy, .index = index, .n = n, .c = c};
    (void)m;
    split(s, c, 2 * n, scatter, &b);
    return PLUMB_OK;
}

plumb_status PLUMB_CPU(add_fwd)(plumb_stream *s, float *y, const float *a, const float *b,
                                int64_t n)
{
    struct job j = {.y = y, .a = a, .b = b};
    split(s, n, 3, add, &j);
    return PLUMB_OK;
}

plumb_status PLUMB_CPU(scale_fwd)(plumb_stream *s, float *y, const float *x, float factor,
                                  int64_t n)
{
    struct job j = {.y = y, .a = x, .factor = factor};
    split(s, n, 2, scale, &j);
    return PLUMB_OK;
}

plumb_status PLUMB_CPU(accumulate)(plumb_stream *s, float *y, const float *x, int64_t n)
{
    struct job j = {.y = y, .a = y, .b = x};
    split(s, n, 3, add, &j);
    return PLUMB_OK;
}

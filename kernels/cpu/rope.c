/* rope.c - rotary position embedding, vectorised.
 * Layer 1 (cpu). Includes vec.h, split.h. */
#include "cpu/split.h"
#include "cpu/vec.h"

struct job {
    float *x;
    const float *cos_sin;
    const int32_t *pos;
    int64_t h, d, r;
    float sign;
};

VEC_FN void rotate(float *x1, float *x2, const float *c, const float *s, v16 sign, int n)
{
    const v16 u = v16_load_n(x1, n), v = v16_load_n(x2, n);
    const v16 cj = v16_load_n(c, n), sj = v16_mul(sign, v16_load_n(s, n));
    v16_store_n(x1, v16_sub(v16_mul(u, cj), v16_mul(v, sj)), n);
    v16_store_n(x2, v16_add(v16_mul(v, cj), v16_mul(u, sj)), n);
}

static void rows(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct job *b = arg;
    const int64_t half = b->r / 2;
    const v16 sign = v16_set1(b->sign);
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const float *c = b->cos_sin + b->pos[i] * b->r, *s = c + half;
        for (int64_t a = 0; a < b->h; a++) {
            float *x1 = b->x + (i * b->h + a) * b->d, *x2 = x1 + half;
            for (int64_t j = 0; j < half; j += 16)
                rotate(x1 + j, x2 + j, c + j, s + j, sign, (int)plumb_min_i64(16, half - j));
        }
    }
}

plumb_status PLUMB_CPU(rope_fwd)(plumb_stream *s, float *x, const float *cos_sin,
                                 const int32_t *pos, int64_t n, int64_t h, int64_t d, int64_t r)
{
    struct job b = {x, cos_sin, pos, h, d, r, 1.0f};
    split(s, n, h * r, rows, &b);
    return PLUMB_OK;
}

plumb_status PLUMB_CPU(rope_bwd)(plumb_stream *s, float *dx, const float *cos_sin,
                                 const int32_t *pos, int64_t n, int64_t h, int64_t d, int64_t r)
{
    struct job b = {dx, cos_sin, pos, h, d, r, -1.0f};
    split(s, n, h * r, rows, &b);
    return PLUMB_OK;
}

/* num.h - checked sizes, and sums whose order is fixed.
 * Layer 0. Includes status.h. */
#ifndef PLUMB_BASE_NUM_H
#define PLUMB_BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/status.h"

/* *out = a * b (or a + b); false, and *out untouched, when the result leaves int64 or is
 * negative. */
static inline bool plumb_mul(int64_t *out, int64_t a, int64_t b)
{
    int64_t r;
    if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}
static inline bool plumb_add(int64_t *out, int64_t a, int64_t b)
{
    int64_t r;
    if (a < 0 || b < 0 || __builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline int64_t plumb_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t plumb_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
/* A limit of the user's within one that is given; 0: none of the user's. */
static inline int64_t plumb_at_most(int64_t wanted, int64_t given)
{
    return wanted > 0 && wanted < given ? wanted : given;
}
static inline int64_t plumb_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}
static inline bool plumb_is_pow2(int64_t n)
{
    return n > 0 && (n & (n - 1)) == 0;
}
/* Smallest power of two >= n; n in [1, 2^62]. */
static inline int64_t plumb_pow2_ceil(int64_t n)
{
    int64_t p = 1;
    while (p < n)
        p *= 2;
    return p;
}

/* The bits of a bfloat16: the upper half of a float32's, rounded to nearest even; NaN stays one. */
static inline uint16_t plumb_to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    if (x != x)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static inline float plumb_from_bf16(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* Count, mean and sum of squared deviations of a fixed sequence of doubles, taken in index
 * order (Welford 1962). The same numbers give the same bits on every rank. */
struct plumb_moments {
    int64_t count;
    double mean, m2;
};
static inline void plumb_moments_add(struct plumb_moments *m, double x)
{
    m->count++;
    const double d = x - m->mean;
    m->mean += d / (double)m->count;
    m->m2 += d * (x - m->mean);
}
/* Population variance; 0 for fewer than two values. */
static inline double plumb_moments_var(const struct plumb_moments *m)
{
    return m->count > 1 ? m->m2 / (double)m->count : 0.0;
}

#endif

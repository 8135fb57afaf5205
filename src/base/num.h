/* num.h - overflow-checked sizes, powers of two, bfloat16 conversion, mean and variance, and the
 * comparison of scores.
 * Layer 0. Includes status.h. */
#ifndef PLUMB_BASE_NUM_H
#define PLUMB_BASE_NUM_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/status.h"

/* plumb_mul sets *out = a * b; plumb_add sets *out = a + b. Both return false and leave *out
 * unchanged if a or b is negative or if the result overflows int64. */
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
/* Returns the smaller of two limits: `wanted`, which the user has set, and `given`. wanted <= 0
 * means that the user has set no limit. */
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
/* Returns the smallest power of two >= n, for n in [1, 2^62]. */
static inline int64_t plumb_pow2_ceil(int64_t n)
{
    int64_t p = 1;
    while (p < n)
        p *= 2;
    return p;
}

/* Rounds a float32 to bfloat16 (to nearest, ties to even) and returns its 16 bits, which are laid
 * out like the upper half of a float32. A NaN stays a NaN. */
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

/* Count, mean and sum of squared deviations of a sequence of doubles (Welford 1962). The result
 * depends on the order in which the values are added; the same order gives the same bits on every
 * rank. */
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
/* Returns the population variance (divided by the count), or 0 for fewer than two values. */
static inline double plumb_moments_var(const struct plumb_moments *m)
{
    return m->count > 1 ? m->m2 / (double)m->count : 0.0;
}

/* Scores whose relative difference is at most this count as equal, because rounding can cause such
 * a difference. */
#define PLUMB_SAME_SCORE 1e-8
/* low and high are the lowest and the highest of some scores. Returns true if all of these scores
 * count as equal. */
static inline bool plumb_scores_same(double low, double high)
{
    const double most = fabs(low) > fabs(high) ? fabs(low) : fabs(high);
    return high - low <= PLUMB_SAME_SCORE * most;
}

#endif

/* vec.h - vectors of sixteen floats that give the same bits on every instruction set.
 * Layer 1, kernels/cpu only. Includes kernels.h.
 *
 * The files of kernels/cpu are compiled once for each instruction set, with PLUMB_ISA set to its
 * name (kernels/meson.build). PLUMB_CPU(k) is the name of kernel k for the current one. Every
 * operation here is exact (select, permute), correctly rounded by IEEE 754 (+ - * / sqrt fma), or a
 * fixed sequence of such operations. The instruction set therefore changes the speed only. v16 is
 * one 512-bit register, two 256-bit registers, or four 128-bit registers (any architecture). */
#ifndef PLUMB_KERNELS_CPU_VEC_H
#define PLUMB_KERNELS_CPU_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernels.h"

#ifndef PLUMB_ISA
#define PLUMB_ISA baseline
#endif
#define PLUMB_CPU_NAME(isa, k)  plumb_cpu_##isa##_##k
#define PLUMB_CPU_NAME_(isa, k) PLUMB_CPU_NAME(isa, k)
#define PLUMB_CPU(k)            PLUMB_CPU_NAME_(PLUMB_ISA, k)

#define X(k) plumb_##k##_fn PLUMB_CPU(k);
PLUMB_KERNEL_LIST(X)
#undef X

#define VEC_FN static inline __attribute__((always_inline, unused))

typedef float vec_f4 __attribute__((vector_size(16)));
typedef int32_t vec_i4 __attribute__((vector_size(16)));

#if defined(__AVX512F__) && defined(__AVX512DQ__)
/* ---- AVX-512: v16 is one register of 512 bits ---- */
#include <immintrin.h>
#define VEC_REGISTERS 32 /* number of v16 that the vector registers hold */
typedef float vec_f8 __attribute__((vector_size(32)));
typedef float v16 __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));

VEC_FN v16 v16_set1(float a)
{
    return (v16)_mm512_set1_ps(a);
}
VEC_FN v16 v16_load(const float *p)
{
    return (v16)_mm512_loadu_ps(p);
}
VEC_FN void v16_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, (__m512)a);
}
VEC_FN __mmask16 vec_mask(int n)
{
    return (__mmask16)((1u << n) - 1u);
}
/* Loads lanes 0..n-1; lanes n..15 become 0 and their memory is not read. n is in [0, 16]. */
VEC_FN v16 v16_load_n(const float *p, int n)
{
    return (v16)_mm512_maskz_loadu_ps(vec_mask(n), p);
}
/* Loads lanes 0..n-1; lanes n..15 become `fill` and their memory is not read. */
VEC_FN v16 v16_load_fill(const float *p, int n, float fill)
{
    return (v16)_mm512_mask_loadu_ps(_mm512_set1_ps(fill), vec_mask(n), p);
}
/* Stores lanes 0..n-1; the memory of the other lanes is not written. */
VEC_FN void v16_store_n(float *p, v16 a, int n)
{
    _mm512_mask_storeu_ps(p, vec_mask(n), (__m512)a);
}
VEC_FN v16 v16_add(v16 a, v16 b)
{
    return a + b;
}
VEC_FN v16 v16_sub(v16 a, v16 b)
{
    return a - b;
}
VEC_FN v16 v16_mul(v16 a, v16 b)
{
    return a * b;
}
VEC_FN v16 v16_div(v16 a, v16 b)
{
    return a / b;
}
VEC_FN v16 v16_sqrt(v16 a)
{
    return (v16)_mm512_sqrt_ps((__m512)a);
}
/* Returns a * b + c, rounded once. */
VEC_FN v16 v16_fma(v16 a, v16 b, v16 c)
{
    return (v16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
/* Returns a > b ? a : b in each lane; if either is NaN, b. */
VEC_FN v16 v16_max(v16 a, v16 b)
{
    return (v16)_mm512_max_ps((__m512)a, (__m512)b);
}
/* Returns a < b ? a : b in each lane; if either is NaN, b. */
VEC_FN v16 v16_min(v16 a, v16 b)
{
    return (v16)_mm512_min_ps((__m512)a, (__m512)b);
}
/* Returns x * 2^n. `round` holds the integer n as 1.5 * 2^23 + n, with n in [-252, 254]. The
 * multiplication takes two steps, so that a subnormal result is rounded once and a result that is
 * too large becomes infinite. */
VEC_FN v16 vec_scale(v16 x, v16 round)
{
    const v16i n = (v16i)round - 0x4B400000, low = n >> 1;
    return x * (v16)((low + 127) << 23) * (v16)((n - low + 127) << 23);
}
/* VEC_FOLD does the first steps of v16_sum and v16_hmax: it combines lane i of a with lane i + 8 by
 * op8, then lane i with lane i + 4 by op4. The four results are in h4. */
#define VEC_FOLD(op8, op4)                                                                         \
    const vec_f8 lo8 = __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7);                      \
    const vec_f8 hi8 = __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);                \
    const vec_f8 h8 = op8(lo8, hi8);                                                               \
    const vec_f4 h4 = op4(__builtin_shufflevector(h8, h8, 0, 1, 2, 3),                             \
                          __builtin_shufflevector(h8, h8, 4, 5, 6, 7));
VEC_FN vec_f8 vec_add8(vec_f8 a, vec_f8 b)
{
    return a + b;
}
VEC_FN vec_f8 vec_max8(vec_f8 a, vec_f8 b)
{
    return (vec_f8)_mm256_max_ps((__m256)a, (__m256)b);
}

#elif defined(__AVX2__) && defined(__FMA__)
/* ---- AVX2: v16 is two registers of 256 bits ---- */
#include <immintrin.h>
#define VEC_REGISTERS 8
typedef float vec_f8 __attribute__((vector_size(32)));
typedef int32_t vec_i8 __attribute__((vector_size(32)));
typedef struct {
    vec_f8 a, b;
} v16;

VEC_FN v16 v16_set1(float a)
{
    const vec_f8 v = (vec_f8)_mm256_set1_ps(a);
    return (v16){v, v};
}
VEC_FN v16 v16_load(const float *p)
{
    return (v16){(vec_f8)_mm256_loadu_ps(p), (vec_f8)_mm256_loadu_ps(p + 8)};
}
VEC_FN void v16_store(float *p, v16 a)
{
    _mm256_storeu_ps(p, (__m256)a.a);
    _mm256_storeu_ps(p + 8, (__m256)a.b);
}
VEC_FN __m256i vec_mask(int n, int first)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n - first), lane);
}
VEC_FN v16 v16_load_n(const float *p, int n)
{
    return (v16){(vec_f8)_mm256_maskload_ps(p, vec_mask(n, 0)),
                 (vec_f8)_mm256_maskload_ps(p + 8, vec_mask(n, 8))};
}
VEC_FN v16 v16_load_fill(const float *p, int n, float fill)
{
    const v16 x = v16_load_n(p, n);
    const __m256 f = _mm256_set1_ps(fill);
    return (v16){(vec_f8)_mm256_blendv_ps(f, (__m256)x.a, (__m256)vec_mask(n, 0)),
                 (vec_f8)_mm256_blendv_ps(f, (__m256)x.b, (__m256)vec_mask(n, 8))};
}
VEC_FN void v16_store_n(float *p, v16 a, int n)
{
    _mm256_maskstore_ps(p, vec_mask(n, 0), (__m256)a.a);
    _mm256_maskstore_ps(p + 8, vec_mask(n, 8), (__m256)a.b);
}
VEC_FN v16 v16_add(v16 x, v16 y)
{
    return (v16){x.a + y.a, x.b + y.b};
}
VEC_FN v16 v16_sub(v16 x, v16 y)
{
    return (v16){x.a - y.a, x.b - y.b};
}
VEC_FN v16 v16_mul(v16 x, v16 y)
{
    return (v16){x.a * y.a, x.b * y.b};
}
VEC_FN v16 v16_div(v16 x, v16 y)
{
    return (v16){x.a / y.a, x.b / y.b};
}
VEC_FN v16 v16_sqrt(v16 x)
{
    return (v16){(vec_f8)_mm256_sqrt_ps((__m256)x.a), (vec_f8)_mm256_sqrt_ps((__m256)x.b)};
}
VEC_FN v16 v16_fma(v16 x, v16 y, v16 z)
{
    return (v16){(vec_f8)_mm256_fmadd_ps((__m256)x.a, (__m256)y.a, (__m256)z.a),
                 (vec_f8)_mm256_fmadd_ps((__m256)x.b, (__m256)y.b, (__m256)z.b)};
}
VEC_FN vec_f8 vec_max8(vec_f8 a, vec_f8 b)
{
    return (vec_f8)_mm256_max_ps((__m256)a, (__m256)b);
}
VEC_FN v16 v16_max(v16 x, v16 y)
{
    return (v16){vec_max8(x.a, y.a), vec_max8(x.b, y.b)};
}
VEC_FN v16 v16_min(v16 x, v16 y)
{
    return (v16){(vec_f8)_mm256_min_ps((__m256)x.a, (__m256)y.a),
                 (vec_f8)_mm256_min_ps((__m256)x.b, (__m256)y.b)};
}
VEC_FN vec_f8 vec_scale8(vec_f8 x, vec_f8 round)
{
    const vec_i8 n = (vec_i8)round - 0x4B400000, low = n >> 1;
    return x * (vec_f8)((low + 127) << 23) * (vec_f8)((n - low + 127) << 23);
}
VEC_FN v16 vec_scale(v16 x, v16 round)
{
    return (v16){vec_scale8(x.a, round.a), vec_scale8(x.b, round.b)};
}
VEC_FN vec_f8 vec_add8(vec_f8 a, vec_f8 b)
{
    return a + b;
}
#define VEC_FOLD(op8, op4)                                                                         \
    const vec_f8 h8 = op8(a.a, a.b);                                                               \
    const vec_f4 h4 = op4(__builtin_shufflevector(h8, h8, 0, 1, 2, 3),                             \
                          __builtin_shufflevector(h8, h8, 4, 5, 6, 7));

#else
/* ---- any architecture: v16 is four registers of 128 bits ---- */
#define VEC_REGISTERS      4
typedef struct {
    vec_f4 a, b, c, d;
} v16;

VEC_FN vec_f4 vec_load4(const float *p)
{
    vec_f4 v;
    memcpy(&v, p, sizeof(v));
    return v;
}
VEC_FN void vec_store4(float *p, vec_f4 v)
{
    memcpy(p, &v, sizeof(v));
}
VEC_FN v16 v16_set1(float a)
{
    const vec_f4 v = {a, a, a, a};
    return (v16){v, v, v, v};
}
VEC_FN v16 v16_load(const float *p)
{
    return (v16){vec_load4(p), vec_load4(p + 4), vec_load4(p + 8), vec_load4(p + 12)};
}
VEC_FN void v16_store(float *p, v16 x)
{
    vec_store4(p, x.a);
    vec_store4(p + 4, x.b);
    vec_store4(p + 8, x.c);
    vec_store4(p + 12, x.d);
}
VEC_FN v16 v16_load_fill(const float *p, int n, float fill)
{
    float lane[16];
    for (int i = 0; i < 16; i++)
        lane[i] = i < n ? p[i] : fill;
    return v16_load(lane);
}
VEC_FN v16 v16_load_n(const float *p, int n)
{
    return v16_load_fill(p, n, 0.0f);
}
VEC_FN void v16_store_n(float *p, v16 x, int n)
{
    float lane[16];
    v16_store(lane, x);
    for (int i = 0; i < n; i++)
        p[i] = lane[i];
}
VEC_FN v16 v16_add(v16 x, v16 y)
{
    return (v16){x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d};
}
VEC_FN v16 v16_sub(v16 x, v16 y)
{
    return (v16){x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d};
}
VEC_FN v16 v16_mul(v16 x, v16 y)
{
    return (v16){x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d};
}
VEC_FN v16 v16_div(v16 x, v16 y)
{
    return (v16){x.a / y.a, x.b / y.b, x.c / y.c, x.d / y.d};
}
VEC_FN vec_f4 vec_sqrt4(vec_f4 x)
{
    return (vec_f4){sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])};
}
VEC_FN v16 v16_sqrt(v16 x)
{
    return (v16){vec_sqrt4(x.a), vec_sqrt4(x.b), vec_sqrt4(x.c), vec_sqrt4(x.d)};
}
VEC_FN vec_f4 vec_fma4(vec_f4 x, vec_f4 y, vec_f4 z)
{
    return (vec_f4){fmaf(x[0], y[0], z[0]), fmaf(x[1], y[1], z[1]), fmaf(x[2], y[2], z[2]),
                    fmaf(x[3], y[3], z[3])};
}
VEC_FN v16 v16_fma(v16 x, v16 y, v16 z)
{
    return (v16){vec_fma4(x.a, y.a, z.a), vec_fma4(x.b, y.b, z.b), vec_fma4(x.c, y.c, z.c),
                 vec_fma4(x.d, y.d, z.d)};
}
VEC_FN vec_f4 vec_select4(vec_i4 mask, vec_f4 x, vec_f4 y)
{
    return (vec_f4)((mask & (vec_i4)x) | (~mask & (vec_i4)y));
}
VEC_FN vec_f4 vec_max4(vec_f4 x, vec_f4 y)
{
    return vec_select4(x > y, x, y);
}
VEC_FN vec_f4 vec_min4(vec_f4 x, vec_f4 y)
{
    return vec_select4(x < y, x, y);
}
VEC_FN v16 v16_max(v16 x, v16 y)
{
    return (v16){vec_max4(x.a, y.a), vec_max4(x.b, y.b), vec_max4(x.c, y.c), vec_max4(x.d, y.d)};
}
VEC_FN v16 v16_min(v16 x, v16 y)
{
    return (v16){vec_min4(x.a, y.a), vec_min4(x.b, y.b), vec_min4(x.c, y.c), vec_min4(x.d, y.d)};
}
VEC_FN vec_f4 vec_scale4(vec_f4 x, vec_f4 round)
{
    const vec_i4 n = (vec_i4)round - 0x4B400000, low = n >> 1;
    return x * (vec_f4)((low + 127) << 23) * (vec_f4)((n - low + 127) << 23);
}
VEC_FN v16 vec_scale(v16 x, v16 round)
{
    return (v16){vec_scale4(x.a, round.a), vec_scale4(x.b, round.b), vec_scale4(x.c, round.c),
                 vec_scale4(x.d, round.d)};
}
#define VEC_FOLD(op8, op4) const vec_f4 h4 = op4(op4(a.a, a.c), op4(a.b, a.d));
#endif

#if defined(__AVX2__)
VEC_FN vec_f4 vec_max4(vec_f4 x, vec_f4 y)
{
    return (vec_f4)_mm_max_ps((__m128)x, (__m128)y);
}
#endif
VEC_FN vec_f4 vec_add4(vec_f4 x, vec_f4 y)
{
    return x + y;
}

/* Transposes a block of 4 x 4: to[e*ldt + j] = from[j*ldf + e] for e and j in [0, 4). */
VEC_FN void vec_transpose4(float *to, int64_t ldt, const float *from, int64_t ldf)
{
    vec_f4 r[4];
    for (int i = 0; i < 4; i++)
        memcpy(&r[i], from + i * ldf, sizeof(r[i]));
    const vec_f4 a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
    const vec_f4 b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
    const vec_f4 c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const vec_f4 d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
    for (int i = 0; i < 4; i++)
        memcpy(to + i * ldt, &r[i], sizeof(r[i]));
}
/* Writes the transpose of from (rows,columns) to `to` (columns,rows). ldt and ldf are the row
 * strides in floats. */
VEC_FN void vec_transpose(float *to, int64_t ldt, const float *from, int64_t ldf, int64_t rows,
                          int64_t columns)
{
    int64_t e = 0;
    for (; e + 4 <= columns; e += 4) {
        int64_t j = 0;
        for (; j + 4 <= rows; j += 4)
            vec_transpose4(to + e * ldt + j, ldt, from + j * ldf + e, ldf);
        for (; j < rows; j++)
            for (int64_t i = e; i < e + 4; i++)
                to[i * ldt + j] = from[j * ldf + i];
    }
    for (; e < columns; e++)
        for (int64_t j = 0; j < rows; j++)
            to[e * ldt + j] = from[j * ldf + e];
}

/* Returns the sum of the lanes as a balanced tree: lane i with i+8, then i+4, i+2, i+1. */
VEC_FN float v16_sum(v16 a)
{
    VEC_FOLD(vec_add8, vec_add4)
    return (h4[0] + h4[2]) + (h4[1] + h4[3]);
}
/* Returns the largest lane, by a balanced tree of `x > y ? x : y`. If a lane is NaN, the result may
 * be any lane. */
VEC_FN float v16_hmax(v16 a)
{
    VEC_FOLD(vec_max8, vec_max4)
    const float even = h4[0] > h4[2] ? h4[0] : h4[2], odd = h4[1] > h4[3] ? h4[1] : h4[3];
    return even > odd ? even : odd;
}

/* Returns p such that e^r = 1 + r p. Here n is the nearest integer to x / ln 2, and r = x - n ln 2.
 * Sets *rest = r and *round = 1.5 * 2^23 + n, the form that vec_scale takes. r is computed in two
 * parts (Cody & Waite 1980). 1 + r p is a polynomial of degree 6 for |r| <= ln 2 / 2. The
 * coefficients were fitted for the least maximum relative error (2^-28), and each one was rounded
 * to float before the next one was fitted. */
VEC_FN v16 vec_exp_rest(v16 x, v16 *round, v16 *rest)
{
    const v16 magic = v16_set1(0x1.8p23f);
    *round = v16_fma(x, v16_set1(0x1.715476p0f), magic);
    const v16 n = v16_sub(*round, magic);
    v16 r = v16_fma(n, v16_set1(-0x1.62e43p-1f), x);
    r = v16_fma(n, v16_set1(0x1.05c61p-29f), r);
    v16 p = v16_set1(0x1.6a4154p-10f);
    p = v16_fma(p, r, v16_set1(0x1.1239c6p-7f));
    p = v16_fma(p, r, v16_set1(0x1.5558bcp-5f));
    p = v16_fma(p, r, v16_set1(0x1.555492p-3f));
    p = v16_fma(p, r, v16_set1(0x1.fffffcp-2f));
    *rest = r;
    return v16_fma(p, r, v16_set1(1.0f));
}

/* Returns e^x within 1 ulp (measured by tests/kernels/test_vec.c) as 2^n e^r. Subnormal results are
 * correct; smaller results are 0, results above FLT_MAX are infinite, and NaN gives NaN. */
VEC_FN v16 v16_exp(v16 x)
{
    v16 round, r;
    x = v16_max(v16_set1(-105.0f), x);
    x = v16_min(v16_set1(89.0f), x);
    const v16 p = vec_exp_rest(x, &round, &r);
    return vec_scale(v16_fma(p, r, v16_set1(1.0f)), round);
}

/* Returns tanh x within 3 ulp (measured by tests/kernels/test_vec.c) as m / (m + 2) with m = e^2x -
 * 1. With n, r and p of vec_exp_rest for 2x, m = 2^n r p + (2^n - 1); computed like this, m is
 * accurate also for small x. NaN gives NaN. */
VEC_FN v16 v16_tanh(v16 x)
{
    v16 round, r;
    const v16 one = v16_set1(1.0f),
              limit = v16_set1(20.0f); /* e^-20 is less than half an ulp of 1 */
    x = v16_min(limit, v16_max(v16_sub(v16_set1(0.0f), limit), v16_add(x, x)));
    const v16 p = vec_exp_rest(x, &round, &r);
    const v16 power = vec_scale(one, round);
    const v16 m = v16_fma(power, v16_mul(r, p), v16_sub(power, one));
    return v16_div(m, v16_add(m, v16_set1(2.0f)));
}

#endif

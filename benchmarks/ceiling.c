/* ceiling.c - measures the FMA peak and the read bandwidth of one core. Also a clock, and the
 * median, least and most of samples.
 * Benchmarks only. Includes ceiling.h. */
#include "ceiling.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

double ceiling_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* CHAINS independent sums hide the latency of the FMA unit and still fit into the registers. */
enum { CHAINS = 12, ROUNDS = 1000 };

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx512f"))) static double fma_512(float a)
{
    __m512 s[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        s[i] = _mm512_set1_ps((float)i);
    const __m512 x = _mm512_set1_ps(a), y = _mm512_set1_ps(1.0f - a);
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < CHAINS; i++)
            s[i] = _mm512_fmadd_ps(s[i], x, y);
    float out[16];
    for (int i = 1; i < CHAINS; i++)
        s[0] = _mm512_add_ps(s[0], s[i]);
    _mm512_storeu_ps(out, s[0]);
    return (double)out[0];
}
__attribute__((target("avx2,fma"))) static double fma_256(float a)
{
    __m256 s[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        s[i] = _mm256_set1_ps((float)i);
    const __m256 x = _mm256_set1_ps(a), y = _mm256_set1_ps(1.0f - a);
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < CHAINS; i++)
            s[i] = _mm256_fmadd_ps(s[i], x, y);
    float out[8];
    for (int i = 1; i < CHAINS; i++)
        s[0] = _mm256_add_ps(s[0], s[i]);
    _mm256_storeu_ps(out, s[0]);
    return (double)out[0];
}
#endif

/* For machines without AVX2: CHAINS chains of four lanes, in plain C. */
static double fma_any(float a)
{
    typedef float f4 __attribute__((vector_size(16)));
    f4 s[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        s[i] = (f4){(float)i, 1, 2, 3};
    const f4 x = {a, a, a, a}, y = 1.0f - x;
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < CHAINS; i++)
            s[i] = s[i] * x + y;
    for (int i = 1; i < CHAINS; i++)
        s[0] += s[i];
    return (double)s[0][0];
}

double ceiling_fma(double seconds)
{
    double (*run)(float) = fma_any;
    int lanes = 4;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        run = fma_512, lanes = 16;
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        run = fma_256, lanes = 8;
#endif
    volatile double keep = 0;
    int64_t calls = 0;
    const double start = ceiling_now();
    double t;
    do {
        for (int i = 0; i < 20; i++)
            keep += run(0.999f);
        calls += 20;
        t = ceiling_now() - start;
    } while (t < seconds);
    (void)keep;
    return 2e-9 * (double)calls * CHAINS * ROUNDS * lanes / t;
}

/* Reads the memory with four interleaved streams (PLACES). The hardware prefetchers stop at the end
 * of a page. With four streams the bandwidth is about a fifth higher than with one, with or without
 * prefetch instructions. */
enum { PLACES = 4 };
typedef int64_t line __attribute__((vector_size(64)));

#define DEFINE_READ(name, attribute)                                                               \
    attribute static int64_t name(const line *p, int64_t n)                                        \
    {                                                                                              \
        line a = {0}, b = {0}, c = {0}, d = {0};                                                   \
        for (int64_t i = 0; i < n; i++) {                                                          \
            a ^= p[i];                                                                             \
            b ^= p[i + n];                                                                         \
            c ^= p[i + 2 * n];                                                                     \
            d ^= p[i + 3 * n];                                                                     \
        }                                                                                          \
        return (a ^ b ^ c ^ d)[0];                                                                 \
    }
DEFINE_READ(read_any, )
#if defined(__x86_64__)
DEFINE_READ(read_256, __attribute__((target("avx2"))))
DEFINE_READ(read_512, __attribute__((target("avx512f"))))
#endif

double ceiling_read(const void *data, int64_t bytes)
{
    int64_t (*read)(const line *, int64_t) = read_any;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f"))
        read = read_512;
    else if (__builtin_cpu_supports("avx2"))
        read = read_256;
#endif
    const int64_t n = bytes / (int64_t)sizeof(line) / PLACES;
    const double start = ceiling_now();
    volatile int64_t keep = read(data, n);
    (void)keep;
    return 1e-9 * (double)(n * PLACES * (int64_t)sizeof(line)) / (ceiling_now() - start);
}

void *ceiling_alloc(int64_t bytes)
{
    const size_t page = (size_t)2 << 20, size = ((size_t)bytes + page - 1) / page * page;
    void *p = aligned_alloc(page, size);
    if (p)
        (void)madvise(p, size, MADV_HUGEPAGE);
    return p;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct ceiling_spread ceiling_spread(double *x, int n)
{
    qsort(x, (size_t)n, sizeof(*x), ascending);
    return (struct ceiling_spread){x[n / 2], x[0], x[n - 1]};
}

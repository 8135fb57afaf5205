/* stream.c - adding and copying vectors that are larger than the caches.
 * Layer 1. Includes comm/ and base/ only.
 *
 * A hardware prefetcher follows a sequential access up to the end of a memory page. These loops
 * process four neighbouring pages at the same time, which keeps four times as many cache lines in
 * flight, and use wide loads. The sums are those of a plain loop: one addition per element. */
#include "comm/stream.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define PAGE  4096
#define STEPS (4 * PAGE)
#define LARGE                                                                                      \
    (64 << 10) /* bytes; smaller copies use the caches, as they may be read again soon             \
                */

static void add_plain(float *dst, const float *src, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] += src[i];
}

#if defined(__x86_64__)
#define LANES(p) ((float *)(p))

__attribute__((target("avx512f"))) static void add_512(char *to, const char *from, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += STEPS)
        for (int64_t at = i; at < i + PAGE; at += 64)
            for (int64_t k = at; k < at + STEPS; k += PAGE)
                _mm512_storeu_ps(LANES(to + k), _mm512_add_ps(_mm512_loadu_ps(LANES(to + k)),
                                                              _mm512_loadu_ps(from + k)));
}

__attribute__((target("avx2"))) static void add_256(char *to, const char *from, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += STEPS)
        for (int64_t at = i; at < i + PAGE; at += 32)
            for (int64_t k = at; k < at + STEPS; k += PAGE)
                _mm256_storeu_ps(LANES(to + k),
                                 _mm256_add_ps(_mm256_loadu_ps(LANES(to + k)),
                                               _mm256_loadu_ps((const float *)(from + k))));
}

__attribute__((target("avx512f"))) static void copy_512(char *to, const char *from, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += STEPS)
        for (int64_t at = i; at < i + PAGE; at += 64)
            for (int64_t k = at; k < at + STEPS; k += PAGE)
                _mm512_stream_ps(LANES(to + k), _mm512_loadu_ps(from + k));
}

__attribute__((target("avx2"))) static void copy_256(char *to, const char *from, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += STEPS)
        for (int64_t at = i; at < i + PAGE; at += 64)
            for (int64_t k = at; k < at + STEPS; k += PAGE) {
                const __m256 a = _mm256_loadu_ps((const float *)(from + k));
                const __m256 b = _mm256_loadu_ps((const float *)(from + k + 32));
                _mm256_stream_ps(LANES(to + k), a);
                _mm256_stream_ps(LANES(to + k + 32), b);
            }
}
#endif

void plumb_stream_add(float *dst, const float *src, int64_t n)
{
    int64_t done = 0;
#if defined(__x86_64__)
    done = n / (STEPS / 4) * (STEPS / 4);
    if (__builtin_cpu_supports("avx512f"))
        add_512((char *)dst, (const char *)src, 4 * done);
    else if (__builtin_cpu_supports("avx2"))
        add_256((char *)dst, (const char *)src, 4 * done);
    else
        done = 0;
#endif
    add_plain(dst + done, src + done, n - done);
}

void plumb_stream_copy(void *dst, const void *src, int64_t bytes)
{
    char *to = dst;
    const char *from = src;
#if defined(__x86_64__)
    if (bytes >= LARGE && __builtin_cpu_supports("avx2")) {
        const int64_t head = (int64_t)(-(uintptr_t)to & 63);
        const int64_t body = (bytes - head) / STEPS * STEPS;
        memcpy(to, from, (size_t)head);
        to += head, from += head, bytes -= head;
        if (__builtin_cpu_supports("avx512f"))
            copy_512(to, from, body);
        else
            copy_256(to, from, body);
        _mm_sfence(); /* makes the stores visible before the receiver is notified */
        to += body, from += body, bytes -= body;
    }
#endif
    memcpy(to, from, (size_t)bytes);
}

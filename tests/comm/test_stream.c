/* test_stream.c - checks the sums and copies of long arrays (comm/stream.h), at lengths and offsets
 * around the block size that the functions use. */
#include <string.h>

#include "comm/stream.h"
#include "harness.h"

#define MOST ((9 << 20) / 4)

/* Fills x with floats from about 2^-125 to 2^124, whose sums are rounded. */
static void fill(float *x, int64_t n, uint64_t seed)
{
    struct rng r = {seed};
    for (int64_t i = 0; i < n; i++)
        x[i] = rng_f(&r, -1, 1) * ldexpf(1.0f, (int)(rng_u(&r) * 250) - 125);
}

static void check(float *dst, const float *src, float *want, int64_t n)
{
    fill(dst - 1, n + 2, 7);
    memcpy(want, dst - 1, (size_t)(n + 2) * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        /* volatile keeps the compiler from using vector instructions */
        volatile float sum = dst[i] + src[i];
        want[i + 1] = sum;
    }
    plumb_stream_add(dst, src, n);
    CHECKF(!memcmp(dst - 1, want, (size_t)(n + 2) * sizeof(float)), "add of %lld", (long long)n);

    memcpy(want + 1, src, (size_t)n * sizeof(float));
    plumb_stream_copy(dst, src, n * (int64_t)sizeof(float));
    CHECKF(!memcmp(dst - 1, want, (size_t)(n + 2) * sizeof(float)), "copy of %lld", (long long)n);
}

int main(void)
{
    float *dst = malloc((MOST + 64) * sizeof(float)), *src = malloc((MOST + 64) * sizeof(float));
    float *want = malloc((MOST + 64) * sizeof(float));
    fill(src, MOST + 64, 3);
    const int64_t lengths[] = {0,
                               1,
                               1023,
                               4095,
                               4096,
                               4097,
                               12289,
                               (1 << 20) - 1,
                               1 << 20,
                               (1 << 20) + 4095,
                               (1 << 20) + 4113,
                               MOST - 100};
    for (int i = 0; i < 12; i++)
        for (int at = 1; at < 18; at += i < 7 ? 1 : 5)
            check(dst + at, src + at * 3 % 17, want, lengths[i]);
    free(dst);
    free(src);
    free(want);
    return 0;
}

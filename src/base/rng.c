/* rng.c - normal numbers and random permutations from the keyed generator.
 * Layer 0. Includes rng.h only. */
#include "base/rng.h"

#include <math.h>

double plumb_rng_normal(const struct plumb_rng_key *k)
{
    uint32_t b[4];
    plumb_rng_bits(b, k);
    /* u1 is in (0, 1], so that its logarithm is finite. */
    const double u1 = ((double)(((uint64_t)b[0] << 32 | b[1]) >> 11) + 1.0) * 0x1p-53;
    const double u2 = (double)(((uint64_t)b[2] << 32 | b[3]) >> 11) * 0x1p-53;
    return sqrt(-2.0 * log(u1)) * cos(6.283185307179586476925286766559 * u2);
}

void plumb_rng_shuffle(int64_t *order, int64_t n, struct plumb_rng_key key)
{
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        key.position = (uint32_t)i;
        int64_t j = (int64_t)(plumb_rng_uniform(&key) * (double)(i + 1));
        if (j > i)
            j = i; /* the product may round up to i + 1 */
        const int64_t keep = order[i];
        order[i] = order[j];
        order[j] = keep;
    }
}

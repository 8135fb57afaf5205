/* hash.c - reference implementation of the block hash (hash_blocks in kernels.h).
 * Layer 1 (ref). Includes kernels.h only. */
#include "kernels.h"

#include <string.h>

static uint64_t mix(uint64_t h)
{
    PLUMB_HASH_MIX(h);
    return h;
}

static uint64_t bits(const float *x, int64_t i, int64_t n)
{
    uint32_t word = 0;
    if (i < n)
        memcpy(&word, &x[i], sizeof(word));
    return word;
}

static uint64_t hash_block(const float *x, int64_t n)
{
    uint64_t p[PLUMB_HASH_LANES] = {0}, s[PLUMB_HASH_LANES] = {0}, h = (uint64_t)n;
    for (int64_t w = 0; 2 * PLUMB_HASH_LANES * (w / PLUMB_HASH_LANES) < n; w++) {
        const uint64_t row = (uint64_t)w / PLUMB_HASH_LANES, lane = (uint64_t)w % PLUMB_HASH_LANES;
        const uint64_t v = bits(x, 2 * w, n) | bits(x, 2 * w + 1, n) << 32;
        const uint64_t k = v ^ (mix(lane + 1) + row * PLUMB_HASH_STEP);
        p[lane] += (k & 0xffffffffu) * (k >> 32);
        s[lane] += v;
    }
    for (uint64_t j = 0; j < PLUMB_HASH_LANES; j++)
        h += mix(p[j] + s[j ^ 1] + j);
    return mix(h);
}

plumb_status plumb_ref_hash_blocks(plumb_stream *s, uint64_t *out, const float *x, int64_t n)
{
    (void)s;
    for (int64_t b = 0; b * PLUMB_HASH_BLOCK < n; b++) {
        const int64_t begin = b * PLUMB_HASH_BLOCK, left = n - begin;
        out[b] = hash_block(x + begin, left < PLUMB_HASH_BLOCK ? left : PLUMB_HASH_BLOCK);
    }
    return PLUMB_OK;
}

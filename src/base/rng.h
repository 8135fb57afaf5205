/* rng.h - random numbers as a function of their key: no state, no per-rank streams.
 * Layer 0. Includes nothing of ours.
 *
 * Philox4x32-10                  Source: Salmon et al. 2011, "Parallel random numbers: as easy
 *                                as 1, 2, 3", section 3.3 and its known-answer vectors. */
#ifndef PLUMB_BASE_RNG_H
#define PLUMB_BASE_RNG_H

#include <stdint.h>

/* What a number is for. Values are part of the result of a run: append, never renumber. */
enum plumb_rng_purpose {
    PLUMB_RNG_SAMPLE = 1,    /* choice of a token */
    PLUMB_RNG_SHUFFLE = 2,   /* order of prompts or records */
    PLUMB_RNG_INIT = 3,      /* fresh weights */
    PLUMB_RNG_SELECT = 4,    /* selectors that draw */
    PLUMB_RNG_DATA = 5,      /* generated data sets */
    PLUMB_RNG_BOOTSTRAP = 6, /* prompts drawn with replacement */
};

/* What identifies one number within a run. */
struct plumb_rng_key {
    uint64_t seed;
    uint32_t purpose;   /* enum plumb_rng_purpose, < 2^8 */
    uint32_t iteration; /* < 2^24 */
    uint64_t prompt;    /* prompt id (or tensor, or record), < 2^40 */
    uint32_t sample;    /* completion within the group, < 2^24 */
    uint32_t position;  /* token position, or index */
};

/* out[4] = Philox4x32-10(counter, key). */
static inline void plumb_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0, c1 = (uint32_t)p1, c2 = n2, c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* Four independent 32-bit numbers for one key. */
static inline void plumb_rng_bits(uint32_t out[4], const struct plumb_rng_key *k)
{
    const uint32_t key[2] = {(uint32_t)k->seed, (uint32_t)(k->seed >> 32)};
    const uint32_t counter[4] = {
        k->position,
        (k->sample & 0xffffffu) | ((uint32_t)(k->prompt >> 32) & 0xffu) << 24,
        (uint32_t)k->prompt,
        (k->iteration & 0xffffffu) | (k->purpose & 0xffu) << 24,
    };
    plumb_philox(out, counter, key);
}

/* Uniform in [0, 1), a multiple of 2^-53. */
static inline double plumb_rng_uniform(const struct plumb_rng_key *k)
{
    uint32_t b[4];
    plumb_rng_bits(b, k);
    const uint64_t u = ((uint64_t)b[0] << 32 | b[1]) >> 11;
    return (double)u * 0x1p-53;
}

/* Standard normal by Box-Muller on the same key's four words. */
double plumb_rng_normal(const struct plumb_rng_key *k);

/* Permutation of 0..n-1 by Fisher-Yates; key->position is overwritten. */
void plumb_rng_shuffle(int64_t *order, int64_t n, struct plumb_rng_key key);

#endif

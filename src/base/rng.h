/* rng.h - a random number generator that is a pure function of its key. It has no state, and the
 * numbers do not depend on the rank that draws them.
 * Layer 0. Includes no other file of the project.
 *
 *   Philox4x32-10                  Source: Salmon et al. 2011, "Parallel random numbers: as easy
 *                                  as 1, 2, 3", section 3.3 and its known-answer vectors. */
#ifndef PLUMB_BASE_RNG_H
#define PLUMB_BASE_RNG_H

#include <stdint.h>

/* The purpose of a random number. The value is part of the key, so it decides which numbers a run
 * draws. Append new values and never change old ones. */
enum plumb_rng_purpose {
    PLUMB_RNG_SAMPLE = 1,    /* sampling of a token */
    PLUMB_RNG_SHUFFLE = 2,   /* shuffling of prompts or records */
    PLUMB_RNG_INIT = 3,      /* initialisation of new weights */
    PLUMB_RNG_SELECT = 4,    /* pair selection rules that draw at random */
    PLUMB_RNG_DATA = 5,      /* generated data sets */
    PLUMB_RNG_BOOTSTRAP = 6, /* prompts drawn with replacement for a bootstrap */
    PLUMB_RNG_ADAPTER = 7,   /* initialisation of LoRA adapters */
};

/* The key of one random number within a run. Two different keys give independent numbers. */
struct plumb_rng_key {
    uint64_t seed;
    uint32_t purpose;   /* enum plumb_rng_purpose, < 2^8 */
    uint32_t iteration; /* iteration of the run, < 2^24 */
    uint64_t prompt;    /* prompt id (or tensor or record number), < 2^40 */
    uint32_t sample;    /* completion within the prompt's group, < 2^24 */
    uint32_t position;  /* token position, or any other index */
};

/* The declaration specifiers of the functions that CUDA kernels also call. */
#ifdef __CUDACC__
#define PLUMB_RNG_INLINE static __host__ __device__ inline
#else
#define PLUMB_RNG_INLINE static inline
#endif

/* Computes out[4] = Philox4x32-10(counter, key). */
PLUMB_RNG_INLINE void plumb_philox(uint32_t out[4], const uint32_t counter[4],
                                   const uint32_t key[2])
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

/* Computes four independent 32-bit random numbers from one key. */
PLUMB_RNG_INLINE void plumb_rng_bits(uint32_t out[4], const struct plumb_rng_key *k)
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

/* Returns a number that is uniform in [0, 1) and a multiple of 2^-53. */
static inline double plumb_rng_uniform(const struct plumb_rng_key *k)
{
    uint32_t b[4];
    plumb_rng_bits(b, k);
    const uint64_t u = ((uint64_t)b[0] << 32 | b[1]) >> 11;
    return (double)u * 0x1p-53;
}

/* Returns a standard normal number, computed by Box-Muller from the key's four 32-bit numbers. */
double plumb_rng_normal(const struct plumb_rng_key *k);

/* Fills order with a permutation of 0..n-1 (Fisher-Yates). key.position is ignored: each swap draws
 * with its own index as the position. */
void plumb_rng_shuffle(int64_t *order, int64_t n, struct plumb_rng_key key);

#endif

/* hash.c - the block hash (hash_blocks in kernels.h), vectorised over the lanes of a row.
 * Layer 1 (cpu). Includes vec.h, split.h. */
#include "cpu/split.h"
#include "cpu/vec.h"

/* `words` is one vector register of 64-bit words. MUL_HALVES(k) multiplies the low 32 bits of each
 * word by its high 32 bits. On x86 it uses an intrinsic, because compilers do not find the single
 * instruction by themselves. */
#if defined(__AVX512F__)
typedef uint64_t words __attribute__((vector_size(64)));
#define MUL_HALVES(k) ((words)_mm512_mul_epu32((__m512i)(k), (__m512i)((k) >> 32)))
#elif defined(__AVX2__)
#include <immintrin.h>
typedef uint64_t words __attribute__((vector_size(32)));
#define MUL_HALVES(k) ((words)_mm256_mul_epu32((__m256i)(k), (__m256i)((k) >> 32)))
#elif defined(__SSE2__)
#include <immintrin.h>
typedef uint64_t words __attribute__((vector_size(16)));
#define MUL_HALVES(k) ((words)_mm_mul_epu32((__m128i)(k), (__m128i)((k) >> 32)))
#else
typedef uint64_t words __attribute__((vector_size(16)));
#define MUL_HALVES(k) (((k)&0xffffffffu) * ((k) >> 32))
#endif
/* number of 64-bit words in a vector register */
enum { PER = sizeof(words) / sizeof(uint64_t) };
/* number of vector registers that are processed together */
enum { PARTS = 4 * PER < PLUMB_HASH_LANES ? 4 : PLUMB_HASH_LANES / PER };
/* GROUP: number of words that are processed together; ROW: number of floats in a row of 16 words */
enum { GROUP = PARTS * PER, ROW = 2 * PLUMB_HASH_LANES };

struct hash {
    uint64_t *out;
    const float *x;
    int64_t n;
    /* the hash keys of the 16 lanes in row 0; each later row adds PLUMB_HASH_STEP to every key */
    uint64_t key[PLUMB_HASH_LANES];
};

VEC_FN uint64_t mix(uint64_t h)
{
    PLUMB_HASH_MIX(h);
    return h;
}

/* Computes the sums p[j] and s[j] of plumb_hash_blocks_fn (kernels.h) for words (lanes) j in [lane,
 * lane + GROUP) over all rows of a block. `last` is the incomplete last row, padded with zeros, or
 * NULL. The sums stay in registers. The function is called once for each group of lanes, so it
 * reads the block several times, from the L1 cache. */
VEC_FN void hash_lanes(uint64_t *p_out, uint64_t *s_out, const float *x, int64_t rows,
                       const float *last, const uint64_t *first_key, int lane)
{
    words p[PARTS], s[PARTS], key[PARTS];
    memset(p, 0, sizeof(p));
    memset(s, 0, sizeof(s));
    memcpy(key, first_key + lane, sizeof(key));
    for (int64_t r = 0; r < rows + (last != NULL); r++) {
        const float *row = (r < rows ? x + r * ROW : last) + 2 * lane;
#pragma GCC unroll 4
        for (int i = 0; i < PARTS; i++) {
            words v;
            memcpy(&v, row + 2 * PER * i, sizeof(v));
            const words k = v ^ key[i];
            p[i] += MUL_HALVES(k);
            s[i] += v;
            key[i] += PLUMB_HASH_STEP;
        }
    }
    memcpy(p_out + lane, p, sizeof(p));
    memcpy(s_out + lane, s, sizeof(s));
}

static uint64_t hash_block(const float *x, int64_t n, const uint64_t *key)
{
    uint64_t p[PLUMB_HASH_LANES], s[PLUMB_HASH_LANES], h = (uint64_t)n;
    const int64_t rows = n / ROW, rest = n % ROW;
    float last[ROW] = {0};
    memcpy(last, x + rows * ROW, (size_t)rest * sizeof(*x));
    for (int lane = 0; lane < PLUMB_HASH_LANES; lane += GROUP)
        hash_lanes(p, s, x, rows, rest ? last : NULL, key, lane);
    for (uint64_t j = 0; j < PLUMB_HASH_LANES; j++)
        h += mix(p[j] + s[j ^ 1] + j);
    return mix(h);
}

static void hash_range(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct hash *q = arg;
    (void)thread;
    for (int64_t b = begin; b < end; b++)
        q->out[b] =
            hash_block(q->x + b * PLUMB_HASH_BLOCK,
                       plumb_min_i64(PLUMB_HASH_BLOCK, q->n - b * PLUMB_HASH_BLOCK), q->key);
}

plumb_status PLUMB_CPU(hash_blocks)(plumb_stream *s, uint64_t *out, const float *x, int64_t n)
{
    struct hash q = {.out = out, .x = x, .n = n};
    for (uint64_t j = 0; j < PLUMB_HASH_LANES; j++)
        q.key[j] = mix(j + 1);
    split(s, plumb_ceil_div(n, PLUMB_HASH_BLOCK), PLUMB_HASH_BLOCK, hash_range, &q);
    return PLUMB_OK;
}

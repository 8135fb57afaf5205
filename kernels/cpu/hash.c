/* hash.c - the hash of a vector's blocks, a row of lanes at a time.
 * Layer 1 (cpu). Includes vec.h, split.h. */
#include "cpu/split.h"
#include "cpu/vec.h"

/* The words of one register, and the product of the two halves of each: compilers do not find the
 * one instruction for it themselves. */
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
enum { PER = sizeof(words) / sizeof(uint64_t), PARTS = PLUMB_HASH_LANES / PER };
enum { ROW = 2 * PLUMB_HASH_LANES }; /* floats */

/* One row of lanes, as registers and as words. */
union row {
    words part[PARTS];
    uint64_t lane[PLUMB_HASH_LANES];
};

struct hash {
    uint64_t *out;
    const float *x;
    int64_t n;
    union row key; /* of row 0 */
};

VEC_FN uint64_t mix(uint64_t h)
{
    PLUMB_HASH_MIX(h);
    return h;
}

VEC_FN void add_row(union row *p, union row *s, union row *key, const float *x)
{
    union row v;
    memcpy(&v, x, sizeof(v));
    for (int i = 0; i < PARTS; i++) {
        const words k = v.part[i] ^ key->part[i];
        p->part[i] += MUL_HALVES(k);
        s->part[i] += v.part[i];
        key->part[i] += PLUMB_HASH_STEP;
    }
}

static uint64_t hash_block(const float *x, int64_t n, const union row *first)
{
    union row p = {{{0}}}, s = {{{0}}}, key = *first;
    uint64_t h = (uint64_t)n;
    int64_t i = 0;
    for (; i + ROW <= n; i += ROW)
        add_row(&p, &s, &key, x + i);
    if (i < n) {
        float rest[ROW] = {0};
        memcpy(rest, x + i, (size_t)(n - i) * sizeof(*x));
        add_row(&p, &s, &key, rest);
    }
    for (uint64_t j = 0; j < PLUMB_HASH_LANES; j++)
        h += mix(p.lane[j] + s.lane[j ^ 1] + j);
    return mix(h);
}

static void hash_range(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct hash *q = arg;
    (void)thread;
    for (int64_t b = begin; b < end; b++)
        q->out[b] =
            hash_block(q->x + b * PLUMB_HASH_BLOCK,
                       plumb_min_i64(PLUMB_HASH_BLOCK, q->n - b * PLUMB_HASH_BLOCK), &q->key);
}

plumb_status PLUMB_CPU(hash_blocks)(plumb_stream *s, uint64_t *out, const float *x, int64_t n)
{
    struct hash q = {.out = out, .x = x, .n = n};
    for (uint64_t j = 0; j < PLUMB_HASH_LANES; j++)
        q.key.lane[j] = mix(j + 1);
    split(s, plumb_ceil_div(n, PLUMB_HASH_BLOCK), PLUMB_HASH_BLOCK, hash_range, &q);
    return PLUMB_OK;
}

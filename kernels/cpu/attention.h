/* attention.h - functions that attention's forward and backward share: a small matrix product, the
 * range of keys that a row attends to, and the end of a run of rows of one sequence.
 * Layer 1, kernels/cpu only. Includes vec.h, split.h. */
#ifndef PLUMB_KERNELS_CPU_ATTENTION_H
#define PLUMB_KERNELS_CPU_ATTENTION_H

#include "cpu/split.h"
#include "cpu/vec.h"

enum {
    PAGE = PLUMB_KV_PAGE,
    ATTN_MAX_D = 512, /* for larger head sizes, attention_fwd calls the kernel of ref/ */
};
_Static_assert(PAGE == 32, "a row of scores is two vectors");

/* Computes c[m*ldc + j] (= or +=) sum_k a.at[m*a.row + k*a.k] b[k*ldb + j] for k in [0, kn), m in
 * [0, rows) and j over `vectors` vectors of 16 columns. Every element is one chain of fused
 * multiply-adds over ascending k, so the result does not depend on `rows` and `vectors`, the size
 * of the tile. With MM_SET the chain starts at 0 and its sum replaces c; with MM_ADD it starts at 0
 * and its sum is added to c; with MM_CHAIN it starts at the value in c. */
enum mm_into { MM_SET, MM_CHAIN, MM_ADD };
struct mat {
    const float *at;
    int64_t row, k; /* distance in floats from one row to the next, and from one k to the next */
};
VEC_FN void mm_tile(const int rows, const int vectors, float *c, int64_t ldc, struct mat a,
                    const float *b, int64_t ldb, int64_t kn, enum mm_into into)
{
    v16 acc[8][4];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int w = 0; w < vectors; w++)
            acc[i][w] = into == MM_CHAIN ? v16_load(c + i * ldc + 16 * w) : v16_set1(0.0f);
    for (int64_t k = 0; k < kn; k++) {
        v16 bk[4];
#pragma GCC unroll 4
        for (int w = 0; w < vectors; w++)
            bk[w] = v16_load(b + k * ldb + 16 * w);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            const v16 ak = v16_set1(a.at[i * a.row + k * a.k]);
#pragma GCC unroll 4
            for (int w = 0; w < vectors; w++)
                acc[i][w] = v16_fma(ak, bk[w], acc[i][w]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int w = 0; w < vectors; w++) {
            float *to = c + i * ldc + 16 * w;
            v16_store(to, into == MM_ADD ? v16_add(v16_load(to), acc[i][w]) : acc[i][w]);
        }
}

/* Computes the same product as mm_tile, but for any number of rows and columns; `columns` must be a
 * multiple of 16. */
static inline void mm(float *c, int64_t ldc, struct mat a, const float *b, int64_t ldb,
                      int64_t rows, int64_t columns, int64_t kn, enum mm_into into)
{
#define MM_COLUMNS(R, W)                                                                           \
    for (; j + 16 * W <= columns; j += 16 * W)                                                     \
        mm_tile(R, W, c + i * ldc + j, ldc, at, b + j, ldb, kn, into);
#define MM_ROWS(R, COLUMNS)                                                                        \
    for (; i + R <= rows; i += R) {                                                                \
        const struct mat at = {a.at + i * a.row, a.row, a.k};                                      \
        int64_t j = 0;                                                                             \
        COLUMNS                                                                                    \
    }
    int64_t i = 0;
#if VEC_REGISTERS >= 32
    MM_ROWS(8, MM_COLUMNS(8, 2) MM_COLUMNS(8, 1))
    MM_ROWS(4, MM_COLUMNS(4, 4) MM_COLUMNS(4, 2) MM_COLUMNS(4, 1))
    MM_ROWS(1, MM_COLUMNS(1, 4) MM_COLUMNS(1, 2) MM_COLUMNS(1, 1))
#elif VEC_REGISTERS >= 8
    MM_ROWS(2, MM_COLUMNS(2, 2) MM_COLUMNS(2, 1))
    MM_ROWS(1, MM_COLUMNS(1, 4) MM_COLUMNS(1, 2) MM_COLUMNS(1, 1))
#else
    MM_ROWS(1, MM_COLUMNS(1, 2) MM_COLUMNS(1, 1))
#endif
#undef MM_ROWS
#undef MM_COLUMNS
}

/* Finds the keys that a row at position pos attends to: the last `window` keys up to its own, or
 * all up to its own if window is 0. Sets [*begin, *end) to those of these keys that are in the page
 * of positions [first, first + PAGE), counted from `first`; *begin = *end if there are none. */
static inline void visible(int64_t first, int64_t pos, int64_t window, int64_t *begin, int64_t *end)
{
    const int64_t low = window > 0 ? plumb_max_i64(0, pos + 1 - window) : 0;
    *begin = plumb_min_i64(PAGE, plumb_max_i64(0, low - first));
    *end = plumb_max_i64(*begin, plumb_min_i64(PAGE, pos + 1 - first));
}

/* Returns the end of the run of rows that starts at row i: adjacent rows of one sequence in
 * ascending position. The result is at most `end`. */
static inline int64_t run_end(const struct plumb_rows *rows, int64_t i, int64_t end)
{
    int64_t e = i + 1;
    while (e < end && rows->seq[e] == rows->seq[i] && rows->pos[e] > rows->pos[e - 1])
        e++;
    return e;
}

#endif

/* gemm_tile.c - computes one tile of C in registers, and loops over the tiles of a block.
 * Layer 1 (cpu). Includes cpu/gemm.h and base/. */
#include "cpu/gemm.h"

#include "base/num.h"

enum { TILE_COLS = 16 * GEMM_VECS, UNROLL_K = 4, PAGE = 4096, PLACES = 8 };

/* EACH(i, n) is a loop over i = 0 .. n-1. n must be a constant; the loop is fully unrolled, so that
 * the sums stay in registers. */
#if defined(__clang__)
#define EACH(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)
#else
#define EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i++)
#endif

struct tile {
    float *c;
    int64_t ldc;
    const float *a;
    int64_t lda;
    const float *b;
    const float *bias;
    int64_t k;
    /* What this tile prefetches into the L2 cache. The data that is read after this panel is
     * divided into PLACES parts of 16 k bytes each, which the tiles of the panel share: this tile
     * prefetches `places` of them, from the address `ahead` on. A prefetch into L1 would evict the
     * part of the panel that the next tile reads. */
    const char *ahead;
    int places;
    const float *c_next; /* C of the next tile, to prefetch it */
    enum gemm_into into;
};

/* clang-format off */
/* sum += one column of A times one row of B. */
VEC_FN void tile_step(v16 sum[GEMM_MR][GEMM_VECS], const int rows, const float *a,
                      const int64_t a_row, const float *b)
{
    v16 row[GEMM_VECS];
    EACH(j, GEMM_VECS)
        row[j] = v16_load(b + 16 * j);
    EACH(i, rows) {
        const v16 x = v16_set1(a[i * a_row]);
        EACH(j, GEMM_VECS)
            sum[i][j] = v16_fma(x, row[j], sum[i][j]);
    }
}

/* Returns the address to prefetch while the weights at b are read, if they are read from main
 * memory. The weights are divided into windows of four memory pages. While one window is read, the
 * next one is prefetched: for each UNROLL_K rows of b that are read (512 bytes), 128 bytes of each
 * of the four pages of the next window. The address lies in the first of these pages; the caller
 * adds PAGE for each further page. Four streams keep more cache lines in flight than one
 * (benchmarks/ceiling.c). */
VEC_FN const char *stream_ahead(const float *b)
{
    enum { WINDOW = 4 * PAGE };
    const uintptr_t at = (uintptr_t)b;
    return (const char *)(at / WINDOW * WINDOW + WINDOW + at % WINDOW / 512 * 128);
}

/* Computes one tile. a_row and a_k are the strides of A in floats, from one row and from one k to
 * the next. If `stream`, the tile prefetches what stream_ahead returns, otherwise t->ahead. If
 * `adds` is false, t->into must not be GEMM_ADD: the tiles of the forward pass are compiled without
 * that branch, which made decoding 3 % slower. rows, a_k, stream and adds must be constants. */
VEC_FN void tile_run(const struct tile *t, const int rows, const int64_t a_row, const int64_t a_k,
                     const bool stream, const bool adds)
{
    v16 sum[GEMM_MR][GEMM_VECS];
    const int64_t ldc = t->ldc, k_all = t->k;
    EACH(i, rows)
        EACH(j, GEMM_VECS)
            sum[i][j] = t->into == GEMM_CHAIN ? v16_load(t->c + i * ldc + 16 * j) : v16_set1(0.0f);
    EACH(i, rows)
        EACH(j, GEMM_VECS)
            __builtin_prefetch(t->c_next + i * ldc + 16 * j, 1);
    const float *a = t->a, *b = t->b;
    const char *ahead = t->ahead;
    int64_t k = 0;
    for (; k + UNROLL_K <= k_all; k += UNROLL_K) {
        if (stream)
            ahead = stream_ahead(b);
        EACH(u, UNROLL_K) {
            if (stream) {
                __builtin_prefetch(ahead + PAGE * u, 0, 2);
                __builtin_prefetch(ahead + PAGE * u + 64, 0, 2);
            } else {
                if (u < t->places)
                    __builtin_prefetch(ahead + 16 * k_all * u, 0, 2);
                if (u + UNROLL_K < t->places)
                    __builtin_prefetch(ahead + 16 * k_all * (u + UNROLL_K), 0, 2);
            }
            tile_step(sum, rows, a + u * a_k, a_row, b + u * GEMM_NR);
        }
        a += UNROLL_K * a_k;
        b += UNROLL_K * GEMM_NR;
        ahead += 64;
    }
    for (; k < k_all; k++, a += a_k, b += GEMM_NR)
        tile_step(sum, rows, a, a_row, b);
    if (t->bias)
        EACH(j, GEMM_VECS) {
            const v16 bias = v16_load(t->bias + 16 * j);
            EACH(i, rows)
                sum[i][j] = v16_add(sum[i][j], bias);
        }
    if (adds && t->into == GEMM_ADD)
        EACH(i, rows)
            EACH(j, GEMM_VECS)
                sum[i][j] = v16_add(v16_load(t->c + i * ldc + 16 * j), sum[i][j]);
    EACH(i, rows)
        EACH(j, GEMM_VECS)
            v16_store(t->c + i * ldc + 16 * j, sum[i][j]);
}
/* clang-format on */

typedef void tile_fn(const struct tile *t);

#define DEFINE_TILE(r)                                                                             \
    static void tile_rows_##r(const struct tile *t)                                                \
    {                                                                                              \
        tile_run(t, r, t->lda, 1, true, false);                                                    \
    }                                                                                              \
    static void tile_packed_##r(const struct tile *t)                                              \
    {                                                                                              \
        tile_run(t, r, 1, r, false, true);                                                         \
    }                                                                                              \
    static void tile_copied_##r(const struct tile *t)                                              \
    {                                                                                              \
        tile_run(t, r, GEMM_LDA, 1, false, false);                                                 \
    }                                                                                              \
    static void tile_adding_##r(const struct tile *t)                                              \
    {                                                                                              \
        tile_run(t, r, GEMM_LDA, 1, false, true);                                                  \
    }
#if VEC_REGISTERS == 32
#define TILE_LIST(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#elif VEC_REGISTERS == 8
#define TILE_LIST(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
#define TILE_LIST(X) X(1) X(2)
#endif
TILE_LIST(DEFINE_TILE)

#define ROWS_NAME(r)   tile_rows_##r,
#define PACKED_NAME(r) tile_packed_##r,
#define COPIED_NAME(r) tile_copied_##r,
#define ADDING_NAME(r) tile_adding_##r,
static tile_fn *const tile_of_rows[GEMM_MR] = {TILE_LIST(ROWS_NAME)};
static tile_fn *const tile_of_copied[GEMM_MR] = {TILE_LIST(COPIED_NAME)};
static tile_fn *const tile_of_adding[GEMM_MR] = {TILE_LIST(ADDING_NAME)};
static tile_fn *const tile_of_packed[GEMM_MR] = {TILE_LIST(PACKED_NAME)};

/* Computes the last columns of C when fewer than TILE_COLS are left: runs a full tile into a local
 * buffer and copies the valid columns. */
static void tile_edge(tile_fn *run, struct tile t, int rows, int cols)
{
    float c[GEMM_MR * TILE_COLS], bias[TILE_COLS] = {0};
    float *to = t.c;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < TILE_COLS; j++)
            c[i * TILE_COLS + j] = j < cols && t.into != GEMM_SET ? to[i * t.ldc + j] : 0.0f;
    if (t.bias) {
        memcpy(bias, t.bias, (size_t)cols * sizeof(*bias));
        t.bias = bias;
    }
    const int64_t ldc = t.ldc;
    t.c = c, t.c_next = c, t.ldc = TILE_COLS;
    run(&t);
    for (int i = 0; i < rows; i++)
        memcpy(to + i * ldc, c + i * TILE_COLS, (size_t)cols * sizeof(*c));
}

void gemm_block_run(const struct gemm_block *g)
{
    const struct gemm_tiles tiles = gemm_tiles_of(g->rows);
    tile_fn *const *table = g->lda == 0           ? tile_of_packed
                            : g->lda != GEMM_LDA  ? tile_of_rows
                            : g->into == GEMM_ADD ? tile_of_adding
                                                  : tile_of_copied;
    for (int64_t col = 0; col < g->cols; col += TILE_COLS) {
        const float *b = g->b + col / GEMM_NR * g->b_stride + col % GEMM_NR;
        const bool last = col + GEMM_NR >= g->cols;
        const float *next = last ? g->next : b + g->b_stride;
        const int cols = (int)plumb_min_i64(TILE_COLS, g->cols - col);
        struct tile t = {.ldc = g->ldc,
                         .lda = g->lda,
                         .b = b,
                         .bias = g->bias ? g->bias + col : NULL,
                         .k = g->k,
                         .into = g->into};
        int64_t row = 0;
        for (int64_t i = 0; i < tiles.n; i++) {
            const int rows = tiles.each + (i < tiles.more);
            t.c = g->c + row * g->ldc + col;
            t.c_next = i + 1 < tiles.n ? t.c + rows * g->ldc : g->c + col + TILE_COLS;
            t.a = g->a + row * (g->lda ? g->lda : g->k);
            const int64_t place = PLACES * i / tiles.n;
            t.ahead = (const char *)(next ? next : b) + 16 * g->k * place;
            t.places = next ? (int)(PLACES * (i + 1) / tiles.n - place) : 0;
            if (cols < TILE_COLS)
                tile_edge(table[rows - 1], t, rows, cols);
            else
                table[rows - 1](&t);
            row += rows;
        }
    }
}

/* gemm_tile.c - a tile of C in registers, and the walk over the tiles of a block.
 * Layer 1. Includes cpu/gemm.h. */
#include "cpu/gemm.h"

#include "base/num.h"

/* A tile is up to TILE_ROWS rows of TILE_VECS vectors: as many sums as the registers hold,
 * beside one row of B and a broadcast element of A. */
#if VEC_REGISTERS == 32
enum { TILE_ROWS = 12, TILE_VECS = 2 };
#elif VEC_REGISTERS == 8
enum { TILE_ROWS = 6, TILE_VECS = 1 };
#else
enum { TILE_ROWS = 2, TILE_VECS = 1 };
#endif
enum { TILE_COLS = 16 * TILE_VECS };

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

struct tile {
    float *c;
    int64_t ldc;
    const float *a;
    int64_t lda;
    const float *b;
    const float *bias;
    int64_t k;
    const char *ahead;   /* prefetched, 2 lines for each step of k ... */
    int64_t ahead_step;  /* ... which it moves on by so many bytes */
    const float *c_next; /* of the next tile, prefetched */
    bool from_zero;
};

/* a_row, a_k: floats from one row and one k of A to the next; `rows` is a constant. */
VEC_FN void tile_run(const struct tile *t, const int rows, const int64_t a_row, const int64_t a_k)
{
    v16 sum[TILE_ROWS][TILE_VECS];
    const int64_t ldc = t->ldc;
    if (t->from_zero) {
        UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < TILE_VECS; j++) sum[i][j] =
            v16_set1(0.0f);
    } else {
        UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < TILE_VECS; j++) sum[i][j] =
            v16_load(t->c + i * ldc + 16 * j);
    }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < TILE_VECS; j++)
        __builtin_prefetch(t->c_next + i * ldc + 16 * j, 1);
    const float *a = t->a, *b = t->b;
    const char *ahead = t->ahead;
    const int64_t step = t->ahead_step, k_all = t->k;
    for (int64_t k = 0; k < k_all; k++) {
        __builtin_prefetch(ahead);
        __builtin_prefetch(ahead + 64);
        ahead += step;
        v16 row[TILE_VECS];
        UNROLL for (int j = 0; j < TILE_VECS; j++) row[j] = v16_load(b + 16 * j);
        UNROLL for (int i = 0; i < rows; i++)
        {
            const v16 x = v16_set1(a[i * a_row]);
            UNROLL for (int j = 0; j < TILE_VECS; j++) sum[i][j] = v16_fma(x, row[j], sum[i][j]);
        }
        a += a_k;
        b += GEMM_NR;
    }
    if (t->bias)
        UNROLL for (int j = 0; j < TILE_VECS; j++)
        {
            const v16 bias = v16_load(t->bias + 16 * j);
            UNROLL for (int i = 0; i < rows; i++) sum[i][j] = v16_add(sum[i][j], bias);
        }
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int j = 0; j < TILE_VECS; j++)
        v16_store(t->c + i * ldc + 16 * j, sum[i][j]);
}

typedef void tile_fn(const struct tile *t);

#define DEFINE_TILE(r)                                                                             \
    static void tile_rows_##r(const struct tile *t)                                                \
    {                                                                                              \
        tile_run(t, r, t->lda, 1);                                                                 \
    }                                                                                              \
    static void tile_packed_##r(const struct tile *t)                                              \
    {                                                                                              \
        tile_run(t, r, 1, r);                                                                      \
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
static tile_fn *const tile_of_rows[TILE_ROWS] = {TILE_LIST(ROWS_NAME)};
static tile_fn *const tile_of_packed[TILE_ROWS] = {TILE_LIST(PACKED_NAME)};

int gemm_tile_rows(int64_t rows, int64_t t)
{
    const int64_t tiles = plumb_ceil_div(rows, TILE_ROWS);
    return (int)(rows / tiles + (t < rows % tiles));
}

/* The last columns of C, fewer than a tile: through a full tile beside it. */
static void tile_edge(tile_fn *run, struct tile t, int rows, int cols)
{
    float c[TILE_ROWS * TILE_COLS], bias[TILE_COLS] = {0};
    float *to = t.c;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < TILE_COLS; j++)
            c[i * TILE_COLS + j] = j < cols && !t.from_zero ? to[i * t.ldc + j] : 0.0f;
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
    const int64_t tiles = plumb_ceil_div(g->rows, TILE_ROWS);
    tile_fn *const *table = g->lda ? tile_of_rows : tile_of_packed;
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
                         .ahead = (const char *)(next ? next : b),
                         .ahead_step = next ? GEMM_NR * 4 / tiles : 0,
                         .from_zero = g->from_zero};
        int64_t row = 0;
        for (int64_t i = 0; i < tiles; i++) {
            const int rows = gemm_tile_rows(g->rows, i);
            t.c = g->c + row * g->ldc + col;
            t.c_next = i + 1 < tiles ? t.c + rows * g->ldc : g->c + col + TILE_COLS;
            t.a = g->a + row * (g->lda ? g->lda : g->k);
            if (cols < TILE_COLS)
                tile_edge(table[rows - 1], t, rows, cols);
            else
                table[rows - 1](&t);
            t.ahead += t.ahead_step * g->k;
            row += rows;
        }
    }
}

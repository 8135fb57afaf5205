/* linear_bwd.c - gradients of a linear layer; both operands are packed block by block.
 * Layer 1. Includes cpu/gemm.h and base/. */
#include "cpu/gemm.h"

#include "base/num.h"
#include "base/pool.h"

/* A task is a block of C of up to BLOCK_ROWS x BLOCK_COLS, k in blocks of GEMM_KC inside it:
 * its two packed operands fit in half of a 2 MB L2 cache. They are private to the thread. */
enum {
    BLOCK_ROWS = 480,
    BLOCK_COLS = 512,
    A_FLOATS = BLOCK_ROWS * GEMM_LDA,
    B_FLOATS = BLOCK_COLS * GEMM_KC,
    BIAS_COLS = 128,
};

int64_t PLUMB_CPU(linear_work_count)(int64_t n, int64_t out, int64_t in, int threads)
{
    (void)n, (void)out, (void)in;
    return (int64_t)threads * (A_FLOATS + B_FLOATS);
}

/* Panels of b (k,cols), rows ldb apart; columns past the last are 0. */
static void pack_b(float *to, const float *b, int64_t ldb, int64_t k, int64_t cols)
{
    for (int64_t j = 0; j < cols; j += GEMM_NR, to += k * GEMM_NR) {
        const int n = (int)plumb_min_i64(GEMM_NR, cols - j);
        for (int64_t i = 0; i < k; i++) {
            const float *from = b + i * ldb + j;
            float *row = to + i * GEMM_NR;
            if (n == GEMM_NR) {
                v16_store(row, v16_load(from));
                v16_store(row + 16, v16_load(from + 16));
            } else {
                memcpy(row, from, (size_t)n * sizeof(*row));
                memset(row + n, 0, (size_t)(GEMM_NR - n) * sizeof(*row));
            }
        }
    }
}

/* Tiles of the transpose of a (k,rows), rows lda apart: each tile (k, its rows). */
static void pack_a_transposed(float *to, const float *a, int64_t lda, int64_t k, int64_t rows)
{
    int64_t row = 0;
    for (int64_t t = 0; row < rows; t++) {
        const int n = gemm_tile_rows(rows, t);
        for (int64_t i = 0; i < k; i++, to += n)
            v16_store_n(to, v16_load_n(a + i * lda + row, n), n);
        row += n;
    }
}

static void copy_a(float *to, const float *a, int64_t lda, int64_t rows, int64_t k)
{
    for (int64_t i = 0; i < rows; i++)
        memcpy(to + i * GEMM_LDA, a + i * lda, (size_t)k * sizeof(*to));
}

/* C (rows,cols) = A B or C += A B; B (k,cols); A (rows,k), or (k,rows) when transposed. */
struct bwd_arg {
    float *c, *work;
    const float *a, *b;
    int64_t rows, cols, k, lda;
    int64_t row_blocks, col_blocks;
    bool transposed, from_zero;
};

static void bwd_tasks(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct bwd_arg *g = arg;
    float *a = g->work + thread * (int64_t)(A_FLOATS + B_FLOATS), *b = a + A_FLOATS;
    const int64_t panels = plumb_ceil_div(g->cols, GEMM_NR);
    for (int64_t t = begin; t < end; t++) {
        const int64_t i = t / g->col_blocks, j = t % g->col_blocks;
        const int64_t row = g->rows * i / g->row_blocks,
                      rows = g->rows * (i + 1) / g->row_blocks - row;
        const int64_t col = panels * j / g->col_blocks * GEMM_NR;
        const int64_t col_end = plumb_min_i64(panels * (j + 1) / g->col_blocks * GEMM_NR, g->cols);
        for (int64_t k = 0; k < g->k; k += GEMM_KC) {
            const int64_t kb = plumb_min_i64(GEMM_KC, g->k - k);
            if (g->transposed)
                pack_a_transposed(a, g->a + k * g->lda + row, g->lda, kb, rows);
            else
                copy_a(a, g->a + row * g->lda + k, g->lda, rows, kb);
            pack_b(b, g->b + k * g->cols + col, g->cols, kb, col_end - col);
            gemm_block_run(&(struct gemm_block){
                .c = g->c + row * g->cols + col,
                .ldc = g->cols,
                .a = a,
                .lda = g->transposed ? 0 : GEMM_LDA,
                .b = b,
                .b_stride = kb * GEMM_NR,
                .rows = rows,
                .cols = col_end - col,
                .k = kb,
                .from_zero = g->from_zero && k == 0,
            });
        }
    }
}

/* Blocks as large as the scratch allows, and smaller only to give every thread some. */
static void bwd_run(plumb_pool *pool, struct bwd_arg *g)
{
    const int threads = plumb_pool_threads(pool);
    g->row_blocks = plumb_ceil_div(g->rows, BLOCK_ROWS);
    g->col_blocks = plumb_ceil_div(plumb_ceil_div(g->cols, GEMM_NR), BLOCK_COLS / GEMM_NR);
    if (threads > 1) {
        const int64_t wanted = plumb_ceil_div(4 * (int64_t)threads, g->col_blocks);
        const int64_t most = plumb_ceil_div(g->rows, 48);
        g->row_blocks = plumb_max_i64(g->row_blocks, plumb_min_i64(wanted, most));
    }
    plumb_pool_run(pool, g->row_blocks * g->col_blocks, 1, bwd_tasks, g);
}

plumb_status PLUMB_CPU(linear_bwd_x)(plumb_stream *s, float *dx, const float *dy, const float *w,
                                     float *work, int64_t n, int64_t out, int64_t in,
                                     int accumulate)
{
    bwd_run((plumb_pool *)s, &(struct bwd_arg){
                                 .c = dx,
                                 .work = work,
                                 .a = dy,
                                 .b = w,
                                 .rows = n,
                                 .cols = in,
                                 .k = out,
                                 .lda = out,
                                 .from_zero = !accumulate,
                             });
    return PLUMB_OK;
}

struct bias_arg {
    float *dbias;
    const float *dy;
    int64_t n, out;
};

static void bias_tasks(void *arg, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const struct bias_arg *g = arg;
    for (int64_t c = begin; c < end; c += BIAS_COLS) {
        const int64_t cols = plumb_min_i64(BIAS_COLS, end - c);
        float sum[BIAS_COLS];
        memcpy(sum, g->dbias + c, (size_t)cols * sizeof(*sum));
        for (int64_t i = 0; i < g->n; i++)
            for (int64_t j = 0; j < cols; j++)
                sum[j] += g->dy[i * g->out + c + j];
        memcpy(g->dbias + c, sum, (size_t)cols * sizeof(*sum));
    }
}

plumb_status PLUMB_CPU(linear_bwd_w)(plumb_stream *s, float *dw, float *dbias, const float *dy,
                                     const float *x, float *work, int64_t n, int64_t out,
                                     int64_t in)
{
    bwd_run((plumb_pool *)s, &(struct bwd_arg){
                                 .c = dw,
                                 .work = work,
                                 .a = dy,
                                 .b = x,
                                 .rows = out,
                                 .cols = in,
                                 .k = n,
                                 .lda = out,
                                 .transposed = true,
                             });
    if (dbias)
        plumb_pool_run((plumb_pool *)s, out, BIAS_COLS, bias_tasks,
                       &(struct bias_arg){dbias, dy, n, out});
    return PLUMB_OK;
}

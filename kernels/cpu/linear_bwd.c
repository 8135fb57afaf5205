/* linear_bwd.c - gradients of a linear layer; packs both operands block by block.
 * Layer 1 (cpu). Includes cpu/gemm.h and base/.
 *
 * Order of sums: the sum of an element over k is divided into fixed blocks of GEMM_KC terms. The
 * sum of a block is a chain that starts at 0; the block sums are added in ascending order. With one
 * chain over a vocabulary of 49,152 tokens, the gradients of a 135 M model were four times less
 * accurate than torch's float32 gradients. */
#include "cpu/gemm.h"

#include "base/num.h"
#include "base/pool.h"

/* A task computes all of C, or a part of its rows and columns. For each block of GEMM_KC terms of
 * the sums, it packs up to BLOCK_COLS columns of B, and then A in blocks of BLOCK_ROWS rows. The
 * two packed blocks take 1 MB, half of a 2 MB L2 cache; each thread has its own. */
enum {
    BLOCK_ROWS = 240,
    BLOCK_COLS = 768,
    A_FLOATS = BLOCK_ROWS * GEMM_LDA,
    B_FLOATS = BLOCK_COLS * GEMM_KC,
    BIAS_COLS = 128,
    PACK_ROWS = 16,
};

int64_t PLUMB_CPU(linear_work_count)(int64_t n, int64_t out, int64_t in, int threads)
{
    (void)n, (void)out, (void)in;
    return (int64_t)threads * (A_FLOATS + B_FLOATS);
}

/* Packs b (k,cols), whose rows are ldb floats apart, into panels; columns past the last one are 0.
 * The addresses of row k in different panels differ by multiples of the memory page size, so they
 * map to a few cache sets. The function therefore fills PACK_ROWS rows of one panel before it
 * continues with the next panel. */
static void pack_b(float *to, const float *b, int64_t ldb, int64_t k, int64_t cols)
{
    for (int64_t begin = 0; begin < k; begin += PACK_ROWS) {
        const int64_t end = plumb_min_i64(begin + PACK_ROWS, k);
        for (int64_t j = 0; j < cols; j += GEMM_NR) {
            float *panel = to + j * k;
            const int n = (int)plumb_min_i64(GEMM_NR, cols - j);
            for (int64_t i = begin; i < end; i++) {
                const float *from = b + i * ldb + j;
                float *row = panel + i * GEMM_NR;
                if (n == GEMM_NR) {
                    v16_store(row, v16_load(from));
                    v16_store(row + 16, v16_load(from + 16));
                    continue;
                }
                for (int e = 0; e < GEMM_NR; e++)
                    row[e] = e < n ? from[e] : 0.0f;
            }
        }
    }
}

/* Packs the transpose of a (k,rows), whose rows are lda floats apart, into tiles of shape (k, rows
 * of the tile). */
static void pack_a_transposed(float *to, const float *a, int64_t lda, int64_t k, int64_t rows)
{
    const struct gemm_tiles tiles = gemm_tiles_of(rows);
    for (int64_t begin = 0; begin < k; begin += PACK_ROWS) {
        const int64_t end = plumb_min_i64(begin + PACK_ROWS, k);
        float *tile = to;
        int n;
        for (int64_t row = 0, t = 0; row < rows; row += n, t++, tile += n * k) {
            n = tiles.each + (t < tiles.more);
            for (int64_t i = begin; i < end; i++)
                v16_store_n(tile + i * n, v16_load_n(a + i * lda + row, n), n);
        }
    }
}

static void copy_a(float *to, const float *a, int64_t lda, int64_t rows, int64_t k)
{
    for (int64_t i = 0; i < rows; i++)
        memcpy(to + i * GEMM_LDA, a + i * lda, (size_t)k * sizeof(*to));
}

/* Arguments of C (rows,cols) = A B or C += A B, with B (k,cols) and A (rows,k). If `transposed`, A
 * is stored as (k,rows). */
struct bwd_arg {
    float *c, *work;
    const float *a, *b;
    int64_t rows, cols, k, lda;
    int64_t row_tasks, col_tasks;
    bool transposed, replace; /* replace: compute C = A B; otherwise C += A B */
};

/* Computes the terms k .. k + GEMM_KC - 1 (or up to the last) of the sums of C in rows [row,
 * row_end) and columns [col, col + cols), and adds them to C; if g->replace is true, the first
 * block of terms replaces C. b holds these columns of B for these terms, packed; a is memory for
 * the packed or copied rows of A. */
static void bwd_rows(const struct bwd_arg *g, float *a, const float *b, int64_t row,
                     int64_t row_end, int64_t col, int64_t cols, int64_t k)
{
    const int64_t kb = plumb_min_i64(GEMM_KC, g->k - k);
    const int64_t blocks = plumb_ceil_div(row_end - row, BLOCK_ROWS);
    for (int64_t i = 0; i < blocks; i++) {
        const int64_t first = row + (row_end - row) * i / blocks;
        const int64_t rows = row + (row_end - row) * (i + 1) / blocks - first;
        if (g->transposed)
            pack_a_transposed(a, g->a + k * g->lda + first, g->lda, kb, rows);
        else
            copy_a(a, g->a + first * g->lda + k, g->lda, rows, kb);
        gemm_block_run(&(struct gemm_block){
            .c = g->c + first * g->cols + col,
            .ldc = g->cols,
            .a = a,
            .lda = g->transposed ? 0 : GEMM_LDA,
            .b = b,
            .b_stride = kb * GEMM_NR,
            .rows = rows,
            .cols = cols,
            .k = kb,
            .into = g->replace && k == 0 ? GEMM_SET : GEMM_ADD,
        });
    }
}

static void bwd_tasks(void *arg, int64_t begin, int64_t end, int thread)
{
    const struct bwd_arg *g = arg;
    float *a = g->work + thread * (int64_t)(A_FLOATS + B_FLOATS), *b = a + A_FLOATS;
    const int64_t panels = plumb_ceil_div(g->cols, GEMM_NR);
    for (int64_t t = begin; t < end; t++) {
        const int64_t i = t % g->row_tasks, j = t / g->row_tasks;
        const int64_t row = g->rows * i / g->row_tasks;
        const int64_t row_end = g->rows * (i + 1) / g->row_tasks;
        const int64_t col = panels * j / g->col_tasks * GEMM_NR;
        const int64_t col_end = plumb_min_i64(panels * (j + 1) / g->col_tasks * GEMM_NR, g->cols);
        for (int64_t k = 0; k < g->k; k += GEMM_KC) {
            pack_b(b, g->b + k * g->cols + col, g->cols, plumb_min_i64(GEMM_KC, g->k - k),
                   col_end - col);
            bwd_rows(g, a, b, row, row_end, col, col_end - col, k);
        }
    }
}

/* Divides C into tasks of columns and runs them. Rows are divided only if there is more than one
 * thread. */
static void bwd_run(plumb_pool *pool, struct bwd_arg *g)
{
    const int threads = plumb_pool_threads(pool);
    g->col_tasks = plumb_ceil_div(plumb_ceil_div(g->cols, GEMM_NR), BLOCK_COLS / GEMM_NR);
    g->row_tasks = 1;
    if (threads > 1)
        g->row_tasks = plumb_min_i64(plumb_ceil_div(4 * (int64_t)threads, g->col_tasks),
                                     plumb_ceil_div(g->rows, 48));
    plumb_pool_run(pool, g->row_tasks * g->col_tasks, 1, bwd_tasks, g);
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
                                 .replace = !accumulate,
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
        for (int64_t first = 0; first < g->n; first += GEMM_KC) {
            float sum[BIAS_COLS] = {0};
            for (int64_t i = first; i < plumb_min_i64(first + GEMM_KC, g->n); i++)
                for (int64_t j = 0; j < cols; j++)
                    sum[j] += g->dy[i * g->out + c + j];
            for (int64_t j = 0; j < cols; j++)
                g->dbias[c + j] += sum[j];
        }
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

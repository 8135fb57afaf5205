/* linear_fwd.c - y = x w^T + bias with packed weights; the bits of a row do not depend on the other
 * rows.
 * Layer 1 (cpu). Includes cpu/gemm.h and base/. */
#include "cpu/gemm.h"

#include "base/num.h"
#include "base/pool.h"

/* If x has at most FEW rows (one tile), they are read in place, and the weights are read once, from
 * front to back. More rows are processed in blocks of up to BLOCK_ROWS rows, which are copied to
 * the stack. */
enum { FEW = GEMM_MR, BLOCK_ROWS = 192 };

int64_t PLUMB_CPU(linear_packed_count)(int64_t out, int64_t in)
{
    return plumb_ceil_div(out, GEMM_NR) * GEMM_NR * in;
}

struct pack_arg {
    float *packed;
    const float *w;
    int64_t out, in;
};

/* Packs the weights w (out,in) into panels of 32 outputs. Panel p holds w[32 p + j, k] at [k][j]:
 *
 *     packed:   | panel 0               | panel 1                | ... | last panel        |
 *     panel p:  k = 0:     w[32p, 0]    w[32p+1, 0]    ...  w[32p+31, 0]
 *               k = 1:     w[32p, 1]    w[32p+1, 1]    ...  w[32p+31, 1]
 *               ...
 *               k = in-1:  w[32p, in-1] w[32p+1, in-1] ...  w[32p+31, in-1]
 *
 * The columns of the last panel that lie past `out` are 0. */
static void pack_panels(void *arg, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const struct pack_arg *g = arg;
    enum { BLOCK = 16 };
    for (int64_t p = begin; p < end; p++) {
        float *panel = g->packed + p * GEMM_NR * g->in;
        const float *w = g->w + p * GEMM_NR * g->in;
        const int64_t cols = plumb_min_i64(GEMM_NR, g->out - p * GEMM_NR);
        for (int64_t k0 = 0; k0 < g->in; k0 += BLOCK) {
            const int64_t k1 = plumb_min_i64(k0 + BLOCK, g->in);
            vec_transpose(panel + k0 * GEMM_NR, GEMM_NR, w + k0, g->in, cols, k1 - k0);
            for (int64_t k = k0; k < k1; k++)
                for (int64_t j = cols; j < GEMM_NR; j++)
                    panel[k * GEMM_NR + j] = 0.0f;
        }
    }
}

plumb_status PLUMB_CPU(linear_pack)(plumb_stream *s, float *packed, const float *w, int64_t out,
                                    int64_t in)
{
    struct pack_arg g = {packed, w, out, in};
    plumb_pool_run((plumb_pool *)s, plumb_ceil_div(out, GEMM_NR), 4, pack_panels, &g);
    return PLUMB_OK;
}

struct fwd_arg {
    float *y;
    const float *x, *packed, *bias;
    int64_t n, out, in;
    /* a task is one block of rows times one block of panels */
    int64_t row_blocks, col_blocks, col_panels;
};

static void few_rows(const struct fwd_arg *g, int64_t col, int64_t col_end)
{
    for (int64_t c = col; c < col_end; c += GEMM_NR) {
        gemm_block_run(&(struct gemm_block){
            .c = g->y + c,
            .ldc = g->out,
            .a = g->x,
            .lda = g->in,
            .b = g->packed + c * g->in,
            .bias = g->bias ? g->bias + c : NULL,
            .rows = g->n,
            .cols = plumb_min_i64(GEMM_NR, g->out - c),
            .k = g->in,
            .into = GEMM_SET,
        });
    }
}

static void many_rows(const struct fwd_arg *g, int64_t row, int64_t row_end, int64_t col,
                      int64_t col_end)
{
    float a[BLOCK_ROWS * GEMM_LDA];
    for (int64_t k = 0; k < g->in; k += GEMM_KC) {
        const int64_t kb = plumb_min_i64(GEMM_KC, g->in - k);
        for (int64_t i = row; i < row_end; i++)
            memcpy(a + (i - row) * GEMM_LDA, g->x + i * g->in + k, (size_t)kb * sizeof(*a));
        gemm_block_run(&(struct gemm_block){
            .c = g->y + row * g->out + col,
            .ldc = g->out,
            .a = a,
            .lda = GEMM_LDA,
            .b = g->packed + col * g->in + k * GEMM_NR,
            .b_stride = GEMM_NR * g->in,
            .bias = g->bias && k + kb == g->in ? g->bias + col : NULL,
            .rows = row_end - row,
            .cols = col_end - col,
            .k = kb,
            .into = k == 0 ? GEMM_SET : GEMM_CHAIN,
            .next = g->packed + col * g->in + (k + kb) * GEMM_NR,
        });
    }
}

static void fwd_tasks(void *arg, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const struct fwd_arg *g = arg;
    for (int64_t t = begin; t < end; t++) {
        const int64_t r = t / g->col_blocks, c = t % g->col_blocks;
        const int64_t row = g->n * r / g->row_blocks, row_end = g->n * (r + 1) / g->row_blocks;
        const int64_t col = c * g->col_panels * GEMM_NR;
        const int64_t col_end = plumb_min_i64(col + g->col_panels * GEMM_NR, g->out);
        if (g->n <= FEW)
            few_rows(g, col, col_end);
        else
            many_rows(g, row, row_end, col, col_end);
    }
}

plumb_status PLUMB_CPU(linear_fwd)(plumb_stream *s, float *y, const float *x, const float *packed,
                                   const float *bias, int64_t n, int64_t out, int64_t in)
{
    plumb_pool *pool = (plumb_pool *)s;
    const int threads = plumb_pool_threads(pool);
    const int64_t panels = plumb_ceil_div(out, GEMM_NR);
    struct fwd_arg g = {
        .y = y, .x = x, .packed = packed, .bias = bias, .n = n, .out = out, .in = in};
    g.row_blocks = n <= FEW ? 1 : plumb_ceil_div(n, BLOCK_ROWS);
    const int64_t wanted = threads == 1 ? 1 : plumb_ceil_div(4 * threads, g.row_blocks);
    g.col_panels = plumb_ceil_div(panels, plumb_min_i64(wanted, panels));
    g.col_blocks = plumb_ceil_div(panels, g.col_panels);
    plumb_pool_run(pool, g.row_blocks * g.col_blocks, 1, fwd_tasks, &g);
    return PLUMB_OK;
}

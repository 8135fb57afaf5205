/* gemm.h - the block product that linear_fwd, linear_bwd_x and linear_bwd_w are made of.
 * Layer 1, kernels/cpu only. Includes cpu/vec.h. */
#ifndef PLUMB_KERNELS_CPU_GEMM_H
#define PLUMB_KERNELS_CPU_GEMM_H

#include "cpu/vec.h"

/* Columns of a packed panel; steps of k in a block (a panel's block stays in the L1 cache);
 * rows of a block (its part of A stays in the L2 cache). */
enum { GEMM_NR = 32, GEMM_KC = 256, GEMM_LDA = GEMM_KC + 16 };

/* C (rows,cols) = A (rows,k) B (k,cols), or C += when !from_zero: every element is one chain
 * of fused multiply-adds over k in ascending order, from 0 or from what C holds; `bias` is
 * added last. Rows and columns do not see each other, so a caller may cut C as it likes, and
 * cut k by going on with from_zero = false. */
struct gemm_block {
    float *c;
    int64_t ldc;
    const float *a; /* (rows,k) with rows lda apart; lda = 0: tiles as gemm_pack_a writes them */
    int64_t lda;
    const float *b;    /* panels (k, GEMM_NR), the first of them */
    int64_t b_stride;  /* floats from one panel to the next */
    const float *bias; /* (cols,) or NULL */
    int64_t rows, cols, k;
    bool from_zero;
    const float *next; /* what the caller will read as panels after this; prefetched, or NULL */
};

#define gemm_block_run PLUMB_CPU(gemm_block_run)
#define gemm_tile_rows PLUMB_CPU(gemm_tile_rows)
void gemm_block_run(const struct gemm_block *g);

/* Rows of tile t of a block: as even as can be, so that no tile is much shorter than others. */
int gemm_tile_rows(int64_t rows, int64_t t);

#endif

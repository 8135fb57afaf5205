/* gemm.h - the block product that linear_fwd, linear_bwd_x and linear_bwd_w are built from.
 * Layer 1, kernels/cpu only. Includes cpu/vec.h. */
#ifndef PLUMB_KERNELS_CPU_GEMM_H
#define PLUMB_KERNELS_CPU_GEMM_H

#include "cpu/vec.h"

/* GEMM_NR is the number of columns of a packed panel. GEMM_KC is the number of steps of k per
 * block: one block of a panel has 32 KB and stays in the L1 cache while it is multiplied with all
 * rows of A. GEMM_LDA is the row stride of a copied A, in floats; with a power of two, all rows
 * would map to a few sets of the cache. */
enum { GEMM_NR = 32, GEMM_KC = PLUMB_SUM_BLOCK, GEMM_LDA = GEMM_KC + 16 };

/* How gemm_block_run stores the product of a block. Each element is one chain of fused
 * multiply-adds over k in ascending order. */
enum gemm_into {
    GEMM_SET,   /* the chain starts at 0, and its sum replaces C */
    GEMM_CHAIN, /* the chain starts at C; gives the same bits as one call with a longer k */
    /* the chain starts at 0, and its sum is added to C. If a sum over k is divided into blocks of
     * such chains, its rounding error grows like sqrt(blocks) + sqrt(k of a block) instead of
     * sqrt(k) */
    GEMM_ADD
};

/* Arguments of one block product: C (rows,cols) = or += A (rows,k) B (k,cols), as `into` says;
 * `bias` is added to the sum last. Rows and columns of C are independent, so a caller may divide C
 * into blocks freely. */
struct gemm_block {
    float *c;
    int64_t ldc;
    /* The operand A. lda = 0: A is packed into the tiles of gemm_tiles_of, each stored as (k, rows
     * of the tile). lda = GEMM_LDA: A is a copy with that row stride. Any other lda: A is the
     * caller's array with row stride lda, not a copy, and B is read from main memory, not from a
     * cache. In the last case the block must be one tile of rows, `next` must be NULL and `into`
     * must not be GEMM_ADD. */
    const float *a;
    int64_t lda;
    const float *b;    /* first packed panel of B; a panel holds (k, GEMM_NR) floats */
    int64_t b_stride;  /* distance of two panels in floats */
    const float *bias; /* bias (cols,), or NULL if there is none */
    int64_t rows, cols, k;
    enum gemm_into into;
    /* the panels that the caller will read after this block, which are prefetched; or NULL */
    const float *next;
};

#define gemm_block_run PLUMB_CPU(gemm_block_run)
void gemm_block_run(const struct gemm_block *g);

/* A tile of C has up to GEMM_MR rows of GEMM_VECS vectors. The vector registers hold all sums of a
 * tile, one row of B and one element of A. */
#if VEC_REGISTERS == 32
enum { GEMM_MR = 12, GEMM_VECS = 2 };
#elif VEC_REGISTERS == 8
enum { GEMM_MR = 6, GEMM_VECS = 1 };
#else
enum { GEMM_MR = 2, GEMM_VECS = 1 };
#endif

/* Divides the rows of a block into n tiles of nearly equal size: the first `more` tiles have `each`
 * + 1 rows, the others have `each` rows. */
struct gemm_tiles {
    int64_t n, more;
    int each;
};
static inline struct gemm_tiles gemm_tiles_of(int64_t rows)
{
    const int64_t n = (rows + GEMM_MR - 1) / GEMM_MR;
    return (struct gemm_tiles){n, rows % n, (int)(rows / n)};
}

#endif

/* gemm.h - the block product that linear_fwd, linear_bwd_x and linear_bwd_w are made of.
 * Layer 1, kernels/cpu only. Includes cpu/vec.h. */
#ifndef PLUMB_KERNELS_CPU_GEMM_H
#define PLUMB_KERNELS_CPU_GEMM_H

#include "cpu/vec.h"

/* Columns of a packed panel; steps of k in a block, so that a panel's part, 32 KB, stays in the
 * L1 cache while the rows go by; floats from row to row of a copied A: no power of two, or its
 * rows would share a few sets of the cache. */
enum { GEMM_NR = 32, GEMM_KC = PLUMB_SUM_BLOCK, GEMM_LDA = GEMM_KC + 16 };

/* What becomes of the product of a block. Each of its elements is one chain of fused
 * multiply-adds over k in ascending order. */
enum gemm_into {
    GEMM_SET,   /* the chain starts at 0 and its sum replaces C */
    GEMM_CHAIN, /* the chain starts at what C holds: the same bits as one call with a longer k */
    GEMM_ADD    /* the chain starts at 0 and its sum is added to C: a long k that is cut into blocks
                   loses about sqrt(blocks) + sqrt(k of a block) roundings, not sqrt(k) */
};

/* C (rows,cols) = or += A (rows,k) B (k,cols), as `into` says; `bias` is added to the sum last.
 * No row or column of C depends on another one, so a caller may cut C as it likes. */
struct gemm_block {
    float *c;
    int64_t ldc;
    const float *a; /* (rows,k), rows lda apart; lda = 0: one (k, its rows) after the other ... */
    int64_t lda; /* ... for the tiles of gemm_tiles_of. GEMM_LDA: copied. Any other: A in place, and
                    B is streamed, which wants one tile of rows, `next` NULL and no GEMM_ADD */
    const float *b;    /* panels (k, GEMM_NR), the first of them */
    int64_t b_stride;  /* floats from one panel to the next */
    const float *bias; /* (cols,) or NULL */
    int64_t rows, cols, k;
    enum gemm_into into;
    const float *next; /* what the caller will read as panels after this; prefetched, or NULL */
};

#define gemm_block_run PLUMB_CPU(gemm_block_run)
void gemm_block_run(const struct gemm_block *g);

/* A tile is up to GEMM_MR rows of GEMM_VECS vectors: as many sums as the registers hold beside
 * one row of B and an element of A. */
#if VEC_REGISTERS == 32
enum { GEMM_MR = 12, GEMM_VECS = 2 };
#elif VEC_REGISTERS == 8
enum { GEMM_MR = 6, GEMM_VECS = 1 };
#else
enum { GEMM_MR = 2, GEMM_VECS = 1 };
#endif

/* The rows of a block cut into tiles as evenly as can be: `more` tiles of each + 1 rows, then
 * tiles of `each`. */
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

/* gemm_use.h - names the products of a linear layer, for the choice of their algorithms.
 * Layer 1. Includes nothing. */
#ifndef PLUMB_KERNELS_GEMM_USE_H
#define PLUMB_KERNELS_GEMM_USE_H

/* Flags that together say which products of a linear layer a run uses. UNMEASURED is an option and
 * not a product. HEAD is the forward of the LM head; its outputs are float32, whatever the dtype.
 */
enum plumb_gemm_use {
    PLUMB_GEMM_FORWARD = 1,
    PLUMB_GEMM_BIAS = 2, /* forward with a bias */
    PLUMB_GEMM_HEAD = 4,
    PLUMB_GEMM_BACKWARD_X = 8,
    PLUMB_GEMM_BACKWARD_W = 16,
    PLUMB_GEMM_UNMEASURED = 32 /* option: selects algorithms without measuring them */
};

#endif

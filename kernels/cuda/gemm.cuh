/* gemm.cuh - describes a linear layer's products to cuBLASLt, and looks up their algorithms.
 * Layer 1 (cuda). Includes device.cuh. */
#ifndef PLUMB_KERNELS_CUDA_GEMM_CUH
#define PLUMB_KERNELS_CUDA_GEMM_CUH

#include "cuda/device.cuh"

/* FORWARD: y = x w^T; FORWARD_BIAS: y = x w^T + bias; BACKWARD_X: dx = dy w; BACKWARD_W: dw += dy^T
 * x. */
enum form { FORWARD, FORWARD_BIAS, BACKWARD_X, BACKWARD_W };

/* A kind of product, and the element types of its inputs and of its output. */
struct product {
    form is;
    cudaDataType_t read, written;
};

static constexpr cudaDataType_t type_of(float)
{
    return CUDA_R_32F;
}
static constexpr cudaDataType_t type_of(plumb_bf16)
{
    return CUDA_R_16BF;
}

static inline plumb_status check_blas(cublasStatus_t e, const char *what)
{
    if (e == CUBLAS_STATUS_SUCCESS)
        return PLUMB_OK;
    PLUMB_FAIL(PLUMB_ERR_DEVICE, "%s: %s", what, cublasLtGetStatusString(e));
}
#define BLAS_TRY(st, call, label) PLUMB_TRY_GOTO(st, check_blas((call), #call), label)

/* cuBLASLt's description of one product with n rows: D (m x columns) = op(A) op(B). */
struct gemm {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
};

static inline void gemm_fini(gemm *g)
{
    if (g->d)
        (void)cublasLtMatrixLayoutDestroy(g->d);
    if (g->b)
        (void)cublasLtMatrixLayoutDestroy(g->b);
    if (g->a)
        (void)cublasLtMatrixLayoutDestroy(g->a);
    if (g->desc)
        (void)cublasLtMatmulDescDestroy(g->desc);
    *g = gemm();
}

static inline plumb_status gemm_init(gemm *g, product p, int64_t n, int64_t out, int64_t in,
                                     const float *bias)
{
    plumb_status st = PLUMB_OK;
    const bool forward = p.is == FORWARD || p.is == FORWARD_BIAS, back_w = p.is == BACKWARD_W;
    const int32_t trans_a = forward ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t trans_b = back_w ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t epilogue =
        p.is == FORWARD_BIAS ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    /* cuBLASLt is column-major. Row-major memory is described as its transpose: w as in x out, x
     * and dx as in x n, y and dy as out x n. */
    const int64_t a[2] = {in, back_w ? n : out};
    const int64_t b[2] = {forward ? in : out, n};
    const int64_t d[2] = {forward ? out : in, back_w ? out : n};
    *g = gemm();
    BLAS_TRY(st, cublasLtMatmulDescCreate(&g->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), fail);
    BLAS_TRY(st,
             cublasLtMatmulDescSetAttribute(g->desc, CUBLASLT_MATMUL_DESC_TRANSA, &trans_a,
                                            sizeof(trans_a)),
             fail);
    BLAS_TRY(st,
             cublasLtMatmulDescSetAttribute(g->desc, CUBLASLT_MATMUL_DESC_TRANSB, &trans_b,
                                            sizeof(trans_b)),
             fail);
    BLAS_TRY(st,
             cublasLtMatmulDescSetAttribute(g->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                            sizeof(epilogue)),
             fail);
    if (p.is == FORWARD_BIAS)
        BLAS_TRY(st,
                 cublasLtMatmulDescSetAttribute(g->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias,
                                                sizeof(bias)),
                 fail);
    BLAS_TRY(st, cublasLtMatrixLayoutCreate(&g->a, p.read, a[0], a[1], a[0]), fail);
    BLAS_TRY(st, cublasLtMatrixLayoutCreate(&g->b, p.read, b[0], b[1], b[0]), fail);
    BLAS_TRY(st, cublasLtMatrixLayoutCreate(&g->d, p.written, d[0], d[1], d[0]), fail);
    return PLUMB_OK;
fail:
    gemm_fini(g);
    return st;
}

/* Returns an alignment, in bytes, that the address of every row of every operand has. */
static inline uint32_t alignment(product p, int64_t out, int64_t in)
{
    const uint32_t size = p.read == CUDA_R_16BF ? 2 : 4;
    return out * size % 16 == 0 && in * size % 16 == 0 ? 16 : size;
}

/* Sets *algo to the algorithm of this product, from the GEMM algorithm cache (gemm_cache.cu). If
 * the cache has no entry, the heuristic's first row-invariant algorithm is added.
 *   algo: valid until the next call    bias: as for gemm_init
 * Errors: PLUMB_ERR_UNSUPPORTED if no algorithm is row-invariant. */
plumb_status plumb_cuda_gemm_algo(struct plumb_cuda *c, product p, int64_t out, int64_t in,
                                  const float *bias, const cublasLtMatmulAlgo_t **algo);

#endif

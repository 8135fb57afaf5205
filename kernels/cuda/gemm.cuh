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
    /* cuBLASLt is column-major, so a row-major array is described as its transpose: w (out,in) is
     * an (in,out) matrix, x and dx (n,in) are (in,n), and y and dy (n,out) are (out,n). */
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

/* Returns the largest of 16, 8, 4 and 2 that divides the number of bytes of a row. This is the
 * alignment of the rows of an operand whose first row is aligned to 16 bytes. */
static inline uint32_t row_alignment(int64_t elements, cudaDataType_t type)
{
    const int64_t bytes = elements * (type == CUDA_R_16BF ? 2 : 4);
    return bytes % 16 == 0 ? 16 : bytes % 8 == 0 ? 8 : bytes % 4 == 0 ? 4 : 2;
}

/* If a layer has at most this many outputs, for example a score head, plumb's own kernels always
 * compute its products: cuBLASLt supports few such products, and its tiles would be nearly empty.
 */
static constexpr int64_t FEW_OUTPUTS = 4;

/* An entry of the cache has one algorithm for each range of the number of rows n: algorithm k is
 * used for GEMM_ROWS[k-1] < n <= GEMM_ROWS[k], and the last one for every larger n. The emulator of
 * the tests computes on the CPU, so its ranges are smaller. */
#ifdef PLUMB_CUDA_EMU
static constexpr int64_t GEMM_ROWS[PLUMB_CUDA_GEMM_BUCKETS - 1] = {1, 2, 4, 8, 16};
#else
static constexpr int64_t GEMM_ROWS[PLUMB_CUDA_GEMM_BUCKETS - 1] = {1, 16, 64, 256, 1024};
#endif

/* The largest number of rows for which plumb's own kernel for few rows (gemm_skinny.cu) is used. It
 * is the end of a range. */
static constexpr int64_t SKINNY_ROWS = GEMM_ROWS[2];

/* Returns the index k of the range of GEMM_ROWS that contains n. algo[k] of a cache entry is the
 * algorithm for n rows. */
static inline int bucket_of(int64_t n)
{
    int k = 0;
    while (k < PLUMB_CUDA_GEMM_BUCKETS - 1 && n > GEMM_ROWS[k])
        k++;
    return k;
}

/* Sets *algo to the algorithm of this product with n rows, from the GEMM algorithm cache
 * (gemm_cache.cu), or to NULL if plumb's own kernels compute it. If the cache has no entry, one is
 * added without measuring. It has the first algorithm that cuBLASLt's heuristic proposes for 256
 * rows, without split-K, and that supports all tested numbers of rows; if there is none, it stands
 * for plumb's own kernels.
 *   algo: valid until the next call    bias (out,): used only if the product is FORWARD_BIAS */
plumb_status plumb_cuda_gemm_algo(struct plumb_cuda *c, product p, int64_t n, int64_t out,
                                  int64_t in, const float *bias, const cublasLtMatmulAlgo_t **algo);

/* Computes the product with the given algorithm, or with plumb's own kernels (gemm_own.cu) if algo
 * is NULL: FORWARD and FORWARD_BIAS: d = y, a = w, b = x; BACKWARD_X: d = dx, a = w, b = dy;
 * BACKWARD_W: d = dw, a = x, b = dy. Computes d = product + beta d. n > 0. */
plumb_status plumb_cuda_gemm_run(struct plumb_cuda *c, product p, const cublasLtMatmulAlgo_t *algo,
                                 void *d, const void *a, const void *b, const float *bias,
                                 float beta, int64_t n, int64_t out, int64_t in);
plumb_status plumb_cuda_gemm_own(struct plumb_cuda *c, product p, void *d, const void *a,
                                 const void *b, const float *bias, float beta, int64_t n,
                                 int64_t out, int64_t in);

/* d = sum + beta d, in the element type of d. */
template <class D> DEVICE void put(D *d, float sum, float beta)
{
    narrow(d, beta == 0.0f ? sum : fmaf(beta, widen(*d), sum));
}

/* plumb's own kernel for few rows of a bfloat16 forward (gemm_skinny.cu). The constant of
 * plumb_cuda_gemm_skinny_algo (cuda.h) stands for it in the cache and in the cache's text form,
 * like an algorithm of cuBLASLt. _is: returns true if algo is this constant. _can: returns true if
 * the kernel can compute this product with n rows. _skinny: runs the kernel, with the arguments of
 * plumb_cuda_gemm_run and at most 64 rows. */
bool plumb_cuda_gemm_is_skinny(const cublasLtMatmulAlgo_t *algo);
bool plumb_cuda_gemm_skinny_can(product p, int64_t n, int64_t out, int64_t in);
plumb_status plumb_cuda_gemm_skinny(struct plumb_cuda *c, product p, void *d, const void *a,
                                    const void *b, float beta, int64_t n, int64_t out, int64_t in);

/* ---- shared by gemm_cache.cu and gemm_class.cu ---------------------------------------------- */

static constexpr int PLUMB_CUDA_CANDIDATES = 32;

/* Returns true if the algorithm supports this product with n rows and without a workspace. */
bool plumb_cuda_gemm_can(const struct plumb_cuda *c, product p, int64_t n, int64_t out, int64_t in,
                         const cublasLtMatmulAlgo_t *algo, const float *bias);
/* Sets result (PLUMB_CUDA_CANDIDATES,) to the algorithms that cuBLASLt's heuristic proposes for n
 * rows, best first, and *found to their number; 0 if cuBLASLt does not support the product. With
 * split = false, split-K is removed from them, and those that need it are omitted. */
plumb_status plumb_cuda_gemm_candidates(const struct plumb_cuda *c, product p, int64_t n,
                                        int64_t out, int64_t in, const float *bias, bool split,
                                        cublasLtMatmulHeuristicResult_t *result, int *found);
struct plumb_cuda_gemm_entry *plumb_cuda_gemm_find(const struct plumb_cuda *c, product p,
                                                   int64_t out, int64_t in);
/* Adds an entry to the cache. It replaces the entry for the same product, if there is one. */
plumb_status plumb_cuda_gemm_add(struct plumb_cuda *c, const struct plumb_cuda_gemm_entry *entry);

#endif

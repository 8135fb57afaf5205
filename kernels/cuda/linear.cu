/* linear.cu - linear layers, computed by cuBLASLt or by plumb's own products (gemm_own.cu).
 * Layer 1 (cuda). Includes gemm.cuh.
 *
 * cuBLASLt is column-major, so it sees a row-major (n,c) array as a c x n matrix. Sums are
 * float32. */
#include "cuda/gemm.cuh"

/* Computes the product p with its cached algorithm: d = product + beta d, plus the bias if p is
 * FORWARD_BIAS. */
static plumb_status multiply(plumb_stream *s, product p, void *d, const void *a, const void *b,
                             const float *bias, float beta, int64_t n, int64_t out, int64_t in)
{
    struct plumb_cuda *c = context_of(s);
    const cublasLtMatmulAlgo_t *algo = nullptr;
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_cuda_gemm_algo(c, p, n, out, in, bias, &algo));
    return plumb_cuda_gemm_run(c, p, algo, d, a, b, bias, beta, n, out, in);
}

/* ---- the kernels ------------------------------------------------------------------------ */

/* Copies w, because cuBLASLt reads row-major float32 weights. */
static plumb_status linear_pack(plumb_stream *s, float *packed, const float *w, int64_t out,
                                int64_t in)
{
    PLUMB_CUDA_TRY(cudaMemcpyAsync(packed, w, size_t(out * in) * sizeof(float),
                                   cudaMemcpyDeviceToDevice, context_of(s)->stream));
    return PLUMB_OK;
}

static constexpr int THREADS = 256;

/* Rounds x to bfloat16 and copies it to every row: y[i,:] = x.
 *   y (n,c)  x (c,)
 * Each thread writes 16 bytes of every gridDim.y-th row of y, from row blockIdx.y on. */
static __global__ void narrow_kernel(plumb_bf16 *y, const float *x, int64_t n, int64_t c, bool wide)
{
    wait_for_previous();
    constexpr int N = PER<plumb_bf16>;
    const int64_t j = N * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    const bool whole = wide && j + N <= c;
    if (j < c)
        for (int64_t i = blockIdx.y; i < n; i += gridDim.y)
            store(y + i * c, load<N>(x, j, c, whole), j, c, whole);
}

static plumb_status narrow_rows(plumb_stream *s, plumb_bf16 *y, const float *x, int64_t n,
                                int64_t c)
{
    const int64_t slices = ceil_div(c, PER<plumb_bf16> * THREADS), rows = n < 65535 ? n : 65535;
    if (n == 0 || c == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("linear: rounding", slices, rows));
    PLUMB_LAUNCH_EARLY(narrow_kernel, dim3(unsigned(slices), unsigned(rows)), THREADS, 0,
                       context_of(s), y, x, n, c,
                       (n == 1 || c % PER<plumb_bf16> == 0) && aligned16(y, x));
    return launched("linear: rounding");
}

static plumb_status narrow_fwd(plumb_stream *s, plumb_bf16 *y, const float *x, int64_t n)
{
    return narrow_rows(s, y, x, 1, n);
}

static plumb_status linear_pack(plumb_stream *s, plumb_bf16 *packed, const float *w, int64_t out,
                                int64_t in)
{
    return narrow_fwd(s, packed, w, out * in);
}

static plumb_status linear_fwd(plumb_stream *s, float *y, const float *x, const float *packed,
                               const float *bias, int64_t n, int64_t out, int64_t in)
{
    const product p = {bias ? FORWARD_BIAS : FORWARD, CUDA_R_32F, CUDA_R_32F};
    return multiply(s, p, y, packed, x, bias, 0.0f, n, out, in);
}

/* In a bfloat16 product, cuBLASLt's bias epilogue requires a bfloat16 bias. Instead, the bias is
 * first written to y, rounded to bfloat16, and the product is added to y (beta = 1). */
static plumb_status linear_fwd(plumb_stream *s, plumb_bf16 *y, const plumb_bf16 *x,
                               const plumb_bf16 *packed, const float *bias, int64_t n, int64_t out,
                               int64_t in)
{
    if (bias)
        PLUMB_TRY(narrow_rows(s, y, bias, n, out));
    return multiply(s, product{FORWARD, CUDA_R_16BF, CUDA_R_16BF}, y, packed, x, nullptr,
                    bias ? 1.0f : 0.0f, n, out, in);
}

static plumb_status head_fwd(plumb_stream *s, float *y, const plumb_bf16 *x,
                             const plumb_bf16 *packed, int64_t n, int64_t out, int64_t in)
{
    return multiply(s, product{FORWARD, CUDA_R_16BF, CUDA_R_32F}, y, packed, x, nullptr, 0.0f, n,
                    out, in);
}

template <class T>
static plumb_status linear_bwd_x(plumb_stream *s, T *dx, const T *dy, const T *w, float *work,
                                 int64_t n, int64_t out, int64_t in, int accumulate)
{
    (void)work;
    return multiply(s, product{BACKWARD_X, type_of(T()), type_of(T())}, dx, w, dy, nullptr,
                    accumulate ? 1.0f : 0.0f, n, out, in);
}

/* column_sum_kernel adds the column sums of x (n,c) to sum_out (c,). Each block sums 32 columns:
 * each of its warps sums every COLUMN_WARPS-th row, and the sums of the warps are then added in
 * order. The order depends on n only. */
static constexpr int COLUMN_WARPS = 32;
template <class T>
static __global__ void __launch_bounds__(COLUMN_WARPS *WARP)
    column_sum_kernel(float *sum_out, const T *x, int64_t n, int64_t c)
{
    __shared__ float part[COLUMN_WARPS][WARP];
    const int lane = int(threadIdx.x % WARP), warp = int(threadIdx.x / WARP);
    const int64_t j = int64_t(blockIdx.x) * WARP + lane;
    float sum = 0.0f;
    if (j < c)
        for (int64_t i = warp; i < n; i += COLUMN_WARPS)
            sum += widen(x[i * c + j]);
    part[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || j >= c)
        return;
    sum = sum_out[j];
    for (int i = 0; i < COLUMN_WARPS; i++)
        sum += part[i][lane];
    sum_out[j] = sum;
}

template <class T>
static plumb_status linear_bwd_w(plumb_stream *s, float *dw, float *dbias, const T *dy, const T *x,
                                 float *work, int64_t n, int64_t out, int64_t in)
{
    (void)work;
    PLUMB_TRY(multiply(s, product{BACKWARD_W, type_of(T()), CUDA_R_32F}, dw, x, dy, nullptr, 1.0f,
                       n, out, in));
    if (!dbias || n == 0)
        return PLUMB_OK;
    PLUMB_LAUNCH(column_sum_kernel<T>, unsigned(ceil_div(out, WARP)), COLUMN_WARPS * WARP, 0,
                 context_of(s)->stream, dbias, dy, n, out);
    return launched("linear_bwd_w dbias");
}

void plumb_cuda_init_linear(struct plumb_kernels *t)
{
    BOTH(t, linear_pack);
    BOTH(t, linear_fwd);
    BOTH(t, linear_bwd_x);
    BOTH(t, linear_bwd_w);
    t->bf16.head_fwd = head_fwd;
    t->bf16.narrow_fwd = narrow_fwd;
}

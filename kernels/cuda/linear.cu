/* linear.cu - linear layers through cuBLASLt.
 * Layer 1 (cuda). Includes device.cuh.
 *
 * Row invariance: the algorithm is chosen once for each (product, elements, out, in), without
 * split-K, among those that can do every number of rows, and used for every number of rows.
 * cuBLASLt counts in columns: row-major (n,c) is its c x n. Sums are float32. */
#include "cuda/device.cuh"

#include <stdlib.h>

/* y = x w^T; the same and the bias; dx = dy w; dw += dy^T x */
enum form { FORWARD, FORWARD_BIAS, BACKWARD_X, BACKWARD_W };
static constexpr int CANDIDATES = 32;

/* A product, and the types of what it reads and writes. */
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

static plumb_status check_blas(cublasStatus_t e, const char *what)
{
    if (e == CUBLAS_STATUS_SUCCESS)
        return PLUMB_OK;
    PLUMB_FAIL(PLUMB_ERR_DEVICE, "%s: %s", what, cublasLtGetStatusString(e));
}
#define BLAS_TRY(st, call, label) PLUMB_TRY_GOTO(st, check_blas((call), #call), label)

/* The operands' shapes of one product with n rows: D (m x columns) = op(A) op(B). */
struct gemm {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
};

static void gemm_fini(gemm *g)
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

static plumb_status gemm_init(gemm *g, product p, int64_t n, int64_t out, int64_t in,
                              const float *bias)
{
    plumb_status st = PLUMB_OK;
    const bool forward = p.is == FORWARD || p.is == FORWARD_BIAS, back_w = p.is == BACKWARD_W;
    const int32_t trans_a = forward ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t trans_b = back_w ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t epilogue =
        p.is == FORWARD_BIAS ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    /* memory as columns x rows: w is in x out, x and dx in x n, y and dy out x n */
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

/* What every operand's address is a multiple of, whichever row it begins at. */
static uint32_t alignment(product p, int64_t out, int64_t in)
{
    const uint32_t size = p.read == CUDA_R_16BF ? 2 : 4;
    return out * size % 16 == 0 && in * size % 16 == 0 ? 16 : size;
}

/* Whether the algorithm, without split-K, does this product with n rows and no work space. */
static bool can_do(const struct plumb_cuda *c, product p, int64_t n, int64_t out, int64_t in,
                   const cublasLtMatmulAlgo_t *algo, const float *bias)
{
    gemm g;
    cublasLtMatmulHeuristicResult_t result;
    if (gemm_init(&g, p, n, out, in, bias) != PLUMB_OK)
        return false;
    const cublasStatus_t e =
        cublasLtMatmulAlgoCheck(c->blas, g.desc, g.a, g.b, g.d, g.d, algo, &result);
    gemm_fini(&g);
    return e == CUBLAS_STATUS_SUCCESS && result.workspaceSize == 0;
}

static bool can_do_all(const struct plumb_cuda *c, product p, int64_t out, int64_t in,
                       cublasLtMatmulAlgo_t *algo, const float *bias)
{
    static const int64_t rows[] = {1, 2, 7, 16, 64, 100, 256, 1024, 4096};
    const uint32_t split = 1, reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
    if (cublasLtMatmulAlgoConfigSetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split,
                                             sizeof(split)) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulAlgoConfigSetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                             &reduction,
                                             sizeof(reduction)) != CUBLAS_STATUS_SUCCESS)
        return false;
    for (int64_t n : rows)
        if (!can_do(c, p, n, out, in, algo, bias))
            return false;
    return true;
}

/* The heuristic's candidates for a middling number of rows, best first. */
static plumb_status candidates(const struct plumb_cuda *c, product p, int64_t out, int64_t in,
                               const float *bias, cublasLtMatmulHeuristicResult_t *result,
                               int *found)
{
    plumb_status st = PLUMB_OK;
    gemm g;
    cublasLtMatmulPreference_t wish = nullptr;
    const uint64_t work = 0;
    const uint32_t align = alignment(p, out, in), no_reduction = CUBLASLT_REDUCTION_SCHEME_NONE;
    static const cublasLtMatmulPreferenceAttributes_t sides[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    PLUMB_TRY(gemm_init(&g, p, 256, out, in, bias));
    BLAS_TRY(st, cublasLtMatmulPreferenceCreate(&wish), done);
    BLAS_TRY(st,
             cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &work, sizeof(work)),
             done);
    BLAS_TRY(st,
             cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                  &no_reduction, sizeof(no_reduction)),
             done);
    for (cublasLtMatmulPreferenceAttributes_t side : sides)
        BLAS_TRY(st, cublasLtMatmulPreferenceSetAttribute(wish, side, &align, sizeof(align)), done);
    BLAS_TRY(st,
             cublasLtMatmulAlgoGetHeuristic(c->blas, g.desc, g.a, g.b, g.d, g.d, wish, CANDIDATES,
                                            result, found),
             done);
done:
    if (wish)
        (void)cublasLtMatmulPreferenceDestroy(wish);
    gemm_fini(&g);
    return st;
}

static plumb_status grow_pins(struct plumb_cuda *c)
{
    const int most = c->most_pins ? 2 * c->most_pins : 32;
    if (c->n_pin < c->most_pins)
        return PLUMB_OK;
    void *pin = realloc(c->pin, size_t(most) * sizeof(*c->pin));
    PLUMB_REQUIRE(pin, PLUMB_ERR_NOMEM, "%d pinned algorithms", most);
    c->pin = static_cast<struct plumb_cuda_pin *>(pin);
    c->most_pins = most;
    return PLUMB_OK;
}

static plumb_status pinned(struct plumb_cuda *c, product p, int64_t out, int64_t in,
                           const float *bias, const cublasLtMatmulAlgo_t **algo)
{
    cublasLtMatmulHeuristicResult_t result[CANDIDATES];
    int found = 0;
    for (int i = 0; i < c->n_pin; i++) {
        const struct plumb_cuda_pin *pin = &c->pin[i];
        if (pin->product == p.is && pin->read == p.read && pin->written == p.written &&
            pin->out == out && pin->in == in) {
            *algo = &pin->algo;
            return PLUMB_OK;
        }
    }
    PLUMB_TRY(grow_pins(c));
    PLUMB_TRY(candidates(c, p, out, in, bias, result, &found));
    for (int i = 0; i < found; i++)
        if (can_do_all(c, p, out, in, &result[i].algo, bias)) {
            c->pin[c->n_pin] = plumb_cuda_pin{p.is, p.read, p.written, out, in, result[i].algo};
            *algo = &c->pin[c->n_pin++].algo;
            return PLUMB_OK;
        }
    PLUMB_FAIL(PLUMB_ERR_UNSUPPORTED,
               "linear layer %lld x %lld: none of cuBLASLt's %d algorithms does every number of "
               "rows without split-K",
               (long long)out, (long long)in, found);
}

/* d = op(a) op(b) + beta d */
static plumb_status multiply(plumb_stream *s, product p, void *d, const void *a, const void *b,
                             const float *bias, float beta, int64_t n, int64_t out, int64_t in)
{
    struct plumb_cuda *c = context_of(s);
    plumb_status st = PLUMB_OK;
    const cublasLtMatmulAlgo_t *algo = nullptr;
    const float one = 1.0f;
    gemm g;
    if (n == 0)
        return PLUMB_OK;
    PLUMB_REQUIRE(alignment(p, out, in) < 16 || aligned16(a, b, d), PLUMB_ERR_ARG,
                  "linear layer %lld x %lld: an operand is not aligned to 16 bytes", (long long)out,
                  (long long)in);
    PLUMB_TRY(pinned(c, p, out, in, bias, &algo));
    PLUMB_TRY(gemm_init(&g, p, n, out, in, bias));
    BLAS_TRY(st,
             cublasLtMatmul(c->blas, g.desc, &one, a, g.a, b, g.b, &beta, d, g.d, d, g.d, algo,
                            nullptr, 0, c->stream),
             done);
done:
    gemm_fini(&g);
    return st;
}

/* ---- the kernels ------------------------------------------------------------------------ */

static int64_t linear_packed_count(int64_t out, int64_t in)
{
    return out * in;
}

/* cuBLASLt reads float32 weights as they are. */
static plumb_status linear_pack(plumb_stream *s, float *packed, const float *w, int64_t out,
                                int64_t in)
{
    PLUMB_CUDA_TRY(cudaMemcpyAsync(packed, w, size_t(out * in) * sizeof(float),
                                   cudaMemcpyDeviceToDevice, context_of(s)->stream));
    return PLUMB_OK;
}

static constexpr int THREADS = 256;

/* y[i,:] = x, rounded    y (n,c)  x (c,)    One thread per 16 bytes of y; slices along x. */
static __global__ void narrow_kernel(plumb_bf16 *y, const float *x, int64_t n, int64_t c, bool wide)
{
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
    PLUMB_LAUNCH(narrow_kernel, dim3(unsigned(slices), unsigned(rows)), THREADS, 0,
                 context_of(s)->stream, y, x, n, c,
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

/* The bias epilogue of a bfloat16 product wants a bfloat16 bias: it comes in as what is added to
 * instead, and the sum is rounded once all the same. */
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

static int64_t linear_work_count(int64_t n, int64_t out, int64_t in, int threads)
{
    (void)n, (void)out, (void)in, (void)threads;
    return 0;
}

template <class T>
static plumb_status linear_bwd_x(plumb_stream *s, T *dx, const T *dy, const T *w, float *work,
                                 int64_t n, int64_t out, int64_t in, int accumulate)
{
    (void)work;
    return multiply(s, product{BACKWARD_X, type_of(T()), type_of(T())}, dx, w, dy, nullptr,
                    accumulate ? 1.0f : 0.0f, n, out, in);
}

/* dbias: a block owns 32 columns; each of its warps takes every WARPS-th row, and the warps' sums
 * add up in order: fixed by n. */
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
    t->linear_plain = true;
    t->linear_packed_count = linear_packed_count;
    t->linear_work_count = linear_work_count;
}

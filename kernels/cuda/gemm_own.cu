/* gemm_own.cu - plumb's own kernels for the products of a linear layer: for layers with few
 * outputs, and for products for which cuBLASLt has no row-invariant algorithm.
 * Layer 1 (cuda). Includes gemm.cuh.
 *
 * Row invariance: the order in which the terms of an element are added depends only on their
 * number. Sums are float32. */
#include "cuda/gemm.cuh"

static constexpr int THREADS = 256, TILE = 32, WARPS = THREADS / WARP;

/* ---- few outputs ----------------------------------------------------------------------------- */

/* y[i,o] = sum_j x[i,j] w[o,j] + bias[o] + beta y[i,o], for out <= FEW_OUTPUTS. One warp computes a
 * row: each lane sums every 32nd vector in order, then a butterfly adds the lanes. `wide` requires
 * that all rows of x and w are aligned to 16 bytes. */
template <class Y, class T>
static __global__ void __launch_bounds__(THREADS)
    few_kernel(Y *y, const T *x, const T *w, const float *bias, float beta, int64_t n, int64_t out,
               int64_t in, bool wide)
{
    constexpr int N = PER<T>;
    const int64_t i = int64_t(blockIdx.x) * WARPS + threadIdx.x / WARP;
    const int lane = int(threadIdx.x % WARP);
    float sum[FEW_OUTPUTS] = {};
    if (i >= n)
        return;
    for (int64_t j = int64_t(lane) * N; j < in; j += WARP * N) {
        const bool whole = wide && j + N <= in;
        const vec<N> a = load<N>(x + i * in, j, in, whole);
#pragma unroll
        for (int o = 0; o < FEW_OUTPUTS; o++) {
            if (o >= out)
                break;
            const vec<N> b = load<N>(w + o * in, j, in, whole);
            for (int e = 0; e < N; e++)
                sum[o] = fmaf(a.v[e], b.v[e], sum[o]);
        }
    }
#pragma unroll
    for (int o = 0; o < FEW_OUTPUTS; o++) {
        const float all = warp_sum(sum[o]);
        if (lane == 0 && o < out)
            put(y + i * out + o, bias ? all + bias[o] : all, beta);
    }
}

/* ---- any product ----------------------------------------------------------------------------- */

/* An operand (rows,length) of a product, summed over `length`. Element (i,k) is x[i * row + k *
 * step], so that the operand can be stored in either order. */
template <class T> struct strided {
    const T *x;
    /* strides in elements, from one row to the next and from one term of the sum to the next */
    int64_t row, step;
};

/* Loads the tile of rows first .. first + 31 and terms k .. k + 31; elements outside are 0.
 * Neighbouring threads read neighbouring elements of memory. */
template <class T>
DEVICE void load_tile(float (*tile)[TILE + 1], strided<T> s, int64_t first, int64_t rows, int64_t k,
                      int64_t length)
{
    const int fast = int(threadIdx.x % TILE), slow = int(threadIdx.x / TILE);
    for (int i = slow; i < TILE; i += THREADS / TILE) {
        const int r = s.step == 1 ? i : fast, t = s.step == 1 ? fast : i;
        const bool there = first + r < rows && k + t < length;
        tile[r][t] = there ? widen(s.x[(first + r) * s.row + (k + t) * s.step]) : 0.0f;
    }
}

/* d[i,j] = sum_k a[i,k] b[j,k] + bias[j] + beta d[i,j], the terms in ascending order of k.
 *   d (rows,columns) */
template <class D, class T>
static __global__ void __launch_bounds__(THREADS)
    plain_kernel(D *d, strided<T> a, strided<T> b, const float *bias, float beta, int64_t rows,
                 int64_t columns, int64_t length)
{
    __shared__ float ta[TILE][TILE + 1], tb[TILE][TILE + 1];
    constexpr int EACH = TILE * TILE / THREADS, APART = THREADS / TILE;
    const int64_t i0 = int64_t(blockIdx.x) * TILE, j0 = int64_t(blockIdx.y) * TILE;
    const int x = int(threadIdx.x % TILE), y = int(threadIdx.x / TILE);
    float sum[EACH] = {};
    for (int64_t k = 0; k < length; k += TILE) {
        load_tile(ta, a, i0, rows, k, length);
        load_tile(tb, b, j0, columns, k, length);
        __syncthreads();
        for (int t = 0; t < TILE; t++)
            for (int e = 0; e < EACH; e++)
                sum[e] = fmaf(ta[y + e * APART][t], tb[x][t], sum[e]);
        __syncthreads();
    }
    for (int e = 0; e < EACH; e++) {
        const int64_t i = i0 + y + e * APART, j = j0 + x;
        if (i < rows && j < columns)
            put(d + i * columns + j, bias ? sum[e] + bias[j] : sum[e], beta);
    }
}

template <class D, class T>
static plumb_status plain(struct plumb_cuda *c, D *d, strided<T> a, strided<T> b, const float *bias,
                          float beta, int64_t rows, int64_t columns, int64_t length)
{
    const int64_t x = ceil_div(rows, TILE), y = ceil_div(columns, TILE);
    PLUMB_TRY(check_grid("product", x, y));
    PLUMB_LAUNCH((plain_kernel<D, T>), dim3(unsigned(x), unsigned(y)), THREADS, 0, c->stream, d, a,
                 b, bias, beta, rows, columns, length);
    return launched("product");
}

template <class D, class T>
static plumb_status own(struct plumb_cuda *c, form is, D *d, const T *a, const T *b,
                        const float *bias, float beta, int64_t n, int64_t out, int64_t in)
{
    if (is == BACKWARD_X) /* dx[i,j] = sum_o dy[i,o] w[o,j] */
        return plain(c, d, strided<T>{b, out, 1}, strided<T>{a, 1, in}, nullptr, beta, n, in, out);
    if (is == BACKWARD_W) /* dw[o,j] = sum_i dy[i,o] x[i,j] */
        return plain(c, d, strided<T>{b, 1, out}, strided<T>{a, 1, in}, nullptr, beta, out, in, n);
    if (out > FEW_OUTPUTS)
        return plain(c, d, strided<T>{b, in, 1}, strided<T>{a, in, 1}, bias, beta, n, out, in);
    PLUMB_TRY(check_grid("product of few outputs", ceil_div(n, WARPS), 1));
    PLUMB_LAUNCH((few_kernel<D, T>), unsigned(ceil_div(n, WARPS)), THREADS, 0, c->stream, d, b, a,
                 bias, beta, n, out, in, in % PER<T> == 0 && aligned16(a, b));
    return launched("product of few outputs");
}

plumb_status plumb_cuda_gemm_own(struct plumb_cuda *c, product p, void *d, const void *a,
                                 const void *b, const float *bias, float beta, int64_t n,
                                 int64_t out, int64_t in)
{
    const float *bias_used = p.is == FORWARD_BIAS ? bias : nullptr;
    if (p.read == CUDA_R_32F)
        return own(c, p.is, static_cast<float *>(d), static_cast<const float *>(a),
                   static_cast<const float *>(b), bias_used, beta, n, out, in);
    if (p.written == CUDA_R_32F)
        return own(c, p.is, static_cast<float *>(d), static_cast<const plumb_bf16 *>(a),
                   static_cast<const plumb_bf16 *>(b), bias_used, beta, n, out, in);
    return own(c, p.is, static_cast<plumb_bf16 *>(d), static_cast<const plumb_bf16 *>(a),
               static_cast<const plumb_bf16 *>(b), bias_used, beta, n, out, in);
}

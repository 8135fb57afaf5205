/* layernorm.cu - layer normalisation with weight and bias.
 * Layer 1 (cuda). Includes norm.cuh. */
#include "cuda/norm.cuh"

template <int WARPS, class T>
static __global__ void __launch_bounds__(TEAM_THREADS)
    fwd_kernel(T *y, float *mean, float *rstd, const T *x, const float *w, const float *bias,
               int64_t n, int64_t c, float eps, bool wide)
{
    wait_for_previous();
    constexpr int N = PER<T>;
    __shared__ float part[TEAM_WARPS];
    const team t = my_team<WARPS>();
    if (t.row >= n)
        return;
    x += t.row * c;
    y += t.row * c;
    float sum = 0.0f, squares = 0.0f;
    for (int64_t j = N * t.at; j < c; j += N * t.size) {
        const vec<N> v = load<N>(x, j, c, wide);
        for (int e = 0; e < N; e++)
            sum += v.v[e];
    }
    const float m = block_sum<WARPS>(sum, part) / float(c);
    for (int64_t j = N * t.at; j < c; j += N * t.size) {
        const vec<N> v = load<N>(x, j, c, wide);
        for (int e = 0; e < N; e++) {
            const float d = j + e < c ? v.v[e] - m : 0.0f;
            squares = fmaf(d, d, squares);
        }
    }
    const float r = 1.0f / sqrtf(block_sum<WARPS>(squares, part) / float(c) + eps);
    if (t.at == 0) {
        mean[t.row] = m;
        rstd[t.row] = r;
    }
    for (int64_t j = N * t.at; j < c; j += N * t.size) {
        vec<N> v = load<N>(x, j, c, wide);
        const vec<N> g = load<N>(w, j, c, wide), b = load<N>(bias, j, c, wide);
        for (int e = 0; e < N; e++)
            v.v[e] = fmaf((v.v[e] - m) * r, g.v[e], b.v[e]);
        store(y, v, j, c, wide);
    }
}

template <class T>
static plumb_status layernorm_fwd(plumb_stream *s, T *y, float *mean, float *rstd, const T *x,
                                  const float *w, const float *bias, int64_t n, int64_t c,
                                  float eps)
{
    if (n == 0)
        return PLUMB_OK;
    const bool wide = c % PER<T> == 0 && aligned16(y, x, w, bias);
    PLUMB_TRY(check_grid("layernorm_fwd", n, 1));
    TEAM_LAUNCH_EARLY(fwd_kernel, n, c, s, y, mean, rstd, x, w, bias, n, c, eps, wide);
    return launched("layernorm_fwd");
}

/* dx += rstd (g - mean of g - xhat times mean of (g xhat)), with g = dy w, xhat = (x - mean) rstd
 */
template <int WARPS, class T>
static __global__ void __launch_bounds__(TEAM_THREADS)
    bwd_x_kernel(T *dx, const T *dy, const T *x, const float *w, const float *mean,
                 const float *rstd, int64_t n, int64_t c, bool wide)
{
    constexpr int N = PER<T>;
    __shared__ float part[TEAM_WARPS];
    const team t = my_team<WARPS>();
    if (t.row >= n)
        return;
    x += t.row * c;
    dy += t.row * c;
    dx += t.row * c;
    const float m = mean[t.row], r = rstd[t.row];
    float sum = 0.0f, dot = 0.0f;
    for (int64_t j = N * t.at; j < c; j += N * t.size) {
        const vec<N> v = load<N>(x, j, c, wide), d = load<N>(dy, j, c, wide);
        const vec<N> g = load<N>(w, j, c, wide);
        for (int e = 0; e < N; e++) {
            sum = fmaf(d.v[e], g.v[e], sum);
            dot = fmaf(d.v[e] * g.v[e], v.v[e] - m, dot);
        }
    }
    const float less = block_sum<WARPS>(sum, part) / float(c);
    const float back = block_sum<WARPS>(dot, part) * r * r / float(c);
    for (int64_t j = N * t.at; j < c; j += N * t.size) {
        const vec<N> v = load<N>(x, j, c, wide), d = load<N>(dy, j, c, wide);
        const vec<N> g = load<N>(w, j, c, wide);
        vec<N> out = load<N>(dx, j, c, wide);
        for (int e = 0; e < N; e++) {
            const float rest = fmaf(d.v[e], g.v[e], -less);
            out.v[e] = fmaf(r, fmaf(-(v.v[e] - m), back, rest), out.v[e]);
        }
        store(dx, out, j, c, wide);
    }
}

/* Adds the gradients to dw and dbias. Each block sums 32 columns over the rows: each of its warps
 * sums every COLUMN_WARPS-th row, and the sums of the warps are then added in order. The order
 * depends on n only. */
template <class T>
static __global__ void __launch_bounds__(COLUMN_WARPS *WARP)
    bwd_w_kernel(float *dw, float *dbias, const T *dy, const T *x, const float *mean,
                 const float *rstd, int64_t n, int64_t c)
{
    __shared__ float part_w[COLUMN_WARPS][WARP], part_b[COLUMN_WARPS][WARP];
    const int lane = int(threadIdx.x % WARP), warp = int(threadIdx.x / WARP);
    const int64_t j = int64_t(blockIdx.x) * WARP + lane;
    float sum_w = 0.0f, sum_b = 0.0f;
    if (j < c)
        for (int64_t i = warp; i < n; i += COLUMN_WARPS) {
            const float d = widen(dy[i * c + j]);
            sum_w = fmaf(d * (widen(x[i * c + j]) - mean[i]), rstd[i], sum_w);
            sum_b += d;
        }
    part_w[warp][lane] = sum_w;
    part_b[warp][lane] = sum_b;
    __syncthreads();
    if (warp > 0 || j >= c)
        return;
    sum_w = dw[j];
    sum_b = dbias[j];
    for (int i = 0; i < COLUMN_WARPS; i++) {
        sum_w += part_w[i][lane];
        sum_b += part_b[i][lane];
    }
    dw[j] = sum_w;
    dbias[j] = sum_b;
}

template <class T>
static plumb_status layernorm_bwd(plumb_stream *s, T *dx, float *dw, float *dbias, const T *dy,
                                  const T *x, const float *w, const float *mean, const float *rstd,
                                  int64_t n, int64_t c)
{
    if (n == 0)
        return PLUMB_OK;
    const bool wide = c % PER<T> == 0 && aligned16(dx, dy, x, w);
    PLUMB_TRY(check_grid("layernorm_bwd", n, 1));
    TEAM_LAUNCH(bwd_x_kernel, n, c, s, dx, dy, x, w, mean, rstd, n, c, wide);
    PLUMB_TRY(launched("layernorm_bwd dx"));
    PLUMB_LAUNCH(bwd_w_kernel<T>, unsigned(ceil_div(c, WARP)), COLUMN_WARPS * WARP, 0,
                 context_of(s)->stream, dw, dbias, dy, x, mean, rstd, n, c);
    return launched("layernorm_bwd dw, dbias");
}

void plumb_cuda_init_layernorm(struct plumb_kernels *t)
{
    BOTH(t, layernorm_fwd);
    BOTH(t, layernorm_bwd);
}

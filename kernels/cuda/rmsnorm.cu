/* rmsnorm.cu - root-mean-square normalisation.
 * Layer 1 (cuda). Includes norm.cuh. */
#include "cuda/norm.cuh"

template <int WARPS, class T>
static __global__ void __launch_bounds__(TEAM_THREADS)
    fwd_kernel(T *y, float *rstd, const T *x, const float *w, int64_t n, int64_t c, float eps,
               float shift, bool wide)
{
    constexpr int N = PER<T>;
    __shared__ float part[TEAM_WARPS];
    const team t = my_team<WARPS>();
    if (t.row >= n)
        return;
    x += t.row * c;
    y += t.row * c;
    float sum = 0.0f;
    for (int64_t j = N * t.at; j < c; j += N * t.size) {
        const vec<N> v = load<N>(x, j, c, wide);
        for (int e = 0; e < N; e++)
            sum = fmaf(v.v[e], v.v[e], sum);
    }
    sum = block_sum<WARPS>(sum, part);
    normalise_row(t, y, rstd + t.row, x, w, c, sum, eps, shift, wide);
}

template <class T>
static plumb_status rmsnorm_fwd(plumb_stream *s, T *y, float *rstd, const T *x, const float *w,
                                int64_t n, int64_t c, float eps, float shift)
{
    if (n == 0)
        return PLUMB_OK;
    const bool wide = c % PER<T> == 0 && aligned16(y, x, w);
    PLUMB_TRY(check_grid("rmsnorm_fwd", n, 1));
    TEAM_LAUNCH(fwd_kernel, n, c, s, y, rstd, x, w, n, c, eps, shift, wide);
    return launched("rmsnorm_fwd");
}

template <int WARPS, class T>
static __global__ void __launch_bounds__(TEAM_THREADS)
    bwd_x_kernel(T *dx, const T *dy, const T *x, const float *w, const float *rstd, int64_t n,
                 int64_t c, float shift, bool wide)
{
    constexpr int N = PER<T>;
    __shared__ float part[TEAM_WARPS];
    const team t = my_team<WARPS>();
    if (t.row >= n)
        return;
    x += t.row * c;
    dy += t.row * c;
    dx += t.row * c;
    float dot = 0.0f; /* dot product of the row: the sum over j of dy w x */
    for (int64_t j = N * t.at; j < c; j += N * t.size) {
        const vec<N> v = load<N>(x, j, c, wide), d = load<N>(dy, j, c, wide);
        const vec<N> g = load<N>(w, j, c, wide);
        for (int e = 0; e < N; e++)
            dot = fmaf(d.v[e] * (g.v[e] + shift), v.v[e], dot);
    }
    const float r = rstd[t.row];
    const float back = block_sum<WARPS>(dot, part) * r * r / float(c);
    for (int64_t j = N * t.at; j < c; j += N * t.size) {
        const vec<N> v = load<N>(x, j, c, wide), d = load<N>(dy, j, c, wide);
        const vec<N> g = load<N>(w, j, c, wide);
        vec<N> out = load<N>(dx, j, c, wide);
        for (int e = 0; e < N; e++)
            out.v[e] = fmaf(r, fmaf(d.v[e], g.v[e] + shift, -v.v[e] * back), out.v[e]);
        store(dx, out, j, c, wide);
    }
}

/* Adds to dw: each block sums 32 columns. Each of its warps adds every COLUMN_WARPS-th row; the
 * sums of the warps are then added in order. The order depends on n only. */
template <class T>
static __global__ void __launch_bounds__(COLUMN_WARPS *WARP)
    bwd_w_kernel(float *dw, const T *dy, const T *x, const float *rstd, int64_t n, int64_t c)
{
    __shared__ float part[COLUMN_WARPS][WARP];
    const int lane = int(threadIdx.x % WARP), warp = int(threadIdx.x / WARP);
    const int64_t j = int64_t(blockIdx.x) * WARP + lane;
    float sum = 0.0f;
    if (j < c)
        for (int64_t i = warp; i < n; i += COLUMN_WARPS)
            sum = fmaf(widen(dy[i * c + j]) * widen(x[i * c + j]), rstd[i], sum);
    part[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || j >= c)
        return;
    sum = dw[j];
    for (int i = 0; i < COLUMN_WARPS; i++)
        sum += part[i][lane];
    dw[j] = sum;
}

template <class T>
static plumb_status rmsnorm_bwd(plumb_stream *s, T *dx, float *dw, const T *dy, const T *x,
                                const float *w, const float *rstd, int64_t n, int64_t c,
                                float shift)
{
    if (n == 0)
        return PLUMB_OK;
    const bool wide = c % PER<T> == 0 && aligned16(dx, dy, x, w);
    PLUMB_TRY(check_grid("rmsnorm_bwd", n, 1));
    TEAM_LAUNCH(bwd_x_kernel, n, c, s, dx, dy, x, w, rstd, n, c, shift, wide);
    PLUMB_TRY(launched("rmsnorm_bwd dx"));
    PLUMB_LAUNCH(bwd_w_kernel<T>, unsigned(ceil_div(c, WARP)), COLUMN_WARPS * WARP, 0,
                 context_of(s)->stream, dw, dy, x, rstd, n, c);
    return launched("rmsnorm_bwd dw");
}

void plumb_cuda_init_rmsnorm(struct plumb_kernels *t)
{
    BOTH(t, rmsnorm_fwd);
    BOTH(t, rmsnorm_bwd);
}

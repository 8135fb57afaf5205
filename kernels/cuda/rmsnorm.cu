/* rmsnorm.cu - root-mean-square normalisation.
 * Layer 1 (cuda). Includes norm.cuh. */
#include "cuda/norm.cuh"

template <int WARPS, class T>
static __global__ void __launch_bounds__(TEAM_THREADS)
    fwd_kernel(T *y, float *rstd, const T *x, const float *w, int64_t n, int64_t c, float eps,
               float shift, bool wide)
{
    wait_for_previous();
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
    TEAM_LAUNCH_EARLY(fwd_kernel, n, c, s, y, rstd, x, w, n, c, eps, shift, wide);
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

/* The weight gradient. The rows are divided into slices of s rows. A block sums over one slice the
 * columns of one vector of N elements per lane:
 *
 *                       columns 0 .. 32 N - 1    columns 32 N .. 64 N - 1    ...
 *     rows 0 .. s-1     block (0,0)              block (1,0)
 *     rows s .. 2s-1    block (0,1)              block (1,1)
 *
 * Each warp of a block adds every TEAM_WARPS-th row of the slice; then the sums of the warps are
 * added in order, then those of the slices. With one slice, the sums of the warps are added to dw.
 * The number of slices, and so the order of the sum, depends on n, c and the element type only. */
static constexpr int64_t SLICE_ROWS = 128, MOST_SLICES = 128, FULL_GRID = 512;

template <class T>
static __global__ void __launch_bounds__(TEAM_THREADS)
    bwd_w_kernel(float *out, const T *dy, const T *x, const float *rstd, int64_t n, int64_t c,
                 int64_t slice, bool add, bool wide)
{
    constexpr int N = PER<T>, COLUMNS = WARP * N;
    __shared__ float part[TEAM_WARPS][COLUMNS];
    const int lane = int(threadIdx.x % WARP), warp = int(threadIdx.x / WARP), at = int(threadIdx.x);
    const int64_t first = int64_t(blockIdx.x) * COLUMNS, j = first + N * lane;
    const int64_t begin = int64_t(blockIdx.y) * slice;
    const int64_t end = begin + slice < n ? begin + slice : n;
    vec<N> sum = {};
    if (j < c)
        for (int64_t i = begin + warp; i < end; i += TEAM_WARPS) {
            const vec<N> d = load<N>(dy + i * c, j, c, wide), v = load<N>(x + i * c, j, c, wide);
            const float r = rstd[i];
            for (int e = 0; e < N; e++)
                sum.v[e] = fmaf(d.v[e] * v.v[e], r, sum.v[e]);
        }
    for (int e = 0; e < N; e++)
        part[warp][e * WARP + lane] = sum.v[e];
    __syncthreads();
    const int64_t column = first + N * (at % WARP) + at / WARP;
    if (at >= COLUMNS || column >= c)
        return;
    out += blockIdx.y * c + column;
    float all = add ? *out : 0.0f;
    for (int i = 0; i < TEAM_WARPS; i++)
        all += part[i][at];
    *out = all;
}

/* dw[j] += the sum over the slices, in order, of part (slices,c). */
static __global__ void __launch_bounds__(TEAM_THREADS)
    slices_kernel(float *dw, const float *part, int64_t slices, int64_t c)
{
    const int64_t j = int64_t(blockIdx.x) * TEAM_THREADS + threadIdx.x;
    if (j >= c)
        return;
    float sum = dw[j];
    for (int64_t i = 0; i < slices; i++)
        sum += part[i * c + j];
    dw[j] = sum;
}

template <class T>
static plumb_status bwd_w(plumb_stream *s, float *dw, const T *dy, const T *x, const float *rstd,
                          int64_t n, int64_t c, bool wide)
{
    struct plumb_cuda *context = context_of(s);
    const int64_t groups = ceil_div(c, WARP * PER<T>),
                  limit[] = {ceil_div(n, SLICE_ROWS), MOST_SLICES, ceil_div(FULL_GRID, groups),
                             context->chunk_floats / c};
    int64_t slices = n > 2 * SLICE_ROWS ? n : 1;
    for (int64_t most : limit)
        slices = most < slices && most > 0 ? most : slices;
    const int64_t slice = ceil_div(n, slices);
    slices = ceil_div(n, slice);
    const bool one = slices == 1;
    PLUMB_LAUNCH(bwd_w_kernel<T>, dim3(unsigned(groups), unsigned(slices)), TEAM_THREADS, 0,
                 context->stream, one ? dw : context->chunk, dy, x, rstd, n, c, slice, one, wide);
    PLUMB_TRY(launched("rmsnorm_bwd dw"));
    if (one)
        return PLUMB_OK;
    PLUMB_LAUNCH(slices_kernel, unsigned(ceil_div(c, TEAM_THREADS)), TEAM_THREADS, 0,
                 context->stream, dw, context->chunk, slices, c);
    return launched("rmsnorm_bwd dw slices");
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
    return bwd_w(s, dw, dy, x, rstd, n, c, wide);
}

void plumb_cuda_init_rmsnorm(struct plumb_kernels *t)
{
    BOTH(t, rmsnorm_fwd);
    BOTH(t, rmsnorm_bwd);
}

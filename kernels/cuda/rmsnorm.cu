/* rmsnorm.cu - root-mean-square normalisation.
 * Layer 1 (cuda). Includes device.cuh.
 *
 * A row belongs to a team: one warp when it is short (heads, small models), a block of 8 warps
 * when it is long. Which, and so the order of its sum, depends on c alone. */
#include "cuda/device.cuh"

static constexpr int SHORT = 512, TEAM_WARPS = 8, THREADS = TEAM_WARPS * WARP;

/* The row of this thread's team, its thread in the team, the team's threads. */
struct team {
    int64_t row;
    int at, size;
};
template <int WARPS> DEVICE team my_team()
{
    if (WARPS > 1)
        return team{int64_t(blockIdx.x), int(threadIdx.x), WARPS * WARP};
    return team{int64_t(blockIdx.x) * TEAM_WARPS + threadIdx.x / WARP, int(threadIdx.x % WARP),
                WARP};
}

template <int WARPS>
static __global__ void __launch_bounds__(THREADS)
    fwd_kernel(float *y, float *rstd, const float *x, const float *w, int64_t n, int64_t c,
               float eps, bool wide)
{
    __shared__ float part[TEAM_WARPS];
    const team t = my_team<WARPS>();
    if (t.row >= n)
        return;
    x += t.row * c;
    y += t.row * c;
    float sum = 0.0f;
    for (int64_t j = 4 * t.at; j < c; j += 4 * t.size) {
        const float4 v = load4(x, j, c, wide);
        sum = fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, fmaf(v.x, v.x, sum))));
    }
    sum = block_sum<WARPS>(sum, part);
    const float r = 1.0f / sqrtf(sum / float(c) + eps);
    if (t.at == 0)
        rstd[t.row] = r;
    for (int64_t j = 4 * t.at; j < c; j += 4 * t.size) {
        const float4 v = load4(x, j, c, wide), g = load4(w, j, c, wide);
        store4(y, make_float4(v.x * r * g.x, v.y * r * g.y, v.z * r * g.z, v.w * r * g.w), j, c,
               wide);
    }
}

/* The launch of one kernel for both sizes of team. */
#define TEAM_LAUNCH(kernel, n, c, s, ...)                                                          \
    do {                                                                                           \
        if ((c) <= SHORT)                                                                          \
            PLUMB_LAUNCH(kernel<1>, unsigned(ceil_div(n, TEAM_WARPS)), THREADS, 0,                 \
                         context_of(s)->stream, __VA_ARGS__);                                      \
        else                                                                                       \
            PLUMB_LAUNCH(kernel<TEAM_WARPS>, unsigned(n), THREADS, 0, context_of(s)->stream,       \
                         __VA_ARGS__);                                                             \
    } while (0)

extern "C" plumb_status plumb_cuda_rmsnorm_fwd(plumb_stream *s, float *y, float *rstd,
                                               const float *x, const float *w, int64_t n, int64_t c,
                                               float eps)
{
    if (n == 0)
        return PLUMB_OK;
    const bool wide = c % 4 == 0 && aligned16(y, x, w);
    PLUMB_TRY(check_grid("rmsnorm_fwd", n, 1));
    TEAM_LAUNCH(fwd_kernel, n, c, s, y, rstd, x, w, n, c, eps, wide);
    return launched("rmsnorm_fwd");
}

template <int WARPS>
static __global__ void __launch_bounds__(THREADS)
    bwd_x_kernel(float *dx, const float *dy, const float *x, const float *w, const float *rstd,
                 int64_t n, int64_t c, bool wide)
{
    __shared__ float part[TEAM_WARPS];
    const team t = my_team<WARPS>();
    if (t.row >= n)
        return;
    x += t.row * c;
    dy += t.row * c;
    dx += t.row * c;
    float dot = 0.0f; /* sum_j dy w x */
    for (int64_t j = 4 * t.at; j < c; j += 4 * t.size) {
        const float4 v = load4(x, j, c, wide), d = load4(dy, j, c, wide), g = load4(w, j, c, wide);
        dot = fmaf(d.x * g.x, v.x, dot);
        dot = fmaf(d.y * g.y, v.y, dot);
        dot = fmaf(d.z * g.z, v.z, dot);
        dot = fmaf(d.w * g.w, v.w, dot);
    }
    const float r = rstd[t.row];
    const float back = block_sum<WARPS>(dot, part) * r * r / float(c);
    for (int64_t j = 4 * t.at; j < c; j += 4 * t.size) {
        const float4 v = load4(x, j, c, wide), d = load4(dy, j, c, wide), g = load4(w, j, c, wide);
        float4 out = load4(dx, j, c, wide);
        out.x = fmaf(r, fmaf(d.x, g.x, -v.x * back), out.x);
        out.y = fmaf(r, fmaf(d.y, g.y, -v.y * back), out.y);
        out.z = fmaf(r, fmaf(d.z, g.z, -v.z * back), out.z);
        out.w = fmaf(r, fmaf(d.w, g.w, -v.w * back), out.w);
        store4(dx, out, j, c, wide);
    }
}

/* dw: a block owns 32 columns; its warps take every WARPS-th row each, and their sums add up in
 * the order of the warps. The order depends on n alone. */
static constexpr int COLUMN_WARPS = 32;
static __global__ void __launch_bounds__(COLUMN_WARPS *WARP)
    bwd_w_kernel(float *dw, const float *dy, const float *x, const float *rstd, int64_t n,
                 int64_t c)
{
    __shared__ float part[COLUMN_WARPS][WARP];
    const int lane = int(threadIdx.x % WARP), warp = int(threadIdx.x / WARP);
    const int64_t j = int64_t(blockIdx.x) * WARP + lane;
    float sum = 0.0f;
    if (j < c)
        for (int64_t i = warp; i < n; i += COLUMN_WARPS)
            sum = fmaf(dy[i * c + j] * x[i * c + j], rstd[i], sum);
    part[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || j >= c)
        return;
    sum = dw[j];
    for (int i = 0; i < COLUMN_WARPS; i++)
        sum += part[i][lane];
    dw[j] = sum;
}

extern "C" plumb_status plumb_cuda_rmsnorm_bwd(plumb_stream *s, float *dx, float *dw,
                                               const float *dy, const float *x, const float *w,
                                               const float *rstd, int64_t n, int64_t c)
{
    if (n == 0)
        return PLUMB_OK;
    const bool wide = c % 4 == 0 && aligned16(dx, dy, x, w);
    PLUMB_TRY(check_grid("rmsnorm_bwd", n, 1));
    TEAM_LAUNCH(bwd_x_kernel, n, c, s, dx, dy, x, w, rstd, n, c, wide);
    PLUMB_TRY(launched("rmsnorm_bwd dx"));
    PLUMB_LAUNCH(bwd_w_kernel, unsigned(ceil_div(c, WARP)), COLUMN_WARPS * WARP, 0,
                 context_of(s)->stream, dw, dy, x, rstd, n, c);
    return launched("rmsnorm_bwd dw");
}

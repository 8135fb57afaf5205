/* norm.cuh - the teams of threads that normalise rows.
 * Layer 1, kernels/cuda only. Includes device.cuh.
 *
 * A team of threads computes one row: one warp if the row is short (heads, small models), a block
 * of 8 warps if it is long. The team's size, and with it the order of the sum, depends on c
 * only. */
#ifndef PLUMB_KERNELS_CUDA_NORM_CUH
#define PLUMB_KERNELS_CUDA_NORM_CUH

#include "cuda/device.cuh"

static constexpr int SHORT = 512, TEAM_WARPS = 8, TEAM_THREADS = TEAM_WARPS * WARP;
/* number of warps of a block that sums over rows, column by column */
static constexpr int COLUMN_WARPS = 32;

/* The row of this thread's team, the thread's index in the team, and the team's size. */
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

/* Computes y = x r (w + shift) for the team's row, with r = 1 / sqrt(square / c + eps), and stores
 * r in *rstd. y, x (c,) and rstd belong to this row; square is the sum of the squares of x, which
 * the team has added up with block_sum. */
template <class T>
DEVICE void normalise_row(const team &t, T *y, float *rstd, const T *x, const float *w, int64_t c,
                          float square, float eps, float shift, bool wide)
{
    constexpr int N = PER<T>;
    const float r = 1.0f / sqrtf(square / float(c) + eps);
    if (t.at == 0)
        *rstd = r;
    for (int64_t j = N * t.at; j < c; j += N * t.size) {
        vec<N> v = load<N>(x, j, c, wide);
        const vec<N> g = load<N>(w, j, c, wide);
        for (int e = 0; e < N; e++)
            v.v[e] = v.v[e] * r * (g.v[e] + shift);
        store(y, v, j, c, wide);
    }
}

/* Launches a kernel of T with one warp per row if c <= SHORT, else with TEAM_WARPS warps per row.
 * TEAM_LAUNCH_EARLY launches it with PLUMB_LAUNCH_EARLY. */
#define TEAM_LAUNCH_BY(launch, in, kernel, n, c, ...)                                              \
    do {                                                                                           \
        if ((c) <= SHORT)                                                                          \
            launch((kernel<1, T>), unsigned(ceil_div(n, TEAM_WARPS)), TEAM_THREADS, 0, in,         \
                   __VA_ARGS__);                                                                   \
        else                                                                                       \
            launch((kernel<TEAM_WARPS, T>), unsigned(n), TEAM_THREADS, 0, in, __VA_ARGS__);        \
    } while (0)
#define TEAM_LAUNCH(kernel, n, c, s, ...)                                                          \
    TEAM_LAUNCH_BY(PLUMB_LAUNCH, context_of(s)->stream, kernel, n, c, __VA_ARGS__)
#define TEAM_LAUNCH_EARLY(kernel, n, c, s, ...)                                                    \
    TEAM_LAUNCH_BY(PLUMB_LAUNCH_EARLY, context_of(s), kernel, n, c, __VA_ARGS__)

#endif

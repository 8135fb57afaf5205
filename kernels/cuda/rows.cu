/* rows.cu - kernels that gather, scatter, average and add rows.
 * Layer 1 (cuda). Includes device.cuh. */
#include "cuda/device.cuh"

static constexpr int THREADS = 256;

/* Each thread copies and converts up to PER<X, Y> elements of a row. */
template <class Y, class X>
static __global__ void gather_kernel(Y *y, const X *x, const int32_t *index, int64_t c, bool wide)
{
    wait_for_previous();
    constexpr int N = PER<X, Y>;
    const int64_t i = blockIdx.x, j = N * (int64_t(blockIdx.y) * blockDim.x + threadIdx.x);
    if (j < c)
        store(y + i * c, load<N>(x + index[i] * c, j, c, wide), j, c, wide);
}

template <class Y, class X>
static plumb_status gather_fwd(plumb_stream *s, Y *y, const X *x, const int32_t *index, int64_t n,
                               int64_t c)
{
    constexpr int N = PER<X, Y>;
    if (n == 0 || c == 0)
        return PLUMB_OK;
    const int64_t slices = ceil_div(c, N * THREADS);
    PLUMB_TRY(check_grid("gather_fwd", n, slices));
    PLUMB_LAUNCH_EARLY((gather_kernel<Y, X>), dim3(unsigned(n), unsigned(slices)), THREADS, 0,
                       context_of(s), y, x, index, c, c % N == 0 && aligned16(x, y));
    return launched("gather_fwd");
}

/* Each thread copies 16 bytes of a row of one plane (move_rows in kernels_real.h). */
template <class T>
static __global__ void move_kernel(T *x, const int32_t *pair, int64_t c, int64_t stride, bool wide)
{
    constexpr int N = PER<T>;
    const int64_t i = blockIdx.x, j = N * (int64_t(blockIdx.y) * blockDim.x + threadIdx.x);
    if (j >= c)
        return;
    x += int64_t(blockIdx.z) * stride;
    const bool whole = wide && j + N <= c;
    store(x + pair[2 * i + 1] * c, load<N>(x + pair[2 * i] * c, j, c, whole), j, c, whole);
}

template <class T>
static plumb_status move_rows(plumb_stream *s, T *x, const int32_t *pair, int64_t n, int64_t c,
                              int64_t planes, int64_t stride)
{
    constexpr int N = PER<T>;
    if (n == 0 || c == 0 || planes == 0)
        return PLUMB_OK;
    const int64_t slices = ceil_div(c, N * THREADS);
    PLUMB_TRY(check_grid("move_rows", n, slices > planes ? slices : planes));
    PLUMB_LAUNCH(move_kernel<T>, dim3(unsigned(n), unsigned(slices), unsigned(planes)), THREADS, 0,
                 context_of(s)->stream, x, pair, c, stride,
                 c % N == 0 && (planes == 1 || stride % N == 0) && aligned16(x));
    return launched("move_rows");
}

/* Adds to row index[i] of dx, with i = blockIdx.x, all rows i' of dy for which index[i'] =
 * index[i]. If an earlier i has the same index, the block returns. Each lane owns N = PER<X, Y>
 * adjacent elements of the row. A warp searches 32 indices at a time and adds in ascending i', so
 * it needs no atomics and has the same order as the reference. */
template <class X, class Y>
static __global__ void scatter_kernel(X *dx, const Y *dy, const int32_t *index, int64_t n,
                                      int64_t c, bool wide)
{
    constexpr int N = PER<X, Y>;
    const int64_t first = blockIdx.x;
    const int64_t slice = int64_t(blockIdx.y) * (blockDim.x / WARP) + threadIdx.x / WARP;
    const int lane = int(threadIdx.x % WARP);
    const int64_t j = N * (slice * WARP + lane);
    if (slice * N * WARP >= c)
        return;
    const int32_t mine = index[first];
    for (int64_t i = 0; i < first; i += WARP)
        if (__any_sync(ALL_LANES, i + lane < first && index[i + lane] == mine))
            return;
    X *row = dx + mine * c;
    vec<N> sum = {};
    if (j < c)
        sum = load<N>(row, j, c, wide);
    for (int64_t i = first; i < n; i += WARP) {
        unsigned found = __ballot_sync(ALL_LANES, i + lane < n && index[i + lane] == mine);
        for (; found; found &= found - 1) {
            if (j >= c)
                continue;
            const vec<N> add = load<N>(dy + (i + __ffs(int(found)) - 1) * c, j, c, wide);
            for (int e = 0; e < N; e++)
                sum.v[e] += add.v[e];
        }
    }
    if (j < c)
        store(row, sum, j, c, wide);
}

template <class X, class Y>
static plumb_status gather_bwd(plumb_stream *s, X *dx, const Y *dy, const int32_t *index, int64_t n,
                               int64_t c, int64_t m)
{
    constexpr int N = PER<X, Y>;
    (void)m;
    if (n == 0 || c == 0)
        return PLUMB_OK;
    const int64_t slices = ceil_div(c, N * WARP), warps = slices < 8 ? slices : 8;
    PLUMB_TRY(check_grid("gather_bwd", n, ceil_div(slices, warps)));
    PLUMB_LAUNCH((scatter_kernel<X, Y>), dim3(unsigned(n), unsigned(ceil_div(slices, warps))),
                 unsigned(warps * WARP), 0, context_of(s)->stream, dx, dy, index, n, c,
                 c % N == 0 && aligned16(dx, dy));
    return launched("gather_bwd");
}

/* Each thread averages one column of a segment: it adds the rows in order, in double. */
template <class T>
static __global__ void segment_mean_kernel(float *y, const T *x, const int64_t *offset, int64_t c)
{
    const int64_t i = blockIdx.x, j = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
    const int64_t begin = offset[i], end = offset[i + 1];
    if (j >= c)
        return;
    double sum = 0.0;
    for (int64_t r = begin; r < end; r++)
        sum += double(widen(x[r * c + j]));
    y[i * c + j] = end > begin ? float(sum / double(end - begin)) : 0.0f;
}

template <class T>
static plumb_status segment_mean_fwd(plumb_stream *s, float *y, const T *x, const int64_t *offset,
                                     int64_t g, int64_t c)
{
    if (g == 0 || c == 0)
        return PLUMB_OK;
    const int64_t slices = ceil_div(c, THREADS);
    PLUMB_TRY(check_grid("segment_mean_fwd", g, slices));
    PLUMB_LAUNCH(segment_mean_kernel<T>, dim3(unsigned(g), unsigned(slices)), THREADS, 0,
                 context_of(s)->stream, y, x, offset, c);
    return launched("segment_mean_fwd");
}

template <class T>
static __global__ void add_kernel(T *y, const T *a, const T *b, int64_t n, bool wide)
{
    wait_for_previous();
    constexpr int N = PER<T>;
    const int64_t j = N * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (j >= n)
        return;
    const bool whole = wide && j + N <= n;
    vec<N> u = load<N>(a, j, n, whole);
    const vec<N> v = load<N>(b, j, n, whole);
    for (int e = 0; e < N; e++)
        u.v[e] += v.v[e];
    store(y, u, j, n, whole);
}

template <class T>
static plumb_status add_fwd(plumb_stream *s, T *y, const T *a, const T *b, int64_t n)
{
    const int64_t blocks = ceil_div(n, PER<T> * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("add_fwd", blocks, 1));
    PLUMB_LAUNCH_EARLY(add_kernel<T>, unsigned(blocks), THREADS, 0, context_of(s), y, a, b, n,
                       aligned16(y, a, b));
    return launched("add_fwd");
}

template <class T>
static __global__ void scale_kernel(T *y, const T *x, float factor, int64_t n, bool wide)
{
    wait_for_previous();
    constexpr int N = PER<T>;
    const int64_t j = N * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (j >= n)
        return;
    const bool whole = wide && j + N <= n;
    vec<N> v = load<N>(x, j, n, whole);
    for (int e = 0; e < N; e++)
        v.v[e] *= factor;
    store(y, v, j, n, whole);
}

template <class T>
static plumb_status scale_fwd(plumb_stream *s, T *y, const T *x, float factor, int64_t n)
{
    const int64_t blocks = ceil_div(n, PER<T> * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("scale_fwd", blocks, 1));
    PLUMB_LAUNCH_EARLY(scale_kernel<T>, unsigned(blocks), THREADS, 0, context_of(s), y, x, factor,
                       n, aligned16(y, x));
    return launched("scale_fwd");
}

static plumb_status accumulate(plumb_stream *s, float *y, const float *x, int64_t n)
{
    return add_fwd(s, y, static_cast<const float *>(y), x, n);
}

void plumb_cuda_init_rows(struct plumb_kernels *t)
{
    BOTH(t, gather_fwd);
    BOTH(t, gather_bwd);
    BOTH(t, move_rows);
    BOTH(t, segment_mean_fwd);
    BOTH(t, add_fwd);
    BOTH(t, scale_fwd);
    t->bf16.embed_fwd = gather_fwd;
    t->bf16.embed_bwd = gather_bwd;
    t->accumulate = accumulate;
}

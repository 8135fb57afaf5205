/* rows.cu - whole rows moved, averaged and added.
 * Layer 1 (cuda). Includes device.cuh. */
#include "cuda/device.cuh"

static constexpr int THREADS = 256;

/* One thread per four columns of a row. */
static __global__ void gather_kernel(float *y, const float *x, const int32_t *index, int64_t c,
                                     bool wide)
{
    const int64_t i = blockIdx.x, j = 4 * (int64_t(blockIdx.y) * blockDim.x + threadIdx.x);
    if (j < c)
        store4(y + i * c, load4(x + index[i] * c, j, c, wide), j, c, wide);
}

extern "C" plumb_status plumb_cuda_gather_fwd(plumb_stream *s, float *y, const float *x,
                                              const int32_t *index, int64_t n, int64_t c)
{
    if (n == 0 || c == 0)
        return PLUMB_OK;
    const int64_t slices = ceil_div(c, 4 * THREADS);
    const bool wide = c % 4 == 0 && aligned16(x, y);
    PLUMB_TRY(check_grid("gather_fwd", n, slices));
    PLUMB_LAUNCH(gather_kernel, dim3(unsigned(n), unsigned(slices)), THREADS, 0,
                 context_of(s)->stream, y, x, index, c, wide);
    return launched("gather_fwd");
}

/* A warp owns 128 columns of the row that index[i] names, if i is the first to name it, and adds
 * to it in ascending i': no atomics, and the order of the definition. The warp looks at 32
 * indices at a time. */
static __global__ void scatter_kernel(float *dx, const float *dy, const int32_t *index, int64_t n,
                                      int64_t c, bool wide)
{
    const int64_t first = blockIdx.x;
    const int64_t slice = int64_t(blockIdx.y) * (blockDim.x / WARP) + threadIdx.x / WARP;
    const int lane = int(threadIdx.x % WARP);
    const int64_t j = 4 * (slice * WARP + lane);
    if (slice * 4 * WARP >= c)
        return;
    const int32_t mine = index[first];
    for (int64_t i = 0; i < first; i += WARP)
        if (__any_sync(ALL_LANES, i + lane < first && index[i + lane] == mine))
            return;
    float *row = dx + mine * c;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (j < c)
        sum = load4(row, j, c, wide);
    for (int64_t i = first; i < n; i += WARP) {
        unsigned found = __ballot_sync(ALL_LANES, i + lane < n && index[i + lane] == mine);
        for (; found; found &= found - 1) {
            if (j >= c)
                continue;
            const float4 add = load4(dy + (i + __ffs(int(found)) - 1) * c, j, c, wide);
            sum = make_float4(sum.x + add.x, sum.y + add.y, sum.z + add.z, sum.w + add.w);
        }
    }
    if (j < c)
        store4(row, sum, j, c, wide);
}

extern "C" plumb_status plumb_cuda_gather_bwd(plumb_stream *s, float *dx, const float *dy,
                                              const int32_t *index, int64_t n, int64_t c, int64_t m)
{
    (void)m;
    if (n == 0 || c == 0)
        return PLUMB_OK;
    const int64_t slices = ceil_div(c, 4 * WARP), warps = slices < 8 ? slices : 8;
    const bool wide = c % 4 == 0 && aligned16(dx, dy);
    PLUMB_TRY(check_grid("gather_bwd", n, ceil_div(slices, warps)));
    PLUMB_LAUNCH(scatter_kernel, dim3(unsigned(n), unsigned(ceil_div(slices, warps))),
                 unsigned(warps * WARP), 0, context_of(s)->stream, dx, dy, index, n, c, wide);
    return launched("gather_bwd");
}

/* One thread per column: the rows of the segment in order, in double. */
static __global__ void segment_mean_kernel(float *y, const float *x, const int64_t *offset,
                                           int64_t c)
{
    const int64_t i = blockIdx.x, j = int64_t(blockIdx.y) * blockDim.x + threadIdx.x;
    const int64_t begin = offset[i], end = offset[i + 1];
    if (j >= c)
        return;
    double sum = 0.0;
    for (int64_t r = begin; r < end; r++)
        sum += double(x[r * c + j]);
    y[i * c + j] = end > begin ? float(sum / double(end - begin)) : 0.0f;
}

extern "C" plumb_status plumb_cuda_segment_mean_fwd(plumb_stream *s, float *y, const float *x,
                                                    const int64_t *offset, int64_t g, int64_t c)
{
    if (g == 0 || c == 0)
        return PLUMB_OK;
    const int64_t slices = ceil_div(c, THREADS);
    PLUMB_TRY(check_grid("segment_mean_fwd", g, slices));
    PLUMB_LAUNCH(segment_mean_kernel, dim3(unsigned(g), unsigned(slices)), THREADS, 0,
                 context_of(s)->stream, y, x, offset, c);
    return launched("segment_mean_fwd");
}

static __global__ void add_kernel(float *y, const float *a, const float *b, int64_t n, bool wide)
{
    const int64_t j = 4 * (int64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (j >= n)
        return;
    const bool whole = wide && j + 4 <= n;
    const float4 u = load4(a, j, n, whole), v = load4(b, j, n, whole);
    store4(y, make_float4(u.x + v.x, u.y + v.y, u.z + v.z, u.w + v.w), j, n, whole);
}

extern "C" plumb_status plumb_cuda_add_fwd(plumb_stream *s, float *y, const float *a,
                                           const float *b, int64_t n)
{
    const int64_t blocks = ceil_div(n, 4 * THREADS);
    if (n == 0)
        return PLUMB_OK;
    PLUMB_TRY(check_grid("add_fwd", blocks, 1));
    PLUMB_LAUNCH(add_kernel, unsigned(blocks), THREADS, 0, context_of(s)->stream, y, a, b, n,
                 aligned16(y, a, b));
    return launched("add_fwd");
}

extern "C" plumb_status plumb_cuda_accumulate(plumb_stream *s, float *y, const float *x, int64_t n)
{
    return plumb_cuda_add_fwd(s, y, y, x, n);
}

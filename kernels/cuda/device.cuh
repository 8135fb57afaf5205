/* device.cuh - what the kernels are made of: launches, 16-byte accesses, sums in a fixed order.
 * Layer 1, kernels/cuda only. Includes cuda.h. */
#ifndef PLUMB_KERNELS_CUDA_DEVICE_CUH
#define PLUMB_KERNELS_CUDA_DEVICE_CUH

#include <cuda_runtime.h>
#include <math.h>

#include "cuda/cuda.h"

/* kernel<<<...>>>(...), and the block's dynamic shared memory under a name of its own. */
#ifndef PLUMB_LAUNCH
#define PLUMB_LAUNCH(kernel, grid, block, smem, stream, ...)                                       \
    kernel<<<grid, block, smem, stream>>>(__VA_ARGS__)
#endif
#ifndef PLUMB_SHARED
#define PLUMB_SHARED(type, name)                                                                   \
    extern __shared__ __align__(16) unsigned char plumb_shared_bytes[];                            \
    type *name = reinterpret_cast<type *>(plumb_shared_bytes)
#endif
#define DEVICE static __device__ __forceinline__

static constexpr int WARP = 32;
#define ALL_LANES 0xffffffffu

static inline struct plumb_cuda *context_of(plumb_stream *s)
{
    return reinterpret_cast<struct plumb_cuda *>(s);
}

/* The status of the launch just made. */
static inline plumb_status launched(const char *kernel)
{
    return plumb_cuda_check(cudaGetLastError(), kernel);
}

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Both grid dimensions hold what a launch may ask for. */
static inline plumb_status check_grid(const char *kernel, int64_t x, int64_t y)
{
    PLUMB_REQUIRE(x <= 0x7fffffff && y <= 65535, PLUMB_ERR_SHAPE,
                  "%s: %lld x %lld blocks, a grid has at most 2147483647 x 65535", kernel,
                  (long long)x, (long long)y);
    return PLUMB_OK;
}

static inline bool aligned16(const void *a, const void *b = nullptr, const void *c = nullptr,
                             const void *d = nullptr, const void *e = nullptr)
{
    return ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) |
             reinterpret_cast<uintptr_t>(c) | reinterpret_cast<uintptr_t>(d) |
             reinterpret_cast<uintptr_t>(e)) &
            15) == 0;
}

/* Elements j..j+3 of x (n,), j < n; 0 from n on. `wide`: x + j is 16-byte aligned, j + 4 <= n.
 * A caller does the same arithmetic in both cases. */
DEVICE float4 load4(const float *x, int64_t j, int64_t n, bool wide)
{
    if (wide)
        return *reinterpret_cast<const float4 *>(x + j);
    return make_float4(x[j], j + 1 < n ? x[j + 1] : 0.0f, j + 2 < n ? x[j + 2] : 0.0f,
                       j + 3 < n ? x[j + 3] : 0.0f);
}
DEVICE void store4(float *x, float4 v, int64_t j, int64_t n, bool wide)
{
    if (wide) {
        *reinterpret_cast<float4 *>(x + j) = v;
        return;
    }
    x[j] = v.x;
    if (j + 1 < n)
        x[j + 1] = v.y;
    if (j + 2 < n)
        x[j + 2] = v.z;
    if (j + 3 < n)
        x[j + 3] = v.w;
}

/* Over the lanes of a whole warp, as a butterfly: every lane ends with the same bits. */
template <class T> DEVICE T warp_sum(T v)
{
    for (int with = WARP / 2; with > 0; with >>= 1)
        v += __shfl_xor_sync(ALL_LANES, v, with);
    return v;
}
DEVICE float warp_max(float v)
{
    for (int with = WARP / 2; with > 0; with >>= 1)
        v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, with));
    return v;
}

/* Over a block of WARPS warps: within each warp, then over the warps in order. part (WARPS,) is
 * shared; it may be used again at once. */
template <int WARPS, class T> DEVICE T block_sum(T v, T *part)
{
    v = warp_sum(v);
    if (WARPS == 1)
        return v;
    __syncthreads();
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = v;
    __syncthreads();
    T sum = part[0];
    for (int i = 1; i < WARPS; i++)
        sum += part[i];
    return sum;
}

#endif

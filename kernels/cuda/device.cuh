/* device.cuh - helpers of all CUDA kernels: launches, 16-byte accesses, sums in a fixed order.
 * Layer 1, kernels/cuda only. Includes cuda.h. */
#ifndef PLUMB_KERNELS_CUDA_DEVICE_CUH
#define PLUMB_KERNELS_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <string.h>

#include "cuda/cuda.h"

/* PLUMB_LAUNCH launches a kernel; PLUMB_SHARED declares the block's dynamic shared memory under a
 * name. The CUDA emulator of the tests defines its own versions of both. */
#ifndef PLUMB_LAUNCH
#define PLUMB_LAUNCH(kernel, grid, block, smem, stream, ...)                                       \
    kernel<<<grid, block, smem, stream>>>(__VA_ARGS__)
#endif
#ifndef PLUMB_SHARED
#define PLUMB_SHARED(type, name)                                                                   \
    extern __shared__ __align__(16) unsigned char plumb_shared_bytes[];                            \
    type *name = reinterpret_cast<type *>(plumb_shared_bytes)
#endif
/* Launches a kernel. If context->early is true, its blocks may start while the kernel before it in
 * the stream still runs, which hides the launch latency. Each thread of such a kernel must call
 * wait_for_previous() before it accesses device memory, except to read weights
 * (copy16_async_early), which no kernel of a graph writes. Otherwise it may read old values. */
#ifndef PLUMB_LAUNCH_EARLY
#define PLUMB_LAUNCH_EARLY(kernel, grid, block, smem, context, ...)                                \
    launch_early(kernel, grid, block, smem, context, __VA_ARGS__)
#endif
#define DEVICE static __device__ __forceinline__

static constexpr int WARP = 32;
#define ALL_LANES 0xffffffffu

static inline struct plumb_cuda *context_of(plumb_stream *s)
{
    return reinterpret_cast<struct plumb_cuda *>(s);
}

#ifndef PLUMB_CUDA_EMU
template <class... P, class... A>
static void launch_early(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                         const struct plumb_cuda *c, A... argument)
{
#if CUDART_VERSION >= PLUMB_CUDA_EARLY_VERSION
    if (c->early) {
        cudaLaunchAttribute early = {};
        early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        early.val.programmaticStreamSerializationAllowed = 1;
        cudaLaunchConfig_t config = {};
        config.gridDim = grid;
        config.blockDim = block;
        config.dynamicSmemBytes = shared;
        config.stream = c->stream;
        config.attrs = &early;
        config.numAttrs = 1;
        (void)cudaLaunchKernelEx(&config, kernel, static_cast<P>(argument)...); /* see launched() */
        return;
    }
#endif
    kernel<<<grid, block, shared, c->stream>>>(static_cast<P>(argument)...);
}
#endif

/* Allows the next kernel of the stream to start, if it is launched by PLUMB_LAUNCH_EARLY. Then
 * waits until the kernels before this one have ended and their writes are visible; in a kernel that
 * was launched normally, returns immediately. So several kernels may have started, but only one of
 * them has returned from this call. */
DEVICE void wait_for_previous()
{
#if defined(PLUMB_CUDA_EMU)
    emu::wait_for_previous(EMU_SITE);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Returns the error status of the last kernel launch, of the kernel with this name. */
static inline plumb_status launched(const char *kernel)
{
    return plumb_cuda_check(cudaGetLastError(), kernel);
}

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Fails if a grid of x by y blocks exceeds CUDA's limits. */
static inline plumb_status check_grid(const char *kernel, int64_t x, int64_t y)
{
    PLUMB_REQUIRE(x <= 0x7fffffff && y <= 65535, PLUMB_ERR_SHAPE,
                  "%s: needs a grid of %lld x %lld blocks, more than CUDA's 2147483647 x 65535",
                  kernel, (long long)x, (long long)y);
    return PLUMB_OK;
}

/* Raises the limit of a kernel's dynamic shared memory to `bytes` if the default of 48 KiB is too
 * low. */
template <class K> static plumb_status allow_shared(K *kernel, size_t bytes)
{
    if (bytes > 48 * 1024)
        PLUMB_CUDA_TRY(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)));
    return PLUMB_OK;
}

/* Sets the float32 and the bfloat16 entry of a kernel in table t to the two instances of one
 * function template. */
#define BOTH(t, kernel) ((void)((t)->kernel = (kernel)), (void)((t)->bf16.kernel = (kernel)))

static inline bool aligned16(const void *a, const void *b = nullptr, const void *c = nullptr,
                             const void *d = nullptr, const void *e = nullptr)
{
    return ((reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) |
             reinterpret_cast<uintptr_t>(c) | reinterpret_cast<uintptr_t>(d) |
             reinterpret_cast<uintptr_t>(e)) &
            15) == 0;
}

/* ---- elements ------------------------------------------------------------------------- */

DEVICE float widen(float x)
{
    return x;
}
DEVICE float widen(plumb_bf16 x)
{
    return __uint_as_float(uint32_t(x.bits) << 16);
}
/* Stores x in *to; in bfloat16, rounds it to nearest even. */
DEVICE void narrow(float *to, float x)
{
    *to = x;
}
DEVICE void narrow(plumb_bf16 *to, float x)
{
    to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

/* N adjacent elements, converted to float for the arithmetic. */
template <int N> struct vec {
    float v[N];
};

/* PER<A, B> is the number of elements of the smaller of the types A and B that fit in 16 bytes. */
template <class A, class B = A>
static constexpr int PER = 16 / int(sizeof(A) < sizeof(B) ? sizeof(A) : sizeof(B));

/* Unpacks 16 bytes into floats; pack() does the reverse, rounding to nearest even in bfloat16. */
DEVICE vec<4> unpack(float4 q, float)
{
    return vec<4>{{q.x, q.y, q.z, q.w}};
}
DEVICE vec<8> unpack(float4 q, plumb_bf16)
{
    const uint32_t word[4] = {__float_as_uint(q.x), __float_as_uint(q.y), __float_as_uint(q.z),
                              __float_as_uint(q.w)};
    vec<8> r;
    for (int i = 0; i < 4; i++) {
        r.v[2 * i] = __uint_as_float(word[i] << 16);
        r.v[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
    }
    return r;
}
DEVICE float4 pack(const float *v, float)
{
    return make_float4(v[0], v[1], v[2], v[3]);
}
DEVICE float pack2(float low, float high)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    float word;
    memcpy(&word, &pair, sizeof(word));
    return word;
}
DEVICE float4 pack(const float *v, plumb_bf16)
{
    return make_float4(pack2(v[0], v[1]), pack2(v[2], v[3]), pack2(v[4], v[5]), pack2(v[6], v[7]));
}

/* Loads elements j..j+N-1 of x (n,) for j < n; elements from n on become 0. `wide` requires that x
 * + j is 16-byte aligned and j + N <= n. If `wide` is false, the elements are loaded one by one,
 * with the same result. */
template <int N, class T> DEVICE vec<N> load(const T *x, int64_t j, int64_t n, bool wide)
{
    vec<N> r;
#pragma unroll
    for (int i = 0; i < N; i += PER<T>) {
        if (wide) {
            const auto part = unpack(*reinterpret_cast<const float4 *>(x + j + i), T());
            for (int e = 0; e < PER<T>; e++)
                r.v[i + e] = part.v[e];
        } else {
            for (int e = i; e < i + PER<T>; e++)
                r.v[e] = j + e < n ? widen(x[j + e]) : 0.0f;
        }
    }
    return r;
}
template <int N, class T> DEVICE void store(T *x, vec<N> v, int64_t j, int64_t n, bool wide)
{
#pragma unroll
    for (int i = 0; i < N; i += PER<T>) {
        if (wide) {
            *reinterpret_cast<float4 *>(x + j + i) = pack(v.v + i, T());
        } else {
            for (int e = i; e < i + PER<T>; e++)
                if (j + e < n)
                    narrow(x + j + e, v.v[e]);
        }
    }
}

/* ---- sums ------------------------------------------------------------------------------ */

/* Returns the sum of v over the lanes of a warp (a butterfly reduction); every lane gets the same
 * bits. */
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

/* Returns in every thread the sum of v over a block of WARPS warps: first within each warp, then
 * over the warps in order. part (WARPS,) is shared memory. The caller may pass `part` to the next
 * block_sum without a barrier, but must not write to it before a __syncthreads. */
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

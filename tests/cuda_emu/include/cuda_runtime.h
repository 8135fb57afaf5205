/* cuda_runtime.h - the language extensions of CUDA C++ for the host's compiler. The emulator runs
 * each thread as a fiber.
 * Test. Replaces CUDA's header of the same name. */
#ifndef PLUMB_EMU_CUDA_RUNTIME_H
#define PLUMB_EMU_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
/* One object serves all blocks, which run one after another. It is filled with NaN before each
 * block. */
#define __shared__               static __attribute__((section("plumb_shared")))
#define PLUMB_SHARED(type, name) type *name = static_cast<type *>(emu::dynamic_shared())
#define PLUMB_LAUNCH(kernel, grid, block, smem, stream, ...)                                       \
    emu::launch(__FILE__, #kernel, false, kernel, grid, block, smem, stream, __VA_ARGS__)
#define PLUMB_LAUNCH_EARLY(kernel, grid, block, smem, context, ...)                                \
    emu::launch(__FILE__, #kernel, true, kernel, grid, block, smem, (context)->stream, __VA_ARGS__)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w)
{
    return float4{x, y, z, w};
}

namespace emu
{

struct Place {
    dim3 thread;
    int lane; /* index in the warp */
};
extern Place here; /* the thread that runs now */
extern dim3 block, block_size, grid_size;

void *dynamic_shared();
void barrier(const char *site);
/* Must be called by every thread of a kernel that was launched early (before the end of the
 * previous kernel), before it accesses device memory. In the first block of the first launches of
 * each kernel, device memory is protected until all threads have called this. In every block, a
 * thread that ends without the call is a fault. */
void wait_for_previous(const char *site);
bool before_wait(); /* true if the running thread must not access device memory yet */
enum Op { SHUFFLE, BALLOT, SYNC, TOGETHER };
/* A warp operation, which waits for every lane of mask. For SHUFFLE, returns the value of lane
 * `from`. For BALLOT, returns the mask of the lanes whose value is not 0. */
uint64_t warp_op(Op op, const char *site, unsigned mask, uint64_t value, int from);

template <class T> T shuffle(const char *site, unsigned mask, T value, int from)
{
    static_assert(sizeof(T) <= 8, "no shuffle of this type");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(value));
    bits = warp_op(SHUFFLE, site, mask, bits, from);
    memcpy(&value, &bits, sizeof(value));
    return value;
}

struct Launch {
    const char *file, *name;
    /* launched early: its threads must call wait_for_previous() before they access device memory */
    bool early;
    dim3 grid, block;
    size_t shared;
    const void *kernel;
};
/* Checks one argument of a kernel, `bytes` long: no word of it may look like an address outside of
 * device memory. */
void check_argument(const char *kernel, int index, const void *words, size_t bytes);
void count_shared_atomic(const void *at, size_t bytes);
cudaError_t enqueue(const Launch &l, cudaStream_t s, std::function<void()> body,
                    std::function<void()> check);

template <class... P, class... A>
void launch(const char *file, const char *name, bool early, void (*kernel)(P...), dim3 grid,
            dim3 size, size_t shared, cudaStream_t s, A... argument)
{
    auto check = [=] {
        int index = 0;
        auto look = [&](auto value) {
            static_assert(std::is_trivially_copyable_v<decltype(value)>, "kernels take plain data");
            alignas(8) unsigned char words[(sizeof(value) + 7) / 8 * 8] = {0};
            memcpy(words, &value, sizeof(value));
            check_argument(name, index++, words, sizeof(words));
        };
        (look(static_cast<P>(argument)), ...);
    };
    check();
    (void)enqueue(
        {file, name, early, grid, size, shared, reinterpret_cast<const void *>(kernel)}, s,
        [=] { kernel(static_cast<P>(argument)...); }, check);
}

} // namespace emu

#define threadIdx (emu::here.thread)
#define blockIdx  (emu::block)
#define blockDim  (emu::block_size)
#define gridDim   (emu::grid_size)

#define EMU_TEXT(x)                    #x
#define EMU_LINE(x)                    EMU_TEXT(x)
#define EMU_SITE                       __FILE__ ":" EMU_LINE(__LINE__)
#define __syncthreads()                emu::barrier(EMU_SITE)
#define __syncwarp()                   ((void)emu::warp_op(emu::SYNC, EMU_SITE, 0xffffffffu, 0, 0))
#define __shfl_sync(mask, value, from) emu::shuffle(EMU_SITE, mask, value, (from)&31)
#define __shfl_xor_sync(mask, value, with)                                                         \
    emu::shuffle(EMU_SITE, mask, value, emu::here.lane ^ (with))
#define __shfl_up_sync(mask, value, by)                                                            \
    emu::shuffle(EMU_SITE, mask, value,                                                            \
                 emu::here.lane < (int)(by) ? emu::here.lane : emu::here.lane - (int)(by))
#define __ballot_sync(mask, predicate)                                                             \
    ((unsigned)emu::warp_op(emu::BALLOT, EMU_SITE, mask, (predicate) ? 1 : 0, 0))
#define __any_sync(mask, predicate) (__ballot_sync(mask, predicate) != 0)

static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}
static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
static inline unsigned __float_as_uint(float x)
{
    unsigned u;
    memcpy(&u, &x, sizeof(u));
    return u;
}
static inline float __uint_as_float(unsigned u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}
/* This is atomic, because another fiber can run only at a barrier or a warp operation. */
template <class T> static inline T atomicAdd(T *at, T value)
{
    const T before = *at;
    emu::count_shared_atomic(at, sizeof(T));
    *at = before + value;
    return before;
}
template <class T> static inline T atomicMax(T *at, T value)
{
    const T before = *at;
    *at = before > value ? before : value;
    return before;
}
template <class K>
static inline cudaError_t cudaFuncSetAttribute(K *kernel, cudaFuncAttribute what, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), what, value);
}
template <class K>
static inline cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, K *kernel)
{
    return cudaFuncGetAttributes(a, reinterpret_cast<const void *>(kernel));
}

#endif
#endif

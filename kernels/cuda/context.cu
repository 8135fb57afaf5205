/* context.cu - fills the table of the CUDA kernels and translates CUDA's errors.
 * Layer 1 (cuda). Includes device.cuh. */
#include "cuda/device.cuh"

extern "C" plumb_status plumb_cuda_check(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return PLUMB_OK;
    PLUMB_FAIL(e == cudaErrorMemoryAllocation ? PLUMB_ERR_NOMEM : PLUMB_ERR_DEVICE, "%s: %s (%s)",
               what, cudaGetErrorString(e), cudaGetErrorName(e));
}

#if CUDART_VERSION >= PLUMB_CUDA_EARLY_VERSION
/* Does nothing. cudaFuncGetAttributes of this kernel tells for which architectures the build
 * compiles all kernels. */
static __global__ void probe_kernel() {}

extern "C" plumb_status plumb_cuda_can_be_early(bool *can)
{
    int device = 0, driver = 0, major = 0;
    struct cudaFuncAttributes compiled;
    *can = false;
    PLUMB_CUDA_TRY(cudaGetDevice(&device));
    PLUMB_CUDA_TRY(cudaDriverGetVersion(&driver));
    PLUMB_CUDA_TRY(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    PLUMB_CUDA_TRY(cudaFuncGetAttributes(&compiled, probe_kernel));
    *can = major >= 9 && driver >= PLUMB_CUDA_EARLY_VERSION && compiled.ptxVersion >= 90;
    return PLUMB_OK;
}
#else
extern "C" plumb_status plumb_cuda_can_be_early(bool *can)
{
    *can = false;
    return PLUMB_OK;
}
#endif

/* The names of the .cu files whose kernels are added to the table of kernels. */
#define CUDA_FILES(X)                                                                              \
    X(act)                                                                                         \
    X(attention)                                                                                   \
    X(attention_bf16)                                                                              \
    X(attention_bf16_bwd)                                                                          \
    X(attention_bwd)                                                                               \
    X(elementwise)                                                                                 \
    X(fused)                                                                                       \
    X(hash)                                                                                        \
    X(layernorm)                                                                                   \
    X(linear)                                                                                      \
    X(normal)                                                                                      \
    X(rmsnorm)                                                                                     \
    X(rows)                                                                                        \
    X(sample)                                                                                      \
    X(vocab)
#define X(file) void plumb_cuda_init_##file(struct plumb_kernels *t);
CUDA_FILES(X)
#undef X

extern "C" void plumb_kernels_init_cuda(struct plumb_kernels *t)
{
    *t = plumb_kernels();
    plumb_kernels_init_cuda_sizes(t);
#define X(file) plumb_cuda_init_##file(t);
    CUDA_FILES(X)
#undef X
}

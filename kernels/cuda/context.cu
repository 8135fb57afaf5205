/* context.cu - the table of the CUDA kernels, and CUDA's errors in our words.
 * Layer 1 (cuda). Includes cuda.h. */
#include "cuda/cuda.h"

extern "C" plumb_status plumb_cuda_check(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return PLUMB_OK;
    PLUMB_FAIL(e == cudaErrorMemoryAllocation ? PLUMB_ERR_NOMEM : PLUMB_ERR_DEVICE, "%s: %s (%s)",
               what, cudaGetErrorString(e), cudaGetErrorName(e));
}

extern "C" void plumb_kernels_init_cuda(struct plumb_kernels *t)
{
    *t = plumb_kernels();
#define X(k) t->k = plumb_cuda_##k;
    PLUMB_KERNEL_LIST(X)
#undef X
}

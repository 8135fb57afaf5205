/* vocab.cuh - the log-sum-exp of a row of logits, one definition for all that report a log-prob.
 * Layer 1, kernels/cuda only. Includes device.cuh. */
#ifndef PLUMB_KERNELS_CUDA_VOCAB_CUH
#define PLUMB_KERNELS_CUDA_VOCAB_CUH

#include "cuda/device.cuh"

/* A row of logits belongs to a block of this many warps. Which, and so the order of its sum,
 * depends on v alone. */
static constexpr int MOST_WARPS = 16, FEW_WARPS = 4, SHORT_ROW = 2048;
#define VOCAB_LAUNCH(kernel, n, v, s, ...)                                                         \
    do {                                                                                           \
        if ((v) <= SHORT_ROW)                                                                      \
            PLUMB_LAUNCH(kernel<FEW_WARPS>, unsigned(n), FEW_WARPS *WARP, 0,                       \
                         context_of(s)->stream, __VA_ARGS__);                                      \
        else                                                                                       \
            PLUMB_LAUNCH(kernel<MOST_WARPS>, unsigned(n), MOST_WARPS *WARP, 0,                     \
                         context_of(s)->stream, __VA_ARGS__);                                      \
    } while (0)

/* A maximum and the sum of exp(z - it). */
struct mass {
    float max, sum;
};
/* The order of the arguments changes no bit: max and + are symmetric. */
DEVICE mass join(mass a, mass b)
{
    const float max = fmaxf(a.max, b.max);
    if (max == -INFINITY)
        return mass{max, 0.0f};
    return mass{max, a.sum * expf(a.max - max) + b.sum * expf(b.max - max)};
}

/* log sum_j exp z_j of z (v,), nats, by a block of W warps; the same in every thread. One reading:
 * a thread keeps the maximum of its elements and rescales its sum when it grows. part (W,) is
 * shared. */
template <int W> DEVICE double block_lse(const float *z, int64_t v, mass *part)
{
    mass own = {-INFINITY, 0.0f};
    for (int64_t j = threadIdx.x; j < v; j += W * WARP) {
        if (z[j] > own.max) {
            own.sum = own.sum * expf(own.max - z[j]) + 1.0f;
            own.max = z[j];
        } else if (z[j] != -INFINITY) { /* NaN comes here, and stays */
            own.sum += expf(z[j] - own.max);
        }
    }
    for (int with = WARP / 2; with > 0; with >>= 1) {
        const mass other = {__shfl_xor_sync(ALL_LANES, own.max, with),
                            __shfl_xor_sync(ALL_LANES, own.sum, with)};
        own = join(own, other);
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0)
        part[threadIdx.x / WARP] = own;
    __syncthreads();
    mass all = part[0];
    for (int i = 1; i < W; i++)
        all = join(all, part[i]);
    return double(all.max) + log(double(all.sum));
}

#endif

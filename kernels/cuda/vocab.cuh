/* vocab.cuh - the log-sum-exp of a row of logits, shared by all kernels that report a log-prob.
 * Layer 1, kernels/cuda only. Includes device.cuh. */
#ifndef PLUMB_KERNELS_CUDA_VOCAB_CUH
#define PLUMB_KERNELS_CUDA_VOCAB_CUH

#include "cuda/device.cuh"

/* The number of warps of a block, which processes one row of logits: FEW_WARPS if v <= SHORT_ROW,
 * else MOST_WARPS. It depends only on v, and so does the order of the row's sum. */
static constexpr int MOST_WARPS = 16, FEW_WARPS = 4, SHORT_ROW = 2048;
#define VOCAB_LAUNCH_BY(launch, in, kernel, n, v, ...)                                             \
    do {                                                                                           \
        if ((v) <= SHORT_ROW)                                                                      \
            launch(kernel<FEW_WARPS>, unsigned(n), FEW_WARPS *WARP, 0, in, __VA_ARGS__);           \
        else                                                                                       \
            launch(kernel<MOST_WARPS>, unsigned(n), MOST_WARPS *WARP, 0, in, __VA_ARGS__);         \
    } while (0)
#define VOCAB_LAUNCH(kernel, n, v, s, ...)                                                         \
    VOCAB_LAUNCH_BY(PLUMB_LAUNCH, context_of(s)->stream, kernel, n, v, __VA_ARGS__)
#define VOCAB_LAUNCH_EARLY(kernel, n, v, s, ...)                                                   \
    VOCAB_LAUNCH_BY(PLUMB_LAUNCH_EARLY, context_of(s), kernel, n, v, __VA_ARGS__)

/* The maximum of some logits z, and the sum of exp(z - max). */
struct mass {
    float max, sum;
};
/* Combines two partial sums. Swapping a and b gives the same bits. */
DEVICE mass join(mass a, mass b)
{
    const float max = fmaxf(a.max, b.max);
    if (max == -INFINITY)
        return mass{max, 0.0f};
    return mass{max, a.sum * expf(a.max - max) + b.sum * expf(b.max - max)};
}

/* Returns log sum_j exp z_j of z (v,), in nats, in every thread of a block of W warps. The logits
 * are read once: each thread keeps the maximum of its elements and rescales its sum when the
 * maximum grows. part (W,) is shared memory. */
template <int W> DEVICE double block_lse(const float *z, int64_t v, mass *part)
{
    mass own = {-INFINITY, 0.0f};
    for (int64_t j = threadIdx.x; j < v; j += W * WARP) {
        if (z[j] > own.max) {
            own.sum = own.sum * expf(own.max - z[j]) + 1.0f;
            own.max = z[j];
        } else if (z[j] != -INFINITY) { /* a NaN takes this branch and makes the sum NaN */
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

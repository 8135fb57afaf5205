/* gemm_data.cuh - random operands for products, and the comparison of their results.
 * Layer 1, for gemm_class.cu. Includes gemm.cuh. */
#ifndef PLUMB_KERNELS_CUDA_GEMM_DATA_CUH
#define PLUMB_KERNELS_CUDA_GEMM_DATA_CUH

#include "cuda/gemm.cuh"

/* Describes an array (rows,columns) of random data. */
struct pattern {
    int64_t rows, columns;
    int fold_rows, fold_columns; /* the second half of the rows or columns repeats the first one */
    /* in odd rows, the elements of the second half have the opposite sign */
    int cancel;
    float scale;
    int64_t seed;
};

/* Sets x[i] to a number in (-scale, scale) that depends only on i and the pattern. If x has
 * fold_columns and `cancel`, and the second half of the other operand repeats its first half along
 * the summed dimension, the exact sums of odd rows are 0. The results of these rows then consist
 * only of rounding errors, so another order of additions changes them even in bfloat16. */
template <class T> static __global__ void fill_kernel(T *x, pattern p)
{
    const int64_t n = p.rows * p.columns, half = p.columns / 2 > 0 ? p.columns / 2 : 1;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
         i += int64_t(gridDim.x) * blockDim.x) {
        const int64_t row = i / p.columns, column = i % p.columns;
        const int64_t r = p.fold_rows && p.rows > 1 ? row % (p.rows / 2) : row;
        const int64_t key = r * p.columns + (p.fold_columns ? column % half : column);
        uint32_t h = uint32_t(key) * 2654435761u + uint32_t(key >> 32) + uint32_t(p.seed);
        h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
        h = (h ^ (h >> 13)) * 0xC2B2AE35u;
        h ^= h >> 16;
        const float v = (float(h >> 8) + 0.5f) * (2.0f / 16777216.0f) - 1.0f;
        const bool minus = p.cancel && row % 2 == 1 && column / half % 2 == 1;
        narrow(x + i, minus ? -p.scale * v : p.scale * v);
    }
}

static constexpr int DATA_THREADS = 64, DATA_EACH = 64; /* DATA_EACH: elements of a thread */

static inline int64_t blocks_for(int64_t n)
{
    const int64_t blocks = ceil_div(n, DATA_THREADS * DATA_EACH);
    return blocks < 4096 ? blocks : 4096;
}

static inline plumb_status gemm_fill(const struct plumb_cuda *c, void *x, cudaDataType_t type,
                                     pattern p)
{
    const int64_t blocks = blocks_for(p.rows * p.columns);
    if (type == CUDA_R_16BF)
        PLUMB_LAUNCH(fill_kernel<plumb_bf16>, unsigned(blocks), DATA_THREADS, 0, c->stream,
                     static_cast<plumb_bf16 *>(x), p);
    else
        PLUMB_LAUNCH(fill_kernel<float>, unsigned(blocks), DATA_THREADS, 0, c->stream,
                     static_cast<float *>(x), p);
    return launched("random data");
}

/* Sets *differs to 1 if the n 16-bit words of a and b are not equal. */
static __global__ void differ_kernel(unsigned *differs, const uint16_t *a, const uint16_t *b,
                                     int64_t n)
{
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
         i += int64_t(gridDim.x) * blockDim.x)
        if (a[i] != b[i])
            *differs = 1;
}

static inline plumb_status gemm_compare(const struct plumb_cuda *c, unsigned *differs,
                                        const void *a, const void *b, int64_t bytes)
{
    const int64_t n = bytes / 2;
    PLUMB_LAUNCH(differ_kernel, unsigned(blocks_for(n)), DATA_THREADS, 0, c->stream, differs,
                 static_cast<const uint16_t *>(a), static_cast<const uint16_t *>(b), n);
    return launched("comparison of results");
}

#endif

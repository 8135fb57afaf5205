/* bench_cuda.h - measures the bandwidth and the matrix-product rate of a GPU directly through CUDA
 * and cuBLASLt.
 * Benchmarks only, in builds with CUDA. Includes bench_device.h. */
#ifndef PLUMB_BENCHMARKS_BENCH_CUDA_H
#define PLUMB_BENCHMARKS_BENCH_CUDA_H

#include "bench_device.h"

/* Creates the backend of the first GPU in d->b, and sets the functions of d that measure.
 * d->copy_bytes and d->matrix must be set before. */
void bench_cuda_init(struct bench_device *d);

/* The fastest of the algorithms that cuBLASLt proposes for one product. */
struct bench_gemm {
    double seconds; /* median of 5 measurements */
    int candidates; /* number of candidates that were timed */
};
/* Times y (n,out) = x (n,in) w (out,in)^T on random data. x and w have the type dtype, the result
 * has the type y. The algorithm may use a workspace and split-K, as in a library that need not
 * compute a row with the same bits in every batch. float32 products do not use TF32. */
plumb_status bench_cuda_best_gemm(struct plumb_backend *b, enum plumb_dtype dtype,
                                  enum plumb_dtype y, int64_t n, int64_t out, int64_t in,
                                  struct bench_gemm *best);

/* Fills device data (n,) with numbers in (-1, 1). None of them is 0, because zeros would make
 * products faster. */
plumb_status bench_cuda_fill(struct plumb_backend *b, void *data, enum plumb_dtype dtype,
                             int64_t n);

#endif

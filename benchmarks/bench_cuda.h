/* bench_cuda.h - what a GPU can do at most, measured through CUDA itself.
 * Benchmarks only, in builds with CUDA. Includes bench_device.h. */
#ifndef PLUMB_BENCHMARKS_BENCH_CUDA_H
#define PLUMB_BENCHMARKS_BENCH_CUDA_H

#include "bench_device.h"

/* Fills in backend and ceilings of the first GPU; copy_bytes and matrix are set. */
void bench_cuda_init(struct bench_device *d);

/* The fastest of cuBLASLt's candidates for one product. */
struct bench_gemm {
    double seconds; /* median of 5 */
    int candidates; /* that were timed */
};
/* y (n,out) = x (n,in) w (out,in)^T on random data, x and w of one type, y of another, with work
 * space and split-K allowed: what a library that need not be row-invariant would take. float32 is
 * not TF32. */
plumb_status bench_cuda_best_gemm(struct plumb_backend *b, enum plumb_dtype dtype,
                                  enum plumb_dtype y, int64_t n, int64_t out, int64_t in,
                                  struct bench_gemm *best);

/* data (n,) of the device = numbers in (-1, 1), no zeros: with those products run faster. */
plumb_status bench_cuda_fill(struct plumb_backend *b, void *data, enum plumb_dtype dtype,
                             int64_t n);

#endif

/* cuda.h - the context of the CUDA kernels: stream, cuBLASLt handle and GEMM algorithm cache.
 * Layer 1, C and C++. Includes base/ and the CUDA runtime's C headers. */
#ifndef PLUMB_KERNELS_CUDA_CUDA_H
#define PLUMB_KERNELS_CUDA_CUDA_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An entry of the GEMM algorithm cache: the cuBLASLt algorithm for one kind of product, element
 * types and layer size (out,in). The number of rows is not part of the key, so every number of rows
 * uses the same algorithm. */
struct plumb_cuda_gemm_entry {
    int product;
    cudaDataType_t read, written;
    int64_t out, in;
    cublasLtMatmulAlgo_t algo;
};

/* The object that a plumb_stream points to in the CUDA table. Only one thread may use it at a
 * time. */
struct plumb_cuda {
    cudaStream_t stream;
    cublasLtHandle_t blas;
    struct plumb_cuda_gemm_entry *cached; /* entries of the GEMM algorithm cache */
    int n_cached, cap_cached;
    /* (chunk_floats,) device memory for the partial results of long rows that decoding divides into
     * chunks */
    float *chunk;
    int64_t chunk_floats;
};

struct plumb_buf;
/* Times the algorithms for all products of a (out,in) layer, in float32 or in bfloat16, and adds
 * the best ones to the cache; cached products are skipped. The candidates are the row-invariant
 * algorithms, in the heuristic's order. The first one that takes at most 1.1 times as long as the
 * fastest algorithm without that restriction is taken, else the fastest candidate. Allocates device
 * memory during the call. */
plumb_status plumb_cuda_gemm_cache_tune(struct plumb_cuda *c, bool bf16, int64_t out, int64_t in);
/* Appends all entries of the GEMM algorithm cache to `out`, as text. */
plumb_status plumb_cuda_gemm_cache_write(struct plumb_buf *out, const struct plumb_cuda *c);
/* Adds the entries of a text written by plumb_cuda_gemm_cache_write to the cache; existing entries
 * stay. Errors: PLUMB_ERR_FORMAT if the text is damaged; PLUMB_ERR_UNSUPPORTED if it was written
 * for another kind of device or another version of cuBLASLt. */
plumb_status plumb_cuda_gemm_cache_read(struct plumb_cuda *c, const char *text);

/* Converts the result of a CUDA runtime call into a status. On failure the status is
 * PLUMB_ERR_NOMEM or PLUMB_ERR_DEVICE, and the message holds `what` and CUDA's own text. */
plumb_status plumb_cuda_check(cudaError_t e, const char *what);

#define PLUMB_CUDA_TRY(call) PLUMB_TRY(plumb_cuda_check((call), #call))

#ifdef __cplusplus
}
#endif
#endif

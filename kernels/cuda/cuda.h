/* cuda.h - what the CUDA kernels run on: a stream, a cuBLASLt handle and its pinned algorithms.
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

/* Which product of which elements, and the two sizes that a row's result depends on. */
struct plumb_cuda_pin {
    int product;
    cudaDataType_t read, written;
    int64_t out, in;
    cublasLtMatmulAlgo_t algo;
};

/* What a plumb_stream points to in the CUDA table. One thread uses it at a time. */
struct plumb_cuda {
    cudaStream_t stream;
    cublasLtHandle_t blas;
    struct plumb_cuda_pin *pin; /* of every linear layer seen so far */
    int n_pin, most_pins;
    float *chunk; /* (chunk_floats,) device: where the chunks of long rows meet when decoding */
    int64_t chunk_floats;
};

struct plumb_buf;
/* Measures what the algorithms of the products of a (out,in) layer cost, in float32 or bfloat16,
 * and chooses those that have none yet: the first that keeps a row's result whatever the number of
 * rows and takes at most 1.1 times as long as the best that need not. Takes memory of the device
 * for the time being. */
plumb_status plumb_cuda_pins_tune(struct plumb_cuda *c, bool bf16, int64_t out, int64_t in);
/* out += the choices so far, as text. */
plumb_status plumb_cuda_pins_write(struct plumb_buf *out, const struct plumb_cuda *c);
/* Takes over the choices of such a text, where there is none yet. PLUMB_ERR_FORMAT: damaged;
 * PLUMB_ERR_UNSUPPORTED: of another kind of device, or another version of cuBLASLt. */
plumb_status plumb_cuda_pins_read(struct plumb_cuda *c, const char *text);

/* The status of a call of the runtime: PLUMB_ERR_NOMEM or PLUMB_ERR_DEVICE, with what was called
 * and CUDA's own words. */
plumb_status plumb_cuda_check(cudaError_t e, const char *what);

#define PLUMB_CUDA_TRY(call) PLUMB_TRY(plumb_cuda_check((call), #call))

#ifdef __cplusplus
}
#endif
#endif

/* cuda.h - the context of the CUDA kernels (stream, cuBLASLt handle, GEMM algorithm cache, scratch
 * memory) and the functions of the GEMM algorithm cache.
 * Layer 1, C and C++. Includes kernels.h, gemm_use.h and the C headers of CUDA and cuBLASLt. */
#ifndef PLUMB_KERNELS_CUDA_CUDA_H
#define PLUMB_KERNELS_CUDA_CUDA_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "gemm_use.h"
#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The number of ranges into which the number of rows is divided (GEMM_ROWS in gemm.cuh), and the
 * value of plumb_cuda_gemm_entry.bits that stands for plumb's own kernel. */
enum { PLUMB_CUDA_GEMM_BUCKETS = 6, PLUMB_CUDA_GEMM_OWN = 1 };

/* An entry of the GEMM algorithm cache: the algorithms for one kind of product, element types and
 * layer size (out,in), one for each range of the number of rows. All of them belong to one class:
 * they gave the same bits for all tested numbers of rows and places of a row (gemm_class.cu). */
struct plumb_cuda_gemm_entry {
    int product;
    cudaDataType_t read, written;
    int64_t out, in;
    /* identifies the class: a hash of the results on fixed random data; PLUMB_CUDA_GEMM_OWN for
     * plumb's own kernel; 0 if the entry was not measured */
    uint64_t bits;
    bool own; /* true if plumb's own kernel computes the product; algo is then not used */
    cublasLtMatmulAlgo_t algo[PLUMB_CUDA_GEMM_BUCKETS];
};

/* The object that a plumb_stream points to in the CUDA table. Only one thread may use it at a
 * time. */
struct plumb_cuda {
    cudaStream_t stream;
    cublasLtHandle_t blas;
    struct plumb_cuda_gemm_entry *cached; /* entries of the GEMM algorithm cache */
    int n_cached, cap_cached;
    const char *wanted; /* the text that plumb_cuda_gemm_want has set; NULL for none */
    /* (chunk_floats,) device memory for partial results, which a kernel writes and the next one of
     * the stream reads: of attention over long sequences in decoding (attention_bf16_decode.cu), of
     * slices of the rows in rmsnorm_bwd, and the numbers that the host must compute again in
     * `normal` (normal.cu) */
    float *chunk;
    int64_t chunk_floats;
    /* Set only in the context of the second stream, which copies host memory to the device.
     * before_fetch is recorded on the main stream, and a copy waits for it; after_fetch is recorded
     * after a copy. */
    cudaEvent_t before_fetch, after_fetch;
    /* early: true if PLUMB_LAUNCH_EARLY (device.cuh) lets a kernel start before the kernel before
     * it has ended. The backend sets it only while it records a graph, and only if can_be_early is
     * true. No kernel of a graph writes weights, so its kernels may read weights before the
     * previous kernel has ended. */
    bool early, can_be_early;
};

/* First version of CUDA in which a recorded graph keeps the dependencies of kernels that may start
 * early. */
#define PLUMB_CUDA_EARLY_VERSION 12030
/* Sets *can to true if kernels can start early: the current device has compute capability 9.0 or
 * higher, the driver is recent enough, and the kernels were compiled for 9.0 or higher, because
 * otherwise wait_for_previous() would not wait. */
plumb_status plumb_cuda_can_be_early(bool *can);

struct plumb_buf;
/* Measures the algorithms for the given products (enum plumb_gemm_use) of a (out,in) layer, in
 * float32 or in bfloat16, and adds an entry for each to the cache. Candidates whose results are
 * equal bit for bit, for several numbers of rows at several places, form a class (gemm_class.cu).
 * The entry has the fastest members of one class, or stands for plumb's own kernel if no class has
 * a member for every range of the number of rows. With PLUMB_GEMM_UNMEASURED nothing is measured,
 * and plumb_cuda_gemm_algo (gemm.cuh) adds the entry. No entry is added if out <= FEW_OUTPUTS
 * (gemm.cuh), and none (with a warning) if the GPU has too little free memory. A product that has
 * an entry is skipped, unless c->wanted names another class for it. Allocates device memory during
 * the call. */
plumb_status plumb_cuda_gemm_cache_tune(struct plumb_cuda *c, bool bf16, int64_t out, int64_t in,
                                        unsigned uses);
/* Appends a line for each entry whose class is known (bits != 0): product, element types, size and
 * class. If another process passes this text to plumb_cuda_gemm_want, plumb_cuda_gemm_cache_tune
 * selects the same classes in that process, if it finds them. */
plumb_status plumb_cuda_gemm_classes(struct plumb_buf *out, const struct plumb_cuda *c);
/* Sets the classes (sets of GEMM algorithms whose results are equal bit for bit) that
 * plumb_cuda_gemm_cache_tune selects if it finds them; NULL for none. `text` (from
 * plumb_cuda_gemm_classes) is borrowed. */
void plumb_cuda_gemm_want(struct plumb_cuda *c, const char *text);
/* Sets *algo to a constant that stands for plumb's own kernel for few rows (gemm_skinny.cu) in
 * entries of the cache. plumb_cuda_gemm_cache_tune selects this kernel for a range of the number of
 * rows if it gives the bits of the class and is the fastest. */
void plumb_cuda_gemm_skinny_algo(cublasLtMatmulAlgo_t *algo);
/* Runs every algorithm of the cache once, so that cuBLASLt loads its kernels now and not after the
 * free memory was measured. Allocates device memory during the call. */
plumb_status plumb_cuda_gemm_warm(struct plumb_cuda *c);
/* Appends all entries of the GEMM algorithm cache to `out`, as text. */
plumb_status plumb_cuda_gemm_cache_write(struct plumb_buf *out, const struct plumb_cuda *c);
/* Adds the entries of a text written by plumb_cuda_gemm_cache_write to the cache, in place of
 * existing entries for the same products. Errors: PLUMB_ERR_FORMAT if the text is damaged;
 * PLUMB_ERR_UNSUPPORTED if it was written for another kind of device or by another version of
 * cuBLASLt or plumb. An entry whose algorithms this cuBLASLt does not support is skipped. */
plumb_status plumb_cuda_gemm_cache_read(struct plumb_cuda *c, const char *text);

/* Converts the result of a CUDA runtime call into a status. On failure the status is
 * PLUMB_ERR_NOMEM or PLUMB_ERR_DEVICE, and the message holds `what` and CUDA's own text. */
plumb_status plumb_cuda_check(cudaError_t e, const char *what);

#define PLUMB_CUDA_TRY(call) PLUMB_TRY(plumb_cuda_check((call), #call))

#ifdef __cplusplus
}
#endif
#endif

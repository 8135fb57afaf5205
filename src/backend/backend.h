/* backend.h - a device: its memory, its streams and its kernel table.
 * Layer 2. Includes base/, memory.h, kernels.h and gemm_use.h. */
#ifndef PLUMB_BACKEND_BACKEND_H
#define PLUMB_BACKEND_BACKEND_H

#include <stdint.h>

#include "backend/memory.h"
#include "base/buf.h"
#include "base/status.h"
#include "base/tensor.h"
#include "gemm_use.h"
#include "kernels.h"

/* PLUMB_CUDA_PAGE: the alignment, in bytes, of large allocations on a GPU. PLUMB_CUDA_MARGIN: the
 * device memory, in bytes, that a plan leaves free on a GPU for what CUDA allocates itself. The
 * largest part of it are the stacks of the kernels: with 768 bytes for each of the 270 thousand
 * threads that an H200 runs at the same time, they take 208 MB. tests/cuda_emu/nvcc.sh checks that
 * no kernel's stack exceeds 768 bytes. The code of plumb's kernels takes less than 16 MB, a graph a
 * few MB. */
enum { PLUMB_CUDA_PAGE = 256, PLUMB_CUDA_MARGIN = 512 << 20 };

/* An element of a backend's dtype, float32 or bfloat16. The type is incomplete, so that only
 * kernels can read it. */
typedef struct plumb_real plumb_real;
typedef struct plumb_graph plumb_graph; /* a recorded sequence of kernels (a CUDA graph) */

struct plumb_backend {
    const char *name; /* name for messages: "cpu", "ref", "cuda" or "cuda bfloat16" */
    char device[192]; /* description of the GPU; "" for CPU backends */
    /* identifies the GPU on its host: UUID and PCI address as nvidia-smi prints them; "" for CPU
     * backends. Ranks with equal strings share one GPU, even if each process numbers its GPUs
     * differently. */
    char gpu[96];
    enum plumb_place place; /* kind of memory that the kernels access: host or device */
    int threads;
    /* dtype of activations, KV pages and packed weights: float32 or bfloat16 */
    enum plumb_dtype dtype;
    struct plumb_kernels k;
    plumb_stream *stream;
    void *native; /* the stream's cudaStream_t; NULL on the CPU */
    /* a second stream, for gradient exchange during the backward; NULL on the CPU */
    plumb_stream *side;
    void *native_side;
    struct plumb_memory memory; /* table of the allocated device memory, by owner and phase */
    /* device memory in bytes that a plan leaves free for what the driver and its libraries allocate
     * after the plan was made: kernels that are loaded at their first launch, stacks of kernels,
     * graphs. 0 on the CPU */
    int64_t margin;
    int64_t page; /* allocations of at least this size start at a multiple of it */
    bool dry; /* true: memory is only counted; alloc and alloc_host return NULL, and kernels cannot
                run */
    /* alloc sets *out to device memory that is 256-byte aligned and recorded in `memory`. The
     * copies to_device and to_host are synchronous. zero is asynchronous: it is ordered before
     * later kernels on the stream and before sync. */
    plumb_status (*alloc)(struct plumb_backend *b, void **out, int64_t bytes, const char *what);
    void (*release)(struct plumb_backend *b, void *data);
    /* Allocates host memory for fast copies to and from the device: page-locked memory on CUDA,
     * ordinary memory on the CPU. */
    plumb_status (*alloc_host)(struct plumb_backend *b, void **out, int64_t bytes,
                               const char *what);
    void (*release_host)(struct plumb_backend *b, void *data);
    plumb_status (*zero)(struct plumb_backend *b, void *data, int64_t bytes);
    plumb_status (*to_device)(struct plumb_backend *b, void *device, const void *host,
                              int64_t bytes);
    plumb_status (*to_host)(struct plumb_backend *b, void *host, const void *device, int64_t bytes);
    plumb_status (*sync)(struct plumb_backend *b);
    /* take and give allocate and free device memory without recording it in `memory`. available
     * sets *bytes to the bytes that can be allocated now; INT64_MAX on a dry backend without a
     * device to ask. */
    plumb_status (*take)(struct plumb_backend *b, void **out, int64_t bytes, const char *what);
    void (*give)(struct plumb_backend *b, void *data);
    plumb_status (*available)(struct plumb_backend *b, int64_t *bytes);
    /* send copies host memory to the device, receive copies device memory to the host. Both are
     * asynchronous, in the order of the stream. The host memory must come from alloc_host, and the
     * caller must not touch it until sync. */
    plumb_status (*send)(struct plumb_backend *b, void *device, const void *host, int64_t bytes);
    plumb_status (*receive)(struct plumb_backend *b, void *host, const void *device, int64_t bytes);
    /* copy copies from device to device, in the order of the stream. fetch copies host memory of
     * alloc_host to the device: it starts after all work enqueued so far, and runs concurrently
     * with work enqueued later. fetched makes all work that is enqueued later wait for the last
     * fetch. */
    plumb_status (*copy)(struct plumb_backend *b, void *to, const void *from, int64_t bytes);
    plumb_status (*fetch)(struct plumb_backend *b, void *device, const void *host, int64_t bytes);
    plumb_status (*fetched)(struct plumb_backend *b);
    /* Record a sequence of kernels, to launch it many times as one graph. The functions are NULL on
     * backends without graphs. Between record_begin and record_end kernels are recorded and do not
     * run, and no other function may be called; the caller must call record_end even if a kernel
     * failed. replay runs the kernels in the order of the stream, with the same addresses and
     * sizes. The caller owns *out. */
    plumb_status (*record_begin)(struct plumb_backend *b);
    plumb_status (*record_end)(struct plumb_backend *b, plumb_graph **out);
    plumb_status (*replay)(struct plumb_backend *b, plumb_graph *g);
    /* frees a recording; g may be NULL */
    void (*graph_destroy)(struct plumb_backend *b, plumb_graph *g);
    /* The cache of GEMM algorithms (kernels/cuda/gemm_cache.cu). An entry has, for one matrix
     * product, one algorithm for each range of the number of rows; all of them give the same bits:
     * they belong to one class. The functions are NULL on backends without such a cache.
     * gemm_cache_tune measures the products `uses` (enum plumb_gemm_use) of a (out,in) layer that
     * have no entry, or whose class differs from that of gemm_want. gemm_cache_write appends the
     * cache to text; gemm_cache_read adds the entries of a text. gemm_classes appends a line for
     * the class of each measured product; gemm_want sets the classes, in such a text, that
     * gemm_cache_tune must select; the text is borrowed. Errors of gemm_cache_read:
     * PLUMB_ERR_FORMAT if the text is damaged; PLUMB_ERR_UNSUPPORTED if it was measured on another
     * device, or with another version of the library or of plumb. */
    plumb_status (*gemm_cache_tune)(struct plumb_backend *b, int64_t out, int64_t in,
                                    unsigned uses);
    plumb_status (*gemm_classes)(struct plumb_backend *b, struct plumb_buf *text);
    void (*gemm_want)(struct plumb_backend *b, const char *text);
    plumb_status (*gemm_cache_write)(struct plumb_backend *b, struct plumb_buf *text);
    plumb_status (*gemm_cache_read)(struct plumb_backend *b, const char *text);
    /* Runs each algorithm of the GEMM cache once, so that the GEMM library allocates its memory
     * now. Call it before `available`. NULL on backends without such a cache. */
    plumb_status (*warm)(struct plumb_backend *b);
    void (*destroy)(struct plumb_backend *b);
};

/* Creates the backend of the CPU kernels. threads >= 1 is the number of worker threads; 0 takes all
 * cores that this process may use, divided by the ranks_here processes of the run that share them.
 * The caller owns *out. */
plumb_status plumb_backend_cpu_create(struct plumb_backend **out, int threads, int ranks_here);
/* Creates a backend with the scalar kernels of ref/, for tests. */
plumb_status plumb_backend_ref_create(struct plumb_backend **out);
/* Sets *bytes to the host memory that a process can take now: MemAvailable of /proc/meminfo, which
 * includes the file cache that the kernel would give up, but at most what the limit of the
 * process's control group leaves. Fails with PLUMB_ERR_DEVICE if MemAvailable cannot be read. */
plumb_status plumb_host_available(int64_t *bytes);
/* Creates the backend of GPU number local_rank modulo the number of GPUs that this process sees. A
 * launcher may make a different GPU visible to each rank, so equal numbers do not mean the same
 * GPU; plumb_exchange_check_gpus checks whether two ranks share one. Exists only if PLUMB_HAVE_CUDA
 * is 1. Fails with PLUMB_ERR_DEVICE if there is no GPU. */
plumb_status plumb_backend_cuda_create(struct plumb_backend **out, int local_rank);
/* Sets *bytes to the free memory of this process's GPU; b is not read. Exists only if
 * PLUMB_HAVE_CUDA is 1. PLUMB_ERR_DEVICE. */
plumb_status plumb_backend_cuda_free(struct plumb_backend *b, int64_t *bytes);
/* Creates a dry CUDA backend for `plumb plan`: it counts memory and needs neither a GPU nor a build
 * with CUDA. available_now becomes the backend's function `available`, for example
 * plumb_backend_cuda_free. */
plumb_status plumb_backend_cuda_plan_create(struct plumb_backend **out,
                                            plumb_status (*available_now)(struct plumb_backend *b,
                                                                          int64_t *bytes));
/* frees a backend and sets *b to NULL; *b may be NULL */
void plumb_backend_destroy(struct plumb_backend **b);

/* Sets the dtype in which b computes. Must be called before anything is allocated on b. Fails with
 * PLUMB_ERR_UNSUPPORTED if b has no kernels for it. */
plumb_status plumb_backend_set_dtype(struct plumb_backend *b, enum plumb_dtype dtype);

/* Creates a backend that only counts the memory that `like` would allocate. It has the name,
 * kernels, place and thread count of `like`, but no memory and no stream. The caller owns *out. */
plumb_status plumb_backend_dry_create(struct plumb_backend **out, const struct plumb_backend *like);

/* plumb_real_at returns the address of element i of x; plumb_real_bytes returns the size of n
 * elements. */
static inline plumb_real *plumb_real_at(const struct plumb_backend *b, const plumb_real *x,
                                        int64_t i)
{
    return (plumb_real *)((uintptr_t)x + (uintptr_t)(i * plumb_dtype_size(b->dtype)));
}
static inline int64_t plumb_real_bytes(const struct plumb_backend *b, int64_t n)
{
    return n * plumb_dtype_size(b->dtype);
}
/* Takes n elements of b's dtype from an arena, like plumb_arena_take. */
plumb_status plumb_backend_take(const struct plumb_backend *b, struct plumb_arena *a,
                                plumb_real **out, int64_t n, const char *name);

/* Allocates the memory of an arena whose size was counted in a dry run: cap becomes the counted
 * size, and used becomes 0. */
plumb_status plumb_backend_arena_alloc(struct plumb_backend *b, struct plumb_arena *a);
void plumb_backend_arena_release(struct plumb_backend *b, struct plumb_arena *a);

#endif

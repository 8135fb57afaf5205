/* backend.h - a device: its memory, its stream, its kernel table.
 * Layer 2. Includes base/ and kernels.h. */
#ifndef PLUMB_BACKEND_BACKEND_H
#define PLUMB_BACKEND_BACKEND_H

#include <stdint.h>

#include "backend/memory.h"
#include "base/buf.h"
#include "base/status.h"
#include "base/tensor.h"
#include "kernels.h"

/* An element of a backend's dtype: pointers to it are never read here. */
typedef struct plumb_real plumb_real;
typedef struct plumb_graph plumb_graph; /* recorded work of a backend */

struct plumb_backend {
    const char *name;       /* "cpu", "ref", "cuda", "cuda bfloat16" */
    char device[192];       /* which GPU, in words; "" for the CPU's backends */
    enum plumb_place place; /* of the memory that its kernels read */
    int threads;
    enum plumb_dtype dtype; /* of activations, KV pages and packed weights: float32 or bfloat16 */
    struct plumb_kernels k;
    plumb_stream *stream;
    void *native;       /* the cudaStream_t of it; NULL where there is none */
    plumb_stream *side; /* a second stream, beside the first; NULL where there is none */
    void *native_side;
    struct plumb_memory memory; /* who has what of the device's */
    int64_t page;               /* pieces of at least so many bytes begin at multiples of it */
    bool dry; /* counts memory and has none: alloc gives NULL, nothing can be computed */
    /* Memory of the device, 256-byte aligned, in the books. The copies are synchronous; zero is
     * done when a kernel after it, or sync, looks. */
    plumb_status (*alloc)(struct plumb_backend *b, void **out, int64_t bytes, const char *what);
    void (*release)(struct plumb_backend *b, void *data);
    /* Host memory that the copies below are fastest with: page-locked where there is a GPU. */
    plumb_status (*alloc_host)(struct plumb_backend *b, void **out, int64_t bytes,
                               const char *what);
    void (*release_host)(struct plumb_backend *b, void *data);
    plumb_status (*zero)(struct plumb_backend *b, void *data, int64_t bytes);
    plumb_status (*to_device)(struct plumb_backend *b, void *device, const void *host,
                              int64_t bytes);
    plumb_status (*to_host)(struct plumb_backend *b, void *host, const void *device, int64_t bytes);
    plumb_status (*sync)(struct plumb_backend *b);
    /* The device's own memory, below the books. available: bytes that can be taken now. */
    plumb_status (*take)(struct plumb_backend *b, void **out, int64_t bytes, const char *what);
    void (*give)(struct plumb_backend *b, void *data);
    plumb_status (*available)(struct plumb_backend *b, int64_t *bytes);
    /* The copies again, in the stream's order: the host memory, from alloc_host, is the stream's
     * until sync. */
    plumb_status (*send)(struct plumb_backend *b, void *device, const void *host, int64_t bytes);
    plumb_status (*receive)(struct plumb_backend *b, void *host, const void *device, int64_t bytes);
    /* Work that is launched again and again as one; all NULL where that gains nothing. From
     * record_begin to record_end kernels are noted and do not run; nothing else may be called, and
     * record_end follows whatever became of them. replay runs them in the stream's order, on the
     * same addresses and sizes. *out is owned by the caller. */
    plumb_status (*record_begin)(struct plumb_backend *b);
    plumb_status (*record_end)(struct plumb_backend *b, plumb_graph **out);
    plumb_status (*replay)(struct plumb_backend *b, plumb_graph *g);
    void (*graph_destroy)(struct plumb_backend *b, plumb_graph *g); /* NULL is allowed */
    /* What the device's library may do in several ways, chosen once and for every number of rows;
     * all NULL where there is nothing to choose. tune measures for a linear layer what has not been
     * chosen; write appends all choices to text, read takes those over that are missing.
     * PLUMB_ERR_FORMAT: damaged; PLUMB_ERR_UNSUPPORTED: of another device or library. */
    plumb_status (*choices_tune)(struct plumb_backend *b, int64_t out, int64_t in);
    plumb_status (*choices_write)(struct plumb_backend *b, struct plumb_buf *text);
    plumb_status (*choices_read)(struct plumb_backend *b, const char *text);
    void (*destroy)(struct plumb_backend *b);
};

/* *out is owned by the caller. threads >= 1; 0 = all cores this process may use, shared with
 * ranks_here processes of the same run on this host. */
plumb_status plumb_backend_cpu_create(struct plumb_backend **out, int threads, int ranks_here);
plumb_status plumb_backend_ref_create(struct plumb_backend **out); /* scalar C; for tests */
/* The GPU of index local_rank, for one of ranks_here ranks of this host; ranks_here 0: the ranks
 * may share GPUs, which are dealt out in turn. In builds with CUDA only: PLUMB_HAVE_CUDA is 1
 * there. PLUMB_ERR_DEVICE when there is no GPU, or fewer than ranks. */
plumb_status plumb_backend_cuda_create(struct plumb_backend **out, int local_rank, int ranks_here);
/* The same for a plan: its sizes, and no memory, no stream; a GPU is needed for `available` only.
 * *out is dry. */
plumb_status plumb_backend_cuda_plan_create(struct plumb_backend **out);
void plumb_backend_destroy(struct plumb_backend **b); /* NULL is allowed */

/* Before anything is made on b. PLUMB_ERR_UNSUPPORTED when b has no kernels for it. */
plumb_status plumb_backend_set_dtype(struct plumb_backend *b, enum plumb_dtype dtype);

/* A backend that counts what `like` would be asked for: its name, kernels, place and threads, no
 * memory, no stream. *out is owned by the caller. */
plumb_status plumb_backend_dry_create(struct plumb_backend **out, const struct plumb_backend *like);

/* Element i of x, and n of them in bytes. */
static inline plumb_real *plumb_real_at(const struct plumb_backend *b, const plumb_real *x,
                                        int64_t i)
{
    return (plumb_real *)((uintptr_t)x + (uintptr_t)(i * plumb_dtype_size(b->dtype)));
}
static inline int64_t plumb_real_bytes(const struct plumb_backend *b, int64_t n)
{
    return n * plumb_dtype_size(b->dtype);
}
/* plumb_arena_take for n elements of b's dtype. */
plumb_status plumb_backend_take(const struct plumb_backend *b, struct plumb_arena *a,
                                plumb_real **out, int64_t n, const char *name);

/* Gives an arena that was counted in a dry run its memory: cap = used so far, used = 0. */
plumb_status plumb_backend_arena_alloc(struct plumb_backend *b, struct plumb_arena *a);
void plumb_backend_arena_release(struct plumb_backend *b, struct plumb_arena *a);

#endif

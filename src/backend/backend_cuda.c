/* backend_cuda.c - the backend of one GPU: memory, two streams, cuBLASLt and the CUDA kernels.
 * Layer 2. Includes backend.h, kernels/cuda/cuda.h. */
#include <stdio.h>
#include <stdlib.h>

#include "backend/backend.h"
#include "backend/topology.h"
#include "cuda/cuda.h"

/* number of floats of the scratch memory plumb_cuda.chunk, in which decoding keeps partial results;
 * one row that attends to 16k keys with 32 heads of size 128 needs 0.14 million */
enum { CHUNK_FLOATS = 2 << 20 };

static struct plumb_cuda *context_of(struct plumb_backend *b)
{
    return (struct plumb_cuda *)(void *)b->stream;
}

/* Returns the context of the second stream, which has no cuBLASLt handle and so runs no GEMM. */
static struct plumb_cuda *side_of(struct plumb_backend *b)
{
    return (struct plumb_cuda *)(void *)b->side;
}

static plumb_status cuda_take(struct plumb_backend *b, void **out, int64_t bytes, const char *what)
{
    (void)b;
    size_t available = 0, total = 0;
    *out = NULL;
    PLUMB_REQUIRE(bytes >= 0, PLUMB_ERR_NOMEM, "%s: a size of %lld bytes, expected at least 0",
                  what ? what : "?", (long long)bytes);
    PLUMB_CUDA_TRY(cudaMemGetInfo(&available, &total));
    if ((uint64_t)bytes <= available && cudaMalloc(out, bytes ? (size_t)bytes : 1) == cudaSuccess)
        return PLUMB_OK;
    /* clears the error, so that the next kernel launch does not report it */
    (void)cudaGetLastError();
    PLUMB_FAIL(PLUMB_ERR_NOMEM,
               "%s: the GPU cannot provide %lld bytes; %zu of its %zu bytes are free",
               what ? what : "?", (long long)bytes, available, total);
}

static void cuda_give(struct plumb_backend *b, void *data)
{
    (void)b;
    (void)cudaFree(data); /* cudaFree waits for the kernels that use the memory */
}

static plumb_status cuda_alloc_host(struct plumb_backend *b, void **out, int64_t bytes,
                                    const char *what)
{
    (void)b;
    *out = NULL;
    PLUMB_REQUIRE(bytes >= 0, PLUMB_ERR_NOMEM, "%s: a size of %lld bytes, expected at least 0",
                  what ? what : "?", (long long)bytes);
    if (cudaMallocHost(out, bytes ? (size_t)bytes : 1) == cudaSuccess)
        return PLUMB_OK;
    /* clears the error, so that the next kernel launch does not report it */
    (void)cudaGetLastError();
    PLUMB_FAIL(PLUMB_ERR_NOMEM, "%s: the host cannot provide %lld page-locked bytes",
               what ? what : "?", (long long)bytes);
}

static void cuda_release_host(struct plumb_backend *b, void *data)
{
    (void)b;
    (void)cudaFreeHost(data);
}

static plumb_status cuda_available(struct plumb_backend *b, int64_t *bytes)
{
    size_t available = 0, total = 0;
    (void)b;
    PLUMB_CUDA_TRY(cudaMemGetInfo(&available, &total));
    *bytes = (int64_t)available;
    return PLUMB_OK;
}

/* Fills memory with zero bytes, in the order of the stream. */
static plumb_status cuda_zero(struct plumb_backend *b, void *data, int64_t bytes)
{
    if (bytes > 0)
        PLUMB_CUDA_TRY(cudaMemsetAsync(data, 0, (size_t)bytes, context_of(b)->stream));
    return PLUMB_OK;
}

static plumb_status cuda_sync(struct plumb_backend *b)
{
    PLUMB_CUDA_TRY(cudaStreamSynchronize(context_of(b)->stream));
    return PLUMB_OK;
}

static plumb_status cuda_send(struct plumb_backend *b, void *device, const void *host,
                              int64_t bytes)
{
    if (bytes > 0)
        PLUMB_CUDA_TRY(cudaMemcpyAsync(device, host, (size_t)bytes, cudaMemcpyHostToDevice,
                                       context_of(b)->stream));
    return PLUMB_OK;
}

static plumb_status cuda_receive(struct plumb_backend *b, void *host, const void *device,
                                 int64_t bytes)
{
    if (bytes > 0)
        PLUMB_CUDA_TRY(cudaMemcpyAsync(host, device, (size_t)bytes, cudaMemcpyDeviceToHost,
                                       context_of(b)->stream));
    return PLUMB_OK;
}

static plumb_status cuda_copy(struct plumb_backend *b, void *to, const void *from, int64_t bytes)
{
    if (bytes > 0)
        PLUMB_CUDA_TRY(cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToDevice,
                                       context_of(b)->stream));
    return PLUMB_OK;
}

static plumb_status cuda_to_device(struct plumb_backend *b, void *device, const void *host,
                                   int64_t bytes)
{
    if (bytes <= 0)
        return PLUMB_OK;
    PLUMB_TRY(cuda_send(b, device, host, bytes));
    return cuda_sync(b);
}

static plumb_status cuda_to_host(struct plumb_backend *b, void *host, const void *device,
                                 int64_t bytes)
{
    if (bytes <= 0)
        return PLUMB_OK;
    PLUMB_TRY(cuda_receive(b, host, device, bytes));
    return cuda_sync(b);
}

static plumb_status cuda_fetch(struct plumb_backend *b, void *device, const void *host,
                               int64_t bytes)
{
    struct plumb_cuda *side = side_of(b);
    PLUMB_CUDA_TRY(cudaEventRecord(side->before_fetch, context_of(b)->stream));
    PLUMB_CUDA_TRY(cudaStreamWaitEvent(side->stream, side->before_fetch, 0));
    if (bytes > 0)
        PLUMB_CUDA_TRY(
            cudaMemcpyAsync(device, host, (size_t)bytes, cudaMemcpyHostToDevice, side->stream));
    PLUMB_CUDA_TRY(cudaEventRecord(side->after_fetch, side->stream));
    return PLUMB_OK;
}

static plumb_status cuda_fetched(struct plumb_backend *b)
{
    PLUMB_CUDA_TRY(cudaStreamWaitEvent(context_of(b)->stream, side_of(b)->after_fetch, 0));
    return PLUMB_OK;
}

/* Begins to record the kernels of the stream in a CUDA graph. The thread-local mode allows other
 * threads (the communicator's) to call CUDA during the recording. Kernels of the graph may start
 * before the kernel before them has ended (PLUMB_LAUNCH_EARLY), if the device supports this. */
static plumb_status cuda_record_begin(struct plumb_backend *b)
{
    struct plumb_cuda *c = context_of(b);
    PLUMB_CUDA_TRY(cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal));
    c->early = c->can_be_early;
    return PLUMB_OK;
}

static plumb_status cuda_record_end(struct plumb_backend *b, plumb_graph **out)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    *out = NULL;
    context_of(b)->early = false;
    PLUMB_CUDA_TRY(cudaStreamEndCapture(context_of(b)->stream, &graph));
    const cudaError_t e = cudaGraphInstantiate(&exec, graph, 0);
    (void)cudaGraphDestroy(graph);
    PLUMB_TRY(plumb_cuda_check(e, "cudaGraphInstantiate"));
    *out = (plumb_graph *)(void *)exec;
    return PLUMB_OK;
}

static plumb_status cuda_replay(struct plumb_backend *b, plumb_graph *g)
{
    PLUMB_CUDA_TRY(cudaGraphLaunch((cudaGraphExec_t)(void *)g, context_of(b)->stream));
    return PLUMB_OK;
}

static void cuda_graph_destroy(struct plumb_backend *b, plumb_graph *g)
{
    (void)b;
    if (g)
        (void)cudaGraphExecDestroy((cudaGraphExec_t)(void *)g);
}

static plumb_status cuda_gemm_cache_tune(struct plumb_backend *b, int64_t out, int64_t in,
                                         unsigned uses)
{
    return plumb_cuda_gemm_cache_tune(context_of(b), b->dtype == PLUMB_BF16, out, in, uses);
}

static plumb_status cuda_gemm_classes(struct plumb_backend *b, struct plumb_buf *text)
{
    return plumb_cuda_gemm_classes(text, context_of(b));
}

static plumb_status cuda_warm(struct plumb_backend *b)
{
    return plumb_cuda_gemm_warm(context_of(b));
}

static void cuda_gemm_want(struct plumb_backend *b, const char *text)
{
    plumb_cuda_gemm_want(context_of(b), text);
}

static plumb_status cuda_gemm_cache_write(struct plumb_backend *b, struct plumb_buf *text)
{
    return plumb_cuda_gemm_cache_write(text, context_of(b));
}

static plumb_status cuda_gemm_cache_read(struct plumb_backend *b, const char *text)
{
    return plumb_cuda_gemm_cache_read(context_of(b), text);
}

static void cuda_destroy(struct plumb_backend *b)
{
    struct plumb_cuda *c = context_of(b);
    (void)cudaFree(c->chunk);
    if (c->blas)
        (void)cublasLtDestroy(c->blas);
    if (c->stream)
        (void)cudaStreamDestroy(c->stream);
    if (side_of(b) && side_of(b)->before_fetch)
        (void)cudaEventDestroy(side_of(b)->before_fetch);
    if (side_of(b) && side_of(b)->after_fetch)
        (void)cudaEventDestroy(side_of(b)->after_fetch);
    if (side_of(b) && side_of(b)->stream)
        (void)cudaStreamDestroy(side_of(b)->stream);
    free(side_of(b));
    free(c->cached);
    free(c);
    free(b);
}

static plumb_status choose_device(int *device, int local_rank)
{
    int n = 0;
    const cudaError_t e = cudaGetDeviceCount(&n);
    PLUMB_REQUIRE(e == cudaSuccess && n > 0, PLUMB_ERR_DEVICE,
                  "device: cuda, but CUDA finds no GPU (it reports: %s); use device: cpu",
                  cudaGetErrorString(e));
    PLUMB_REQUIRE(local_rank >= 0, PLUMB_ERR_ARG, "local rank %d, expected at least 0", local_rank);
    *device = local_rank % n;
    PLUMB_CUDA_TRY(cudaSetDevice(*device));
    return PLUMB_OK;
}

static plumb_status describe(struct plumb_backend *b, int device)
{
    struct cudaDeviceProp p;
    PLUMB_CUDA_TRY(cudaGetDeviceProperties(&p, device));
    snprintf(b->device, sizeof(b->device), "%.120s, sm_%d%d, %.1f GiB", p.name, p.major, p.minor,
             (double)p.totalGlobalMem / (double)(1 << 30));
    const unsigned char *u = (const unsigned char *)p.uuid.bytes;
    snprintf(b->gpu, sizeof(b->gpu),
             "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x, PCI "
             "%04x:%02x:%02x.0",
             u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
             u[14], u[15], (unsigned)p.pciDomainID, (unsigned)p.pciBusID, (unsigned)p.pciDeviceID);
    return PLUMB_OK;
}

plumb_status plumb_topology_gpu(char *out, int size)
{
    int device;
    PLUMB_CUDA_TRY(cudaGetDevice(&device));
    PLUMB_CUDA_TRY(cudaDeviceGetPCIBusId(out, size, device));
    return PLUMB_OK;
}

static plumb_status make_side(struct plumb_backend *b)
{
    struct plumb_cuda *side = calloc(1, sizeof(*side));
    PLUMB_REQUIRE(side, PLUMB_ERR_NOMEM, "the data of the backend cuda");
    b->side = (plumb_stream *)(void *)side;
    PLUMB_CUDA_TRY(cudaStreamCreateWithFlags(&side->stream, cudaStreamNonBlocking));
    PLUMB_CUDA_TRY(cudaEventCreateWithFlags(&side->before_fetch, cudaEventDisableTiming));
    PLUMB_CUDA_TRY(cudaEventCreateWithFlags(&side->after_fetch, cudaEventDisableTiming));
    b->native_side = side->stream;
    return PLUMB_OK;
}

static plumb_status make_context(struct plumb_cuda *c)
{
    PLUMB_TRY(plumb_cuda_can_be_early(&c->can_be_early));
    PLUMB_CUDA_TRY(cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking));
    PLUMB_CUDA_TRY(cudaMalloc((void **)&c->chunk, CHUNK_FLOATS * sizeof(*c->chunk)));
    c->chunk_floats = CHUNK_FLOATS;
    const cublasStatus_t e = cublasLtCreate(&c->blas);
    PLUMB_REQUIRE(e == CUBLAS_STATUS_SUCCESS, PLUMB_ERR_DEVICE, "cublasLtCreate: %s",
                  cublasLtGetStatusString(e));
    return PLUMB_OK;
}

plumb_status plumb_backend_cuda_create(struct plumb_backend **out, int local_rank)
{
    plumb_status st = PLUMB_OK;
    int device = 0;
    *out = NULL;
    PLUMB_TRY(choose_device(&device, local_rank));
    struct plumb_backend *b = calloc(1, sizeof(*b));
    struct plumb_cuda *c = calloc(1, sizeof(*c));
    if (!b || !c)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "the data of the backend cuda");
    *b = (struct plumb_backend){.name = "cuda",
                                .place = PLUMB_DEVICE,
                                .threads = 1,
                                .stream = (plumb_stream *)(void *)c,
                                .margin = PLUMB_CUDA_MARGIN,
                                .page = PLUMB_CUDA_PAGE,
                                .alloc = plumb_memory_alloc,
                                .release = plumb_memory_release,
                                .alloc_host = cuda_alloc_host,
                                .release_host = cuda_release_host,
                                .zero = cuda_zero,
                                .to_device = cuda_to_device,
                                .to_host = cuda_to_host,
                                .copy = cuda_copy,
                                .fetch = cuda_fetch,
                                .fetched = cuda_fetched,
                                .sync = cuda_sync,
                                .take = cuda_take,
                                .give = cuda_give,
                                .available = cuda_available,
                                .gemm_cache_tune = cuda_gemm_cache_tune,
                                .warm = cuda_warm,
                                .gemm_classes = cuda_gemm_classes,
                                .gemm_want = cuda_gemm_want,
                                .gemm_cache_write = cuda_gemm_cache_write,
                                .gemm_cache_read = cuda_gemm_cache_read,
                                .send = cuda_send,
                                .receive = cuda_receive,
                                .record_begin = cuda_record_begin,
                                .record_end = cuda_record_end,
                                .replay = cuda_replay,
                                .graph_destroy = cuda_graph_destroy,
                                .destroy = cuda_destroy};
    plumb_kernels_init_cuda(&b->k);
    st = describe(b, device);
    if (st == PLUMB_OK)
        st = make_context(c);
    b->native = c->stream;
    if (st == PLUMB_OK)
        st = make_side(b);
    if (st != PLUMB_OK) {
        cuda_destroy(b);
        return st;
    }
    *out = b;
    return PLUMB_OK;
fail:
    free(c);
    free(b);
    return st;
}

plumb_status plumb_backend_cuda_free(struct plumb_backend *b, int64_t *bytes)
{
    return cuda_available(b, bytes);
}

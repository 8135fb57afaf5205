/* backend_dry.c - a backend that counts the device memory that another backend would allocate, and
 * allocates none.
 * Layer 2. Includes backend.h, base/. */
#include <stdlib.h>

#include "backend/backend.h"

static plumb_status nothing_to_take(struct plumb_backend *b, void **out, int64_t bytes,
                                    const char *what)
{
    (void)b, (void)bytes, (void)what;
    *out = NULL;
    return PLUMB_OK;
}

static void nothing_to_give(struct plumb_backend *b, void *data)
{
    (void)b, (void)data;
}

/* Counts host memory without allocating it, so that a plan of a large model needs little memory. */
static plumb_status count_host(struct plumb_backend *b, void **out, int64_t bytes, const char *what)
{
    *out = NULL;
    return plumb_memory_beside(b, what, bytes);
}

static plumb_status zero_nothing(struct plumb_backend *b, void *data, int64_t bytes)
{
    (void)b, (void)data, (void)bytes;
    return PLUMB_OK;
}

static plumb_status copy_nothing_in(struct plumb_backend *b, void *device, const void *host,
                                    int64_t bytes)
{
    (void)b, (void)device, (void)host, (void)bytes;
    return PLUMB_OK;
}

static plumb_status copy_nothing_out(struct plumb_backend *b, void *host, const void *device,
                                     int64_t bytes)
{
    (void)b, (void)device, (void)host, (void)bytes;
    return PLUMB_OK;
}

static plumb_status no_wait(struct plumb_backend *b)
{
    (void)b;
    return PLUMB_OK;
}

static plumb_status no_end(struct plumb_backend *b, int64_t *bytes)
{
    (void)b;
    *bytes = INT64_MAX;
    return PLUMB_OK;
}

static void dry_destroy(struct plumb_backend *b)
{
    free(b);
}

plumb_status plumb_backend_dry_create(struct plumb_backend **out, const struct plumb_backend *like)
{
    struct plumb_backend *b = malloc(sizeof(*b));
    *out = NULL;
    PLUMB_REQUIRE(b, PLUMB_ERR_NOMEM, "the data of the dry backend %s", like->name);
    *b = *like; /* copies name, device, place, threads, dtype, kernels, margin and page */
    b->memory = (struct plumb_memory){0};
    b->stream = NULL;
    b->native = NULL;
    b->side = NULL;
    b->native_side = NULL;
    b->dry = true;
    b->alloc = plumb_memory_alloc;
    b->release = plumb_memory_release;
    b->alloc_host = count_host;
    b->release_host = nothing_to_give;
    b->zero = zero_nothing;
    b->to_device = copy_nothing_in;
    b->to_host = copy_nothing_out;
    b->send = copy_nothing_in;
    b->receive = copy_nothing_out;
    b->copy = copy_nothing_in;
    b->fetch = copy_nothing_in;
    b->fetched = no_wait;
    b->record_begin = NULL;
    b->record_end = NULL;
    b->replay = NULL;
    b->graph_destroy = NULL;
    b->sync = no_wait;
    b->gemm_cache_tune = NULL;
    b->gemm_classes = NULL;
    b->gemm_want = NULL;
    b->warm = NULL;
    b->gemm_cache_write = NULL;
    b->gemm_cache_read = NULL;
    b->take = nothing_to_take;
    b->give = nothing_to_give;
    b->available = no_end;
    b->destroy = dry_destroy;
    *out = b;
    return PLUMB_OK;
}

plumb_status plumb_backend_cuda_plan_create(struct plumb_backend **out,
                                            plumb_status (*available_now)(struct plumb_backend *b,
                                                                          int64_t *bytes))
{
    struct plumb_backend like = {.name = "cuda",
                                 .place = PLUMB_DEVICE,
                                 .threads = 1,
                                 .margin = PLUMB_CUDA_MARGIN,
                                 .page = PLUMB_CUDA_PAGE};
    plumb_kernels_init_cuda_sizes(&like.k);
    PLUMB_TRY(plumb_backend_dry_create(out, &like));
    (*out)->available = available_now;
    return PLUMB_OK;
}

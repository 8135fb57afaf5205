/* backend_dry.c - counts the memory that another backend would be asked for, and has none.
 * Layer 2. Includes backend.h. */
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
    PLUMB_REQUIRE(b, PLUMB_ERR_NOMEM, "backend %s", like->name);
    *b = *like; /* name, device, place, threads, kernels, page */
    b->memory = (struct plumb_memory){0};
    b->stream = NULL;
    b->dry = true;
    b->alloc = plumb_memory_alloc;
    b->release = plumb_memory_release;
    b->zero = zero_nothing;
    b->to_device = copy_nothing_in;
    b->to_host = copy_nothing_out;
    b->sync = no_wait;
    b->take = nothing_to_take;
    b->give = nothing_to_give;
    b->available = no_end;
    b->destroy = dry_destroy;
    *out = b;
    return PLUMB_OK;
}

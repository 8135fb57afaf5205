/* exchange.c - the device functions of a communicator, implemented by a backend.
 * Layer 5. Includes train/exchange.h. */
#include "train/exchange.h"

static plumb_status take(void *arg, void **out, int64_t bytes)
{
    struct plumb_backend *b = arg;
    return b->alloc(b, out, bytes, "exchange with other ranks");
}

static void give_back(void *arg, void *device)
{
    struct plumb_backend *b = arg;
    b->release(b, device);
}

static plumb_status take_host(void *arg, void **out, int64_t bytes)
{
    struct plumb_backend *b = arg;
    return b->alloc_host(b, out, bytes, "exchange with other ranks");
}

static void give_back_host(void *arg, void *host)
{
    struct plumb_backend *b = arg;
    b->release_host(b, host);
}

static plumb_status to_host(void *arg, void *host, const void *device, int64_t bytes)
{
    struct plumb_backend *b = arg;
    return b->to_host(b, host, device, bytes);
}

static plumb_status to_device(void *arg, void *device, const void *host, int64_t bytes)
{
    struct plumb_backend *b = arg;
    return b->to_device(b, device, host, bytes);
}

static plumb_status accumulate(void *arg, float *y, const float *x, int64_t n)
{
    struct plumb_backend *b = arg;
    return b->k.accumulate(b->stream, y, x, n);
}

static plumb_status accumulate_side(void *arg, float *y, const float *x, int64_t n)
{
    struct plumb_backend *b = arg;
    return b->k.accumulate(b->side, y, x, n);
}

struct plumb_comm_device plumb_exchange_device(struct plumb_backend *backend)
{
    return (struct plumb_comm_device){
        .arg = backend,
        .alloc = take,
        .release = give_back,
        .alloc_host = take_host,
        .release_host = give_back_host,
        .to_host = to_host,
        .to_device = to_device,
        .accumulate = accumulate,
        .stream = backend->native,
        .side = backend->native_side,
        .accumulate_side = accumulate_side,
    };
}

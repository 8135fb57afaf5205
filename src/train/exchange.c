/* exchange.c - the functions with which a communicator uses the device memory of a backend, and
 * checks of the ranks' GPUs.
 * Layer 5. Includes train/exchange.h. */
#include "train/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* What a rank sends to the other ranks about its GPU. */
struct seat {
    char host[64], gpu[96];
};

static plumb_status find_shared(const struct seat *all, int ranks)
{
    for (int a = 0; a < ranks; a++)
        for (int b = a + 1; b < ranks; b++)
            PLUMB_REQUIRE(
                memcmp(&all[a], &all[b], sizeof(*all)) != 0, PLUMB_ERR_DEVICE,
                "ranks %d and %d on host %s use the same GPU (%s): start at most one rank "
                "per GPU, or let them share with comm.exchange: mpi",
                a, b, all[a].host, all[a].gpu);
    return PLUMB_OK;
}

plumb_status plumb_exchange_check_gpus(plumb_comm *comm, const struct plumb_backend *backend)
{
    const int ranks = plumb_comm_size(comm);
    struct seat mine, *all = NULL;
    int64_t *count = NULL;
    plumb_status st = PLUMB_OK;
    if (backend->place == PLUMB_HOST || backend->dry || ranks == 1)
        return PLUMB_OK;
    memset(&mine, 0, sizeof(mine)); /* the structs are compared with memcmp */
    snprintf(mine.host, sizeof(mine.host), "%s", plumb_comm_host(comm));
    snprintf(mine.gpu, sizeof(mine.gpu), "%s", backend->gpu);
    all = calloc((size_t)ranks, sizeof(*all));
    count = calloc((size_t)ranks, sizeof(*count));
    if (!all || !count)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "GPUs of %d ranks", ranks);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    PLUMB_TRY_GOTO(
        st,
        plumb_comm_allgather(comm, all, (int64_t)sizeof(*all) * ranks, count, &mine, sizeof(mine)),
        done);
    st = find_shared(all, ranks);
done:
    free(count);
    free(all);
    return st;
}

plumb_status plumb_exchange_warm(plumb_comm *comm, struct plumb_backend *backend)
{
    const int64_t n = (int64_t)PLUMB_SHARD_BLOCK * plumb_comm_size(comm);
    const int64_t bytes = n * (int64_t)sizeof(float);
    void *x = NULL;
    if (backend->place == PLUMB_HOST || backend->dry || plumb_comm_size(comm) == 1)
        return PLUMB_OK;
    plumb_status st = backend->take(backend, &x, bytes, "warm-up of the exchange");
    if (st == PLUMB_OK)
        st = backend->zero(backend, x, bytes);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    PLUMB_TRY_GOTO(st, plumb_comm_reduce_tree(comm, x, n, PLUMB_DEVICE), done);
    st = plumb_comm_allgather_shards(comm, x, n, PLUMB_DEVICE);
done:
    if (x)
        backend->give(backend, x);
    return st;
}

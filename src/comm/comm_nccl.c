/* comm_nccl.c - creates, waits for and destroys the NCCL communicator of a run.
 * Layer 1. Includes comm/ and base/ only; nccl.h stays in comm_nccl.c and nccl_*.c.
 *
 * The NCCL communicator is non-blocking, so no call waits inside of NCCL. Instead, each wait in
 * this file polls for NCCL's errors and, like every wait for a message, checks the heartbeats of
 * the other ranks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "comm/nccl_impl.h"

plumb_status plumb_nccl_fail(const plumb_comm *c, const char *file, int line, const char *call,
                             ncclResult_t e)
{
    const struct plumb_here *here = &c->heartbeat.here;
    const char *more = c->nccl && c->nccl->comm ? ncclGetLastError(c->nccl->comm) : NULL;
    return plumb_fail_at(PLUMB_ERR_COMM, file, line,
                         "rank %d in %s (call %lld), phase \"%s\": NCCL, %s: %s%s%s", c->rank,
                         here->doing, (long long)here->call, here->phase, call,
                         ncclGetErrorString(e), more && *more ? ": " : "", more ? more : "");
}

plumb_status plumb_nccl_cuda_fail(const char *file, int line, const char *call, cudaError_t e)
{
    return plumb_fail_at(PLUMB_ERR_DEVICE, file, line, "%s: %s (%s)", call, cudaGetErrorString(e),
                         cudaGetErrorName(e));
}

plumb_status plumb_nccl_break(plumb_comm *c, plumb_status st)
{
    if (c->nccl->comm)
        (void)ncclCommAbort(c->nccl->comm); /* its result does not matter any more */
    c->nccl->comm = NULL;
    c->broken = true;
    return st;
}

/* Sets *busy to true if the last NCCL call is still in progress. */
static plumb_status look(plumb_comm *c, bool *busy)
{
    ncclResult_t state = ncclSuccess;
    PLUMB_NCCL(c, ncclCommGetAsyncError(c->nccl->comm, &state));
    PLUMB_NCCL(c, state);
    *busy = state == ncclInProgress;
    return PLUMB_OK;
}

/* Returns the state of a wait that begins now. Its limit stuck_s has an effect only if all ranks
 * send heartbeats, because a rank without heartbeats ends the wait earlier. */
static struct plumb_wait wait_from_now(const plumb_comm *c)
{
    const double limit = c->nccl->queuing ? 0 : 2 * c->heartbeat.timeout_s;
    return (struct plumb_wait){.since = plumb_now(), .stuck_s = limit};
}

plumb_status plumb_nccl_settle(plumb_comm *c)
{
    struct plumb_wait wait = wait_from_now(c);
    for (;;) {
        bool busy = true;
        PLUMB_TRY(look(c, &busy));
        if (!busy)
            return PLUMB_OK;
        PLUMB_TRY(c->ops->idle(c, &wait));
    }
}

plumb_status plumb_nccl_await(plumb_comm *c, cudaEvent_t event)
{
    struct plumb_wait wait = wait_from_now(c);
    bool busy = true;
    for (;;) {
        const cudaError_t e = cudaEventQuery(event);
        if (e == cudaSuccess)
            return PLUMB_OK;
        if (e != cudaErrorNotReady)
            PLUMB_NCCL_CUDA(e);
        PLUMB_TRY(look(c, &busy));
        PLUMB_TRY(c->ops->idle(c, &wait));
    }
}

/* Creates the events and allocates the device memory of this rank for exchanges. */
static plumb_status prepare(plumb_comm *c)
{
    struct plumb_nccl *n = c->nccl;
    const struct plumb_comm_device *d = &c->device;
    n->compute = d->stream;
    n->stream = d->side;
    PLUMB_NCCL_CUDA(cudaEventCreateWithFlags(&n->ready, cudaEventDisableTiming));
    for (int i = 0; i < PLUMB_NCCL_DEPTH; i++) {
        void *sum = NULL;
        PLUMB_NCCL_CUDA(cudaEventCreateWithFlags(&n->came[i], cudaEventDisableTiming));
        PLUMB_NCCL_CUDA(cudaEventCreateWithFlags(&n->added[i], cudaEventDisableTiming));
        PLUMB_TRY(d->alloc(d->arg, &sum, d->piece * (int64_t)sizeof(float)));
        n->sum[i] = sum;
    }
    return PLUMB_OK;
}

static void release(plumb_comm *c)
{
    struct plumb_nccl *n = c->nccl;
    if (n->comm)
        (void)ncclCommAbort(n->comm);
    for (int i = 0; i < PLUMB_NCCL_DEPTH; i++) {
        c->device.release(c->device.arg, n->sum[i]);
        if (n->came[i])
            (void)cudaEventDestroy(n->came[i]);
        if (n->added[i])
            (void)cudaEventDestroy(n->added[i]);
    }
    if (n->ready)
        (void)cudaEventDestroy(n->ready);
    free(n);
    c->nccl = NULL;
}

/* Sends the id of the NCCL communicator from rank 0 to every rank. Collective. */
static plumb_status share_id(plumb_comm *c, ncclUniqueId *id)
{
    ncclResult_t e = ncclSuccess;
    plumb_status st = PLUMB_OK;
    memset(id, 0, sizeof(*id));
    if (c->rank == 0)
        e = ncclGetUniqueId(id);
    if (e != ncclSuccess)
        st = plumb_nccl_fail(c, __FILE__, __LINE__, "ncclGetUniqueId", e);
    PLUMB_TRY(plumb_comm_agree(c, st));
    return plumb_comm_broadcast(c, id, (int64_t)sizeof(*id), 0);
}

/* Creates the NCCL communicator. Every rank calls it inside of a collective. */
static plumb_status init(plumb_comm *c, ncclUniqueId id)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    PLUMB_NCCL(c, ncclCommInitRankConfig(&c->nccl->comm, c->size, id, c->rank, &config));
    return plumb_nccl_settle(c);
}

static plumb_status connect_ranks(plumb_comm *c)
{
    ncclUniqueId id;
    PLUMB_TRY(share_id(c, &id));
    PLUMB_TRY(plumb_coll_enter(c, "nccl init", (struct plumb_args){-1, NULL, -1}));
    plumb_status st = init(c, id);
    if (st != PLUMB_OK && c->nccl->comm) {
        (void)ncclCommAbort(c->nccl->comm); /* the ranks can still communicate without it */
        c->nccl->comm = NULL;
    }
    return plumb_comm_agree(c, plumb_coll_leave(c, st));
}

plumb_status plumb_comm_attach_nccl(plumb_comm *c, const struct plumb_comm_device *device,
                                    bool own_order)
{
    if (c->size == 1)
        return plumb_comm_attach_device(c, device);
    PLUMB_REQUIRE(!c->link, PLUMB_ERR_ARG, "the communicator has a device already");
    PLUMB_REQUIRE(c->ops->idle && device->stream && device->side, PLUMB_ERR_UNSUPPORTED,
                  "NCCL needs ranks over MPI and a GPU for each");
    plumb_status st = PLUMB_OK;
    int version = 0;
    c->device = *device;
    if (device->piece == 0)
        c->device.piece = PLUMB_NCCL_PIECE;
    c->nccl = calloc(1, sizeof(*c->nccl));
    if (!c->nccl)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "an NCCL communicator");
    if (st == PLUMB_OK)
        st = prepare(c);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(c, st), fail);
    PLUMB_TRY_GOTO(st, connect_ranks(c), fail);
    (void)ncclGetVersion(&version); /* the version is only part of the name of the exchange */
    snprintf(c->link_name, sizeof(c->link_name), "nccl %d.%d.%d%s", version / 10000,
             version / 100 % 100, version % 100, own_order ? ", in its own order" : "");
    c->link = own_order ? &plumb_nccl_own_order : &plumb_nccl_tree;
    return PLUMB_OK;
fail:
    if (c->nccl)
        release(c);
    return st;
}

/* Ends the NCCL communicator, when no rank has an operation in flight. */
static plumb_status finish(plumb_comm *c)
{
    PLUMB_NCCL(c, ncclCommFinalize(c->nccl->comm));
    PLUMB_TRY(plumb_nccl_settle(c));
    PLUMB_NCCL(c, ncclCommDestroy(c->nccl->comm));
    c->nccl->comm = NULL;
    return PLUMB_OK;
}

void plumb_nccl_detach(plumb_comm *c)
{
    const struct plumb_args args = {-1, NULL, -1};
    if (!c->broken && c->nccl->comm && plumb_coll_enter(c, "nccl end", args) == PLUMB_OK)
        (void)plumb_coll_leave(c, finish(c)); /* on failure release() aborts it */
    release(c);
}

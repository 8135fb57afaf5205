/* nccl_move.c - exchanges vectors between GPUs, in the trees of reduce.c or by NCCL's own sums.
 * Layer 1. Includes comm/ and base/ only.
 *
 * Vectors are sent in pieces: a sum then needs buffers for a few pieces only, one piece is added
 * while the next one arrives, and a wait can see that bytes move. */
#include "base/num.h"
#include "comm/nccl_impl.h"

/* Makes all later work on stream `after` wait for the work enqueued so far on stream `before`. */
static plumb_status order(cudaEvent_t event, cudaStream_t before, cudaStream_t after)
{
    PLUMB_NCCL_CUDA(cudaEventRecord(event, before));
    PLUMB_NCCL_CUDA(cudaStreamWaitEvent(after, event, 0));
    return PLUMB_OK;
}

/* Ends the open group, also if one of its calls has failed with st: NCCL executes no call, not even
 * ncclCommAbort, while a group is open. Returns the first failure. */
static plumb_status end_group(plumb_comm *c, plumb_status st)
{
    const ncclResult_t e = ncclGroupEnd();
    if (st != PLUMB_OK)
        return st;
    PLUMB_NCCL(c, e);
    return plumb_nccl_settle(c);
}

static plumb_status add_exchange(plumb_comm *c, int peer, const float *out, int64_t given,
                                 float *in, int64_t taken)
{
    struct plumb_nccl *n = c->nccl;
    if (given)
        plumb_coll_count(c, PLUMB_TRAFFIC_EXCHANGE, given * (int64_t)sizeof(float));
    if (given)
        PLUMB_NCCL(c, ncclSend(out, (size_t)given, ncclFloat32, peer, n->comm, n->stream));
    if (taken)
        PLUMB_NCCL(c, ncclRecv(in, (size_t)taken, ncclFloat32, peer, n->comm, n->stream));
    return PLUMB_OK;
}

/* Enqueues a send and a receive as one group, because they must run concurrently. */
static plumb_status exchange(plumb_comm *c, int peer, const float *out, int64_t given, float *in,
                             int64_t taken)
{
    PLUMB_REQUIRE(c->nccl->comm, PLUMB_ERR_COMM, "%s: NCCL was aborted after an earlier failure",
                  c->heartbeat.here.doing);
    PLUMB_NCCL(c, ncclGroupStart());
    return end_group(c, add_exchange(c, peer, out, given, in, taken));
}

static plumb_status swap_piece(plumb_comm *c, const struct plumb_swap *s, int64_t i)
{
    struct plumb_nccl *n = c->nccl;
    const struct plumb_comm_device *d = &c->device;
    const struct plumb_range give = plumb_piece_of(s->give, i, d->piece);
    const struct plumb_range take = plumb_piece_of(s->take, i, d->piece);
    const int64_t taken = take.end - take.begin;
    const int slot = (int)(i % PLUMB_NCCL_DEPTH);
    const bool add = s->add && taken;
    float *x = s->x + take.begin;
    if (i >= PLUMB_NCCL_DEPTH) {
        PLUMB_TRY(plumb_nccl_await(c, n->came[slot]));
        if (add)
            PLUMB_NCCL_CUDA(cudaStreamWaitEvent(n->stream, n->added[slot], 0));
    }
    PLUMB_TRY(exchange(c, s->peer, s->x + give.begin, give.end - give.begin, add ? n->sum[slot] : x,
                       taken));
    PLUMB_NCCL_CUDA(cudaEventRecord(n->came[slot], n->stream));
    if (!add)
        return PLUMB_OK;
    PLUMB_NCCL_CUDA(cudaStreamWaitEvent(n->compute, n->came[slot], 0));
    PLUMB_TRY(d->accumulate(d->arg, x, n->sum[slot], taken));
    PLUMB_NCCL_CUDA(cudaEventRecord(n->added[slot], n->compute));
    return PLUMB_OK;
}

/* Waits until the last of `count` pieces has been exchanged. All earlier ones are then complete,
 * too, because the stream keeps their order. */
static plumb_status await_last(plumb_comm *c, int64_t count)
{
    return count ? plumb_nccl_await(c, c->nccl->came[(count - 1) % PLUMB_NCCL_DEPTH]) : PLUMB_OK;
}

static plumb_status swap_pieces(plumb_comm *c, const struct plumb_swap *s)
{
    const int64_t most = plumb_max_i64(s->give.end - s->give.begin, s->take.end - s->take.begin);
    const int64_t count = plumb_ceil_div(most, c->device.piece);
    PLUMB_TRY(order(c->nccl->ready, c->nccl->compute, c->nccl->stream));
    for (int64_t i = 0; i < count; i++)
        PLUMB_TRY(swap_piece(c, s, i));
    return await_last(c, count);
}

static plumb_status swap_nccl(plumb_comm *c, const struct plumb_swap *s)
{
    const plumb_status st = swap_pieces(c, s);
    return st == PLUMB_OK ? st : plumb_nccl_break(c, st);
}

/* Enqueues the exchange and the additions on NCCL's stream, so that the stream keeps their order.
 */
static plumb_status queue_pieces(plumb_comm *c, const struct plumb_swap *s)
{
    struct plumb_nccl *n = c->nccl;
    const struct plumb_comm_device *d = &c->device;
    const int64_t most = plumb_max_i64(s->give.end - s->give.begin, s->take.end - s->take.begin);
    PLUMB_TRY(order(n->ready, n->compute, n->stream));
    for (int64_t i = 0; i * d->piece < most; i++) {
        const struct plumb_range give = plumb_piece_of(s->give, i, d->piece);
        const struct plumb_range take = plumb_piece_of(s->take, i, d->piece);
        const int64_t taken = take.end - take.begin;
        const bool add = s->add && taken;
        float *x = s->x + take.begin;
        PLUMB_TRY(exchange(c, s->peer, s->x + give.begin, give.end - give.begin,
                           add ? n->sum[0] : x, taken));
        if (add)
            PLUMB_TRY(d->accumulate_side(d->arg, x, n->sum[0], taken));
    }
    return PLUMB_OK;
}

static plumb_status queue_nccl(plumb_comm *c, const struct plumb_swap *s)
{
    c->nccl->queuing = true;
    const plumb_status st = queue_pieces(c, s);
    c->nccl->queuing = false;
    return st == PLUMB_OK ? st : plumb_nccl_break(c, st);
}

static plumb_status drain(plumb_comm *c)
{
    struct plumb_nccl *n = c->nccl;
    PLUMB_TRY(order(n->came[0], n->stream, n->compute));
    return plumb_nccl_await(c, n->came[0]);
}

static plumb_status drain_nccl(plumb_comm *c)
{
    const plumb_status st = drain(c);
    return st == PLUMB_OK ? st : plumb_nccl_break(c, st);
}

static void drop_nccl(plumb_comm *c)
{
    if (c->nccl->comm)
        (void)ncclCommAbort(c->nccl->comm);
    c->nccl->comm = NULL;
}

static plumb_status add_shards(plumb_comm *c, float *x, int64_t n, int64_t i, bool sum)
{
    struct plumb_nccl *nccl = c->nccl;
    int64_t elements = 0; /* sum of the lengths of the pieces of all shards */
    for (int r = 0; r < c->size; r++) {
        const struct plumb_range p = plumb_piece_of(plumb_comm_shard(c, n, r), i, c->device.piece);
        elements += p.end - p.begin;
        float *at = x + p.begin;
        const size_t count = (size_t)(p.end - p.begin);
        if (count && sum)
            PLUMB_NCCL(
                c, ncclReduce(at, at, count, ncclFloat32, ncclSum, r, nccl->comm, nccl->stream));
        else if (count)
            PLUMB_NCCL(c, ncclBroadcast(at, at, count, ncclFloat32, r, nccl->comm, nccl->stream));
    }
    plumb_coll_count(c, PLUMB_TRAFFIC_EXCHANGE,
                     elements * (int64_t)sizeof(float) * (c->size - 1) / c->size);
    return PLUMB_OK;
}

/* Exchanges piece i of every rank's shard: the owner receives the sum (sum = true), or sends its
 * values to all. Shards differ in length, so this is a group of ncclReduce or ncclBroadcast, not
 * one ncclReduceScatter or ncclAllGather. */
static plumb_status shards_piece(plumb_comm *c, float *x, int64_t n, int64_t i, bool sum)
{
    PLUMB_NCCL(c, ncclGroupStart());
    return end_group(c, add_shards(c, x, n, i, sum));
}

static plumb_status shards_pieces(plumb_comm *c, float *x, int64_t n, bool sum)
{
    struct plumb_nccl *nccl = c->nccl;
    const struct plumb_range first = plumb_comm_shard(c, n, 0); /* rank 0 has the longest shard */
    const int64_t count = plumb_ceil_div(first.end - first.begin, c->device.piece);
    PLUMB_TRY(order(nccl->ready, nccl->compute, nccl->stream));
    for (int64_t i = 0; i < count; i++) {
        const int slot = (int)(i % PLUMB_NCCL_DEPTH);
        if (i >= PLUMB_NCCL_DEPTH)
            PLUMB_TRY(plumb_nccl_await(c, nccl->came[slot]));
        PLUMB_TRY(shards_piece(c, x, n, i, sum));
        PLUMB_NCCL_CUDA(cudaEventRecord(nccl->came[slot], nccl->stream));
    }
    return await_last(c, count);
}

static plumb_status shards(plumb_comm *c, float *x, int64_t n, bool sum)
{
    const plumb_status st = shards_pieces(c, x, n, sum);
    return st == PLUMB_OK ? st : plumb_nccl_break(c, st);
}

static plumb_status reduce_own(plumb_comm *c, float *grad, int64_t n)
{
    return shards(c, grad, n, true);
}

static plumb_status gather_own(plumb_comm *c, float *x, int64_t n)
{
    return shards(c, x, n, false);
}

const struct plumb_link plumb_nccl_tree = {
    .swap = swap_nccl,
    .queue = queue_nccl,
    .drain = drain_nccl,
    .drop = drop_nccl,
    .detach = plumb_nccl_detach,
};
const struct plumb_link plumb_nccl_own_order = {
    .swap = swap_nccl,
    .reduce = reduce_own,
    .gather = gather_own,
    .detach = plumb_nccl_detach,
};

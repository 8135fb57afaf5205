/* collective.c - barrier, allreduce, broadcast, allgather and alltoall over any transport.
 * Layer 1. Includes comm/ and base/ only.
 *
 * The order of additions is fixed here and never left to a library: recursive doubling at distance
 * 1, 2, 4 ... Both ranks of a pair compute (lower rank) op (higher rank), so all ranks get the same
 * bits. If the number of ranks is not a power of two, and p is the largest power of two below it,
 * each rank r >= p first sends its values to rank r - p, which combines them with its own, and gets
 * the result back at the end. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "comm/comm_impl.h"
#include "comm/stream.h"

/* A broadcast is sent down the tree in pieces, so that the levels of the tree work concurrently. */
#define BROADCAST_PIECE (1 << 20)

/* The largest mean size of a part, in bytes, for which an allgather uses recursive doubling (few
 * messages) instead of the ring (few bytes per link). The time of a small message is mostly
 * latency: in 5 us, a link of 50 GB/s carries about 256 KiB. The limit is lower than that, because
 * the ring also sends fewer bytes between hosts. */
#define SMALL_PART ((int64_t)64 << 10)

plumb_status plumb_coll_move(plumb_comm *c, const struct plumb_move *m)
{
    assert(m->to != c->rank && m->from != c->rank);
    const plumb_status st = c->ops->move(c, m);
    if (m->to >= 0)
        plumb_coll_count(c, c->traffic_class, m->send_bytes);
    c->broken = c->broken || st != PLUMB_OK;
    return st;
}

void plumb_take_copy(void *arg, const void *piece, int64_t at, int64_t bytes)
{
    plumb_stream_copy((char *)arg + at, piece, bytes);
}

plumb_status plumb_coll_barrier(plumb_comm *c)
{
    /* Dissemination barrier: after the round at distance d, each rank has (indirectly) received a
     * message from the 2d - 1 ranks below it. */
    const double token = 0;
    double heard;
    for (int64_t d = 1; d < c->size; d *= 2) {
        const struct plumb_move m = {(int)((c->rank + d) % c->size),
                                     &token,
                                     sizeof(token),
                                     (int)((c->rank - d + c->size) % c->size),
                                     sizeof(heard),
                                     plumb_take_copy,
                                     &heard};
        PLUMB_TRY(plumb_coll_move(c, &m));
    }
    return PLUMB_OK;
}

struct combine {
    double *into;
    enum plumb_redop op;
    /* true if this rank is the lower one of the pair; decides the sign of a zero in min and max */
    bool mine_first;
};

static double combine_one(double lower, double higher, enum plumb_redop op)
{
    if (op == PLUMB_SUM)
        return lower + higher;
    if (isnan(lower) || isnan(higher))
        return NAN;
    return op == PLUMB_MIN ? (higher < lower ? higher : lower) : (higher > lower ? higher : lower);
}

static void take_combine(void *arg, const void *piece, int64_t at, int64_t bytes)
{
    const struct combine *a = arg;
    const double *theirs = piece;
    double *mine = a->into + at / (int64_t)sizeof(double);
    for (int64_t i = 0; i < bytes / (int64_t)sizeof(double); i++)
        mine[i] = a->mine_first ? combine_one(mine[i], theirs[i], a->op)
                                : combine_one(theirs[i], mine[i], a->op);
}

/* Runs an allreduce of n <= PLUMB_COMM_SCRATCH values. buf is copied to scratch first, because the
 * values being sent must not change while the peer's values arrive. */
static plumb_status allreduce_block(plumb_comm *c, double *buf, int64_t n, enum plumb_redop op)
{
    const int half = plumb_pow2_floor(c->size), surplus = c->size - half;
    const int64_t bytes = n * (int64_t)sizeof(double);
    struct combine into = {buf, op, true};

    if (c->rank >= half) {
        const int peer = c->rank - half;
        PLUMB_TRY(plumb_coll_move(c, &(struct plumb_move){peer, buf, bytes, -1, 0, NULL, NULL}));
        return plumb_coll_move(
            c, &(struct plumb_move){-1, NULL, 0, peer, bytes, plumb_take_copy, buf});
    }
    if (c->rank < surplus)
        PLUMB_TRY(plumb_coll_move(
            c, &(struct plumb_move){-1, NULL, 0, c->rank + half, bytes, take_combine, &into}));
    for (int d = 1; d < half; d *= 2) {
        const int peer = c->rank ^ d;
        memcpy(c->scratch, buf, (size_t)bytes);
        into.mine_first = c->rank < peer;
        PLUMB_TRY(plumb_coll_move(
            c, &(struct plumb_move){peer, c->scratch, bytes, peer, bytes, take_combine, &into}));
    }
    if (c->rank < surplus)
        PLUMB_TRY(plumb_coll_move(
            c, &(struct plumb_move){c->rank + half, buf, bytes, -1, 0, NULL, NULL}));
    return PLUMB_OK;
}

plumb_status plumb_coll_allreduce(plumb_comm *c, double *buf, int64_t n, enum plumb_redop op)
{
    for (int64_t at = 0; c->size > 1 && at < n; at += PLUMB_COMM_SCRATCH)
        PLUMB_TRY(allreduce_block(c, buf + at, plumb_min_i64(n - at, PLUMB_COMM_SCRATCH), op));
    return PLUMB_OK;
}

static plumb_status broadcast_piece(plumb_comm *c, char *buf, int64_t bytes, int root)
{
    /* Binomial tree over the ranks, numbered from the root. The parent of a rank has the rank's
     * lowest set bit cleared; each child has one bit set below that bit. */
    const int me = (c->rank - root + c->size) % c->size;
    int low = 1;
    while (low < c->size && !(me & low))
        low *= 2;
    if (me != 0) {
        const int parent = ((me - low) + root) % c->size;
        PLUMB_TRY(plumb_coll_move(
            c, &(struct plumb_move){-1, NULL, 0, parent, bytes, plumb_take_copy, buf}));
    }
    for (int d = low / 2; d > 0; d /= 2)
        if (me + d < c->size) {
            const int child = (me + d + root) % c->size;
            PLUMB_TRY(
                plumb_coll_move(c, &(struct plumb_move){child, buf, bytes, -1, 0, NULL, NULL}));
        }
    return PLUMB_OK;
}

plumb_status plumb_coll_broadcast(plumb_comm *c, void *buf, int64_t bytes, int root)
{
    for (int64_t at = 0; c->size > 1 && at < bytes; at += BROADCAST_PIECE)
        PLUMB_TRY(
            broadcast_piece(c, (char *)buf + at, plumb_min_i64(bytes - at, BROADCAST_PIECE), root));
    return PLUMB_OK;
}

static int64_t offset_of(const int64_t *count, int rank)
{
    int64_t at = 0;
    for (int r = 0; r < rank; r++)
        at += count[r];
    return at;
}

/* In step s every rank sends to the next rank the part that it received in step s - 1. So the link
 * between two hosts carries each part once. */
static plumb_status gather_ring(plumb_comm *c, char *out, const int64_t *count)
{
    const int size = c->size;
    for (int s = 0; s < size - 1; s++) {
        const int give = (c->rank - s + size) % size, get = (c->rank - s - 1 + size) % size;
        const struct plumb_move m = {
            .to = count[give] > 0 ? (c->rank + 1) % size : -1,
            .send = out + offset_of(count, give),
            .send_bytes = count[give],
            .from = count[get] > 0 ? (c->rank - 1 + size) % size : -1,
            .recv_bytes = count[get],
            .take = plumb_take_copy,
            .arg = out + offset_of(count, get),
        };
        PLUMB_TRY(plumb_coll_move(c, &m));
    }
    return PLUMB_OK;
}

/* In step d = 1, 2, 4 ... ranks r and r ^ d exchange all parts that they have so far. These are the
 * parts of d consecutive ranks, which are adjacent in memory. This takes log2 W messages instead of
 * the ring's W - 1. The number of ranks must be a power of two. */
static plumb_status gather_doubling(plumb_comm *c, char *out, const int64_t *count)
{
    for (int d = 1; d < c->size; d *= 2) {
        const int mine = c->rank & ~(d - 1), peer = c->rank ^ d, theirs = peer & ~(d - 1);
        const int64_t give = offset_of(count + mine, d), get = offset_of(count + theirs, d);
        const struct plumb_move m = {
            .to = give > 0 ? peer : -1,
            .send = out + offset_of(count, mine),
            .send_bytes = give,
            .from = get > 0 ? peer : -1,
            .recv_bytes = get,
            .take = plumb_take_copy,
            .arg = out + offset_of(count, theirs),
        };
        PLUMB_TRY(plumb_coll_move(c, &m));
    }
    return PLUMB_OK;
}

plumb_status plumb_coll_allgather(plumb_comm *c, void *recv, int64_t recv_cap, int64_t *count,
                                  const void *send, int64_t bytes)
{
    /* First, all ranks exchange the sizes of their parts and of their receive buffers, so that all
     * ranks fail if one buffer is too small. Doubles hold these integers exactly. */
    const int size = c->size;
    memset(c->slots, 0, 2 * (size_t)size * sizeof(double));
    c->slots[2 * c->rank] = (double)bytes;
    c->slots[2 * c->rank + 1] = (double)recv_cap;
    PLUMB_TRY(plumb_coll_allreduce(c, c->slots, 2 * size, PLUMB_SUM));

    int tightest = 0;
    for (int r = 0; r < size; r++) {
        count[r] = (int64_t)c->slots[2 * r];
        if (c->slots[2 * r + 1] < c->slots[2 * tightest + 1])
            tightest = r;
    }
    const int64_t total = offset_of(count, size);
    PLUMB_REQUIRE((double)total <= c->slots[2 * tightest + 1], PLUMB_ERR_NOMEM,
                  "allgather of %lld bytes: rank %d has room for %.0f", (long long)total, tightest,
                  c->slots[2 * tightest + 1]);

    if (total == 0)
        return PLUMB_OK;

    char *out = recv;
    if (bytes > 0)
        memmove(out + offset_of(count, c->rank), send, (size_t)bytes);
    if (plumb_pow2_floor(size) == size && total <= size * SMALL_PART)
        return gather_doubling(c, out, count);
    return gather_ring(c, out, count);
}

plumb_status plumb_coll_alltoall(plumb_comm *c, void *recv, const int64_t *recv_bytes,
                                 const void *send, const int64_t *send_bytes)
{
    /* In step s rank r sends to rank r + s and receives from rank r - s (modulo the number of
     * ranks). */
    const char *in = send;
    char *out = recv;
    for (int s = 0; s < c->size; s++) {
        const int to = (c->rank + s) % c->size, from = (c->rank - s + c->size) % c->size;
        const char *part = send_bytes[to] > 0 ? in + offset_of(send_bytes, to) : in;
        char *place = recv_bytes[from] > 0 ? out + offset_of(recv_bytes, from) : out;
        if (s == 0 && send_bytes[to] > 0)
            memcpy(place, part, (size_t)send_bytes[to]);
        if (s == 0 || (send_bytes[to] == 0 && recv_bytes[from] == 0))
            continue;
        const struct plumb_move m = {
            .to = send_bytes[to] > 0 ? to : -1,
            .send = part,
            .send_bytes = send_bytes[to],
            .from = recv_bytes[from] > 0 ? from : -1,
            .recv_bytes = recv_bytes[from],
            .take = plumb_take_copy,
            .arg = place,
        };
        PLUMB_TRY(plumb_coll_move(c, &m));
    }
    return PLUMB_OK;
}

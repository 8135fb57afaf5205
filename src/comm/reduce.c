/* reduce.c - the gradient tree across ranks: reduce by halving, gather by doubling.
 * Layer 1. Includes comm/ and base/ only.
 *
 * In step d = 1, 2, 4 ... ranks r and r ^ d have partial sums of the same piece of the vector. The
 * lower rank keeps the lower half of the piece, the higher rank the upper half; each receives the
 * other's values of its half and adds them. After the last step a rank holds 1/W of the vector,
 * summed along the balanced tree over the ranks. It has then sent (W-1)/W of the vector, as many
 * bytes as in a ring algorithm. a + b and b + a have the same bits, so it does not matter which
 * rank adds. All this is for W = the largest power of two that is at most the number of ranks; the
 * ranks from W on (the surplus) add their vector to that of the rank W lower before the first step,
 * and own no part of the result. */
#include <stddef.h>

#include "base/num.h"
#include "comm/comm_impl.h"
#include "comm/tree.h"

/* Returns the lower or upper half of a range of elements that begins at a block border. The split
 * is at a block border too, and the lower half is never the smaller one. */
static struct plumb_range half_of(struct plumb_range piece, bool upper)
{
    const int64_t blocks = plumb_ceil_div(piece.end - piece.begin, PLUMB_SHARD_BLOCK);
    const int64_t lower = plumb_ceil_div(blocks, 2) * PLUMB_SHARD_BLOCK;
    const int64_t mid = plumb_min_i64(piece.begin + lower, piece.end);
    return upper ? (struct plumb_range){mid, piece.end} : (struct plumb_range){piece.begin, mid};
}

struct plumb_range plumb_comm_shard_of(int64_t n, int rank, int world_size)
{
    const int half = plumb_pow2_floor(world_size);
    if (rank >= half)
        return (struct plumb_range){n, n};
    struct plumb_range piece = {0, n};
    for (int d = 1; d < half; d *= 2)
        piece = half_of(piece, (rank & d) != 0);
    return piece;
}

static void take_add(void *arg, const void *piece, int64_t at, int64_t bytes)
{
    plumb_tree_merge((float *)arg + at / (int64_t)sizeof(float), piece,
                     bytes / (int64_t)sizeof(float));
}

/* Sends the range s->give of s->x to s->peer, and receives the range s->take from it, in host
 * memory. Received values are added if s->add is true; otherwise they replace the old ones. */
static plumb_status swap_host(plumb_comm *c, const struct plumb_swap *s)
{
    const int64_t size = (int64_t)sizeof(float);
    const struct plumb_move m = {
        .to = s->give.end > s->give.begin ? s->peer : -1,
        .send = s->x + s->give.begin,
        .send_bytes = (s->give.end - s->give.begin) * size,
        .from = s->take.end > s->take.begin ? s->peer : -1,
        .recv_bytes = (s->take.end - s->take.begin) * size,
        .take = s->add ? take_add : plumb_take_copy,
        .arg = s->x + s->take.begin,
    };
    return plumb_coll_move(c, &m);
}

/* Returns the intersection of two ranges; {begin, begin} if it is empty. */
static struct plumb_range shared(struct plumb_range a, struct plumb_range b)
{
    const int64_t begin = plumb_max_i64(a.begin, b.begin);
    return (struct plumb_range){begin, plumb_max_i64(begin, plumb_min_i64(a.end, b.end))};
}

/* Sums grad (n,) over the ranks along the tree, but only the elements in `part`. Afterwards a rank
 * has the sum only of those elements of `part` that lie in its own shard. */
static plumb_status reduce_tree(plumb_comm *c, plumb_swap_fn *swap, float *grad, int64_t n,
                                struct plumb_range part)
{
    const struct plumb_range none = {0, 0};
    const int half = plumb_pow2_floor(c->size), surplus = c->size - half;
    struct plumb_range piece = {0, n};
    if (c->rank >= half)
        return swap(c, &(struct plumb_swap){c->rank - half, grad, part, none, true});
    if (c->rank < surplus)
        PLUMB_TRY(swap(c, &(struct plumb_swap){c->rank + half, grad, none, part, true}));
    for (int d = 1; d < half; d *= 2) {
        const bool upper = (c->rank & d) != 0;
        const struct plumb_range keep = half_of(piece, upper), give = half_of(piece, !upper);
        PLUMB_TRY(swap(c, &(struct plumb_swap){c->rank ^ d, grad, shared(give, part),
                                               shared(keep, part), true}));
        piece = keep;
    }
    return PLUMB_OK;
}

/* Converts a range of elements to a range of floats, if each float (4 bytes) holds `per` elements.
 */
static struct plumb_range in_floats(struct plumb_range r, int per)
{
    return (struct plumb_range){r.begin / per, r.end / per};
}

/* Gathers the shards of n elements at x. Each float (4 bytes) at x holds `per` elements: 1 of
 * float32, or 2 of bfloat16. */
static plumb_status allgather_shards(plumb_comm *c, plumb_swap_fn *swap, float *x, int64_t n,
                                     int per)
{
    const struct plumb_range all = {0, n}, none = {0, 0};
    const int half = plumb_pow2_floor(c->size), surplus = c->size - half;
    if (c->rank >= half)
        return swap(c, &(struct plumb_swap){c->rank - half, x, none, in_floats(all, per), false});
    for (int d = half / 2; d > 0; d /= 2) {
        /* piece: the range that both ranks of the pair had before the halving at distance d */
        struct plumb_range piece = all;
        for (int e = 1; e < d; e *= 2)
            piece = half_of(piece, (c->rank & e) != 0);
        const bool upper = (c->rank & d) != 0;
        PLUMB_TRY(
            swap(c, &(struct plumb_swap){c->rank ^ d, x, in_floats(half_of(piece, upper), per),
                                         in_floats(half_of(piece, !upper), per), false}));
    }
    if (c->rank < surplus)
        PLUMB_TRY(
            swap(c, &(struct plumb_swap){c->rank + half, x, in_floats(all, per), none, false}));
    return PLUMB_OK;
}

bool plumb_comm_overlaps(const plumb_comm *c)
{
    return c->link && c->link->queue;
}

void plumb_comm_reduce_begin(plumb_comm *c, float *grad, int64_t n)
{
    if (!plumb_comm_overlaps(c))
        return;
    c->parts.grad = grad;
    c->parts.n = c->parts.from = n;
}

/* Enqueues the reduction of each bucket that lies completely in [from, n) and is not enqueued yet.
 * A bucket is a block of device.bucket or more elements. Its borders do not depend on `from`, so
 * they are the same on every rank, even if the ranks have finished different amounts of grad. */
plumb_status plumb_comm_reduce_part(plumb_comm *c, int64_t from)
{
    const int64_t most = PLUMB_PARTS * PLUMB_SHARD_BLOCK;
    const int64_t least = plumb_ceil_div(c->parts.n, most) * PLUMB_SHARD_BLOCK;
    const int64_t bucket = plumb_max_i64(c->device.bucket, plumb_max_i64(least, 1));
    while (c->parts.grad && c->parts.from > from) {
        const int64_t begin = (c->parts.from - 1) / bucket * bucket;
        if (begin < from)
            break;
        PLUMB_TRY(reduce_tree(c, c->link->queue, c->parts.grad, c->parts.n,
                              (struct plumb_range){begin, c->parts.from}));
        c->parts.from = begin;
    }
    return PLUMB_OK;
}

void plumb_comm_reduce_drop(plumb_comm *c)
{
    if (c->parts.grad)
        c->link->drop(c);
    c->parts.grad = NULL;
}

static plumb_status reduce_rest(plumb_comm *c, float *grad, int64_t n)
{
    const struct plumb_range rest = {0, c->parts.from};
    const bool same = c->parts.grad == grad && c->parts.n == n;
    c->parts.grad = NULL;
    PLUMB_REQUIRE(same, PLUMB_ERR_ARG,
                  "reduce_tree: grad or n differs from plumb_comm_reduce_begin");
    PLUMB_TRY(reduce_tree(c, c->link->queue, grad, n, rest));
    return c->link->drain(c);
}

static plumb_status check_args(const plumb_comm *c, const char *call, const float *x, int64_t n,
                               enum plumb_place place)
{
    PLUMB_REQUIRE(n >= 0 && (x || n == 0), PLUMB_ERR_ARG,
                  "%s: n=%lld and the vector %s; expected n >= 0, and a vector unless n is 0", call,
                  (long long)n, x ? "set" : "NULL");
    PLUMB_REQUIRE(place == PLUMB_HOST || c->link || c->size == 1, PLUMB_ERR_ARG,
                  "%s: the vector is in device memory, but no device is attached", call);
    return PLUMB_OK;
}

plumb_status(plumb_comm_reduce_tree)(plumb_comm *c, float *grad, int64_t n, enum plumb_place place)
{
    PLUMB_TRY(check_args(c, "reduce_tree", grad, n, place));
    PLUMB_TRY(plumb_coll_enter(c, "reduce_tree", (struct plumb_args){n, NULL, -1}));
    c->traffic_class = PLUMB_TRAFFIC_EXCHANGE; /* until plumb_coll_leave */
    const struct plumb_link *link = place == PLUMB_DEVICE ? c->link : NULL;
    if (link && c->parts.grad)
        return plumb_coll_leave(c, reduce_rest(c, grad, n));
    return plumb_coll_leave(c, link && link->reduce
                                   ? link->reduce(c, grad, n)
                                   : reduce_tree(c, link ? link->swap : swap_host, grad, n,
                                                 (struct plumb_range){0, n}));
}

plumb_status(plumb_comm_allgather_shards)(plumb_comm *c, float *x, int64_t n,
                                          enum plumb_place place)
{
    PLUMB_TRY(check_args(c, "allgather_shards", x, n, place));
    PLUMB_TRY(plumb_coll_enter(c, "allgather_shards", (struct plumb_args){n, NULL, -1}));
    c->traffic_class = PLUMB_TRAFFIC_EXCHANGE; /* until plumb_coll_leave */
    const struct plumb_link *link = place == PLUMB_DEVICE ? c->link : NULL;
    return plumb_coll_leave(c, link && link->gather
                                   ? link->gather(c, x, n)
                                   : allgather_shards(c, link ? link->swap : swap_host, x, n, 1));
}

/* This gather always uses the tree: link->gather, NCCL's own algorithm, gathers only vectors of
 * floats. */
plumb_status(plumb_comm_allgather_halves)(plumb_comm *c, void *x, int64_t n, enum plumb_place place)
{
    PLUMB_TRY(check_args(c, "allgather_halves", x, n, place));
    PLUMB_REQUIRE(n % 2 == 0, PLUMB_ERR_ARG, "allgather_halves: n=%lld; expected an even number",
                  (long long)n);
    PLUMB_TRY(plumb_coll_enter(c, "allgather_halves", (struct plumb_args){n, NULL, -1}));
    c->traffic_class = PLUMB_TRAFFIC_EXCHANGE; /* until plumb_coll_leave */
    const struct plumb_link *link = place == PLUMB_DEVICE ? c->link : NULL;
    return plumb_coll_leave(c, allgather_shards(c, link ? link->swap : swap_host, x, n, 2));
}

plumb_status(plumb_comm_gather_begin)(plumb_comm *c, float *x, int64_t n, enum plumb_place place)
{
    const bool beside = place == PLUMB_DEVICE && plumb_comm_overlaps(c);
    if (!beside)
        return (plumb_comm_allgather_shards)(c, x, n, place);
    PLUMB_TRY(check_args(c, "gather_begin", x, n, place));
    PLUMB_REQUIRE(!c->gathering, PLUMB_ERR_ARG, "gather_begin: an earlier gather has not ended");
    PLUMB_TRY(plumb_coll_enter(c, "gather_begin", (struct plumb_args){n, NULL, -1}));
    c->traffic_class = PLUMB_TRAFFIC_EXCHANGE; /* until plumb_coll_leave */
    c->gathering = true;
    return plumb_coll_leave(c, allgather_shards(c, c->link->queue, x, n, 1));
}

plumb_status(plumb_comm_gather_end)(plumb_comm *c)
{
    if (!c->gathering)
        return PLUMB_OK;
    c->gathering = false;
    PLUMB_TRY(plumb_coll_enter(c, "gather_end", (struct plumb_args){-1, NULL, -1}));
    c->traffic_class = PLUMB_TRAFFIC_EXCHANGE; /* until plumb_coll_leave */
    return plumb_coll_leave(c, c->link->drain(c));
}

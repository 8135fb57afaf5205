/* gradient_rounds.c - the sharded gradient: an exchange after each round of micro-batches, and the
 * sums of this rank's shard.
 * Layer 5. Includes train/gradient.h, base/, comm/tree.h. */
#include "base/num.h"
#include "train/gradient.h"

/* Lets all ranks continue with the exchange of this round, or none. local: this rank's status
 * before it. Every rank calls this once per round, wherever in its micro-batch it is. */
static plumb_status enter_exchange(struct plumb_gradient *g, plumb_status local)
{
    const plumb_status st = plumb_comm_agree(g->comm, local);
    g->round = st == PLUMB_OK ? PLUMB_ROUND_EXCHANGE : PLUMB_ROUND_FAILED;
    if (st == PLUMB_OK && g->overlap)
        plumb_comm_reduce_begin(g->comm, g->sum[0], g->count);
    return st;
}

plumb_status plumb_gradient_round_final(struct plumb_gradient *g, int64_t from)
{
    if (!g->overlap || g->hold || g->round == PLUMB_ROUND_NONE)
        return PLUMB_OK;
    if (g->round == PLUMB_ROUND_ALONE)
        PLUMB_TRY(enter_exchange(g, PLUMB_OK));
    return plumb_comm_reduce_part(g->comm, from);
}

/* Computes this rank's micro-batch, which is -1 if it has none in this round: it then brings the
 * sum of no micro-batches. Starts the exchange. st: this rank's status before the round. */
static plumb_status compute(struct plumb_gradient *g, plumb_status st, int64_t micro_batch,
                            plumb_micro_batch_fn *fn, void *arg)
{
    g->round = PLUMB_ROUND_ALONE;
    if (st == PLUMB_OK)
        st = micro_batch >= 0 ? plumb_gradient_micro(g, g->sum[0], micro_batch, fn, arg)
                              : plumb_gradient_nothing(g);
    if (g->round == PLUMB_ROUND_ALONE)
        st = enter_exchange(g, st);
    if (g->round == PLUMB_ROUND_FAILED) /* all ranks know */
        return st;
    if (st == PLUMB_OK)
        st = plumb_gradient_round_final(g, 0);
    if (!g->overlap)
        return st;
    st = plumb_comm_agree(g->comm, st);
    if (st != PLUMB_OK)
        plumb_comm_reduce_drop(g->comm);
    return st;
}

/* Adds the shard in sum[0], the sum of round t over the ranks, to the stored sums. */
static plumb_status store(struct plumb_gradient *g, int64_t rounds, int64_t t)
{
    struct plumb_backend *b = g->backend;
    const struct plumb_tree_step at = plumb_tree_at(rounds, t);
    const int64_t n = g->shard.end - g->shard.begin;
    const float *x = g->sum[0] + g->shard.begin;
    if (rounds == 1 || n == 0) /* plumb_gradient_shard returns it where it is */
        return PLUMB_OK;
    if (at.merges == 0)
        return b->copy(b, g->part[at.buffer], x, n * (int64_t)sizeof(*x));
    for (int top = at.buffer; top > at.buffer - at.merges; top--, x = g->part[top])
        PLUMB_TRY(b->k.accumulate(b->stream, g->part[top - 1], x, n));
    return PLUMB_OK;
}

/* Asks all ranks whether one of them wants to pause. */
static plumb_status agree_pause(struct plumb_gradient *g)
{
    double paused = g->pause && g->pause(g->pause_arg);
    PLUMB_TRY(plumb_comm_allreduce_f64(g->comm, &paused, 1, PLUMB_MAX));
    g->paused = paused > 0;
    return PLUMB_OK;
}

plumb_status plumb_gradient_rounds(struct plumb_gradient *g, int64_t micro_batches,
                                   plumb_micro_batch_fn *fn, void *arg)
{
    const int rank = plumb_comm_rank(g->comm), size = plumb_comm_size(g->comm);
    const int64_t rounds = plumb_ceil_div(micro_batches, size);
    plumb_status st = PLUMB_OK;
    g->rounds = rounds;
    for (int64_t t = 0; t < rounds; t++) {
        PLUMB_TRY(agree_pause(g));
        if (g->paused)
            return PLUMB_OK;
        const int64_t micro_batch = t * size + rank;
        st = compute(g, st, micro_batch < micro_batches ? micro_batch : -1, fn, arg);
        g->round = PLUMB_ROUND_NONE;
        PLUMB_TRY(st);
        PLUMB_TRY(plumb_comm_reduce_tree(g->comm, g->sum[0], g->count, g->backend->place));
        st = store(g, rounds, t); /* the ranks agree on it in the next round */
    }
    return plumb_comm_agree(g->comm, st);
}

float *plumb_gradient_shard(const struct plumb_gradient *g)
{
    return g->rounds > 1 ? g->part[0] : g->sum[0] + g->shard.begin;
}

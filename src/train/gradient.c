/* gradient.c - runs this rank's micro-batches and adds up their gradients along the tree of
 * comm/tree.h.
 * Layer 5. Includes train/gradient_rounds.h, base/. */
#include "train/gradient.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "train/gradient_rounds.h"

/* Sets the fields that whole and sharded gradients have in common, and allocates g->slot, which
 * stores the values that each micro-batch returns, such as its loss (plumb_micro_batch_fn). */
static plumb_status init(struct plumb_gradient *g, struct plumb_backend *backend, plumb_comm *comm,
                         int64_t count, int64_t most_micro_batches)
{
    *g = (struct plumb_gradient){
        .backend = backend,
        .comm = comm,
        .count = count,
        .most_micro_batches = most_micro_batches,
        .arena = {.place = backend->place, .name = "grad"},
    };
    g->slot = calloc((size_t)(most_micro_batches * PLUMB_MICRO_BATCH_VALUES) + 1, sizeof(*g->slot));
    PLUMB_REQUIRE(g->slot, PLUMB_ERR_NOMEM, "gradient of %lld micro-batches",
                  (long long)most_micro_batches);
    return PLUMB_OK;
}

/* Allocates the buffers of a whole gradient. first: memory (count,) for sum[0], which *g then owns;
 * if first is NULL, sum[0] is allocated like the other buffers. */
static plumb_status init_whole(struct plumb_gradient *g, struct plumb_backend *backend,
                               plumb_comm *comm, int64_t count, int64_t most_micro_batches,
                               float *first)
{
    plumb_status st = init(g, backend, comm, count, most_micro_batches);
    const int64_t mine =
        plumb_tree_most(most_micro_batches, plumb_comm_rank(comm), plumb_comm_size(comm));
    g->first = first;
    PLUMB_TRY_GOTO(st, st, fail);
    g->n_sum = plumb_tree_buffers(mine);
    g->sum = calloc((size_t)g->n_sum, sizeof(*g->sum));
    if (!g->sum)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "%d gradients", g->n_sum);
    g->sum[0] = first;
    /* The first pass counts the bytes, the second places the arrays. */
    for (int pass = 0; pass < 2 && g->n_sum > (first ? 1 : 0); pass++) {
        for (int i = first ? 1 : 0; i < g->n_sum; i++)
            PLUMB_TRY_GOTO(st, plumb_arena_take_f32(&g->arena, &g->sum[i], count, "grad"), fail);
        if (pass == 0)
            PLUMB_TRY_GOTO(st, plumb_backend_arena_alloc(backend, &g->arena), fail);
    }
    return PLUMB_OK;
fail:
    plumb_gradient_fini(g);
    return st;
}

plumb_status plumb_gradient_init(struct plumb_gradient *g, struct plumb_backend *backend,
                                 plumb_comm *comm, int64_t count, int64_t most_micro_batches)
{
    return init_whole(g, backend, comm, count, most_micro_batches, NULL);
}

plumb_status plumb_gradient_init_shared(struct plumb_gradient *g, struct plumb_backend *backend,
                                        plumb_comm *comm, int64_t count, int64_t most_micro_batches)
{
    void *first = NULL;
    const int64_t bytes = count * (int64_t)sizeof(float);
    if (plumb_comm_size(comm) > 1 && backend->place == PLUMB_HOST) {
        PLUMB_TRY(plumb_comm_agree(
            comm, plumb_memory_beside(backend, "gradient in the ranks' window", bytes)));
        /* a memory plan never reads through this pointer, but it must not be NULL */
        if (backend->dry)
            first = backend;
        else
            PLUMB_TRY(plumb_comm_alloc(comm, &first, bytes));
    }
    return init_whole(g, backend, comm, count, most_micro_batches, first);
}

plumb_status plumb_gradient_init_sharded(struct plumb_gradient *g, struct plumb_backend *backend,
                                         plumb_comm *comm, const struct plumb_gradient_parts *parts,
                                         int64_t most_micro_batches)
{
    plumb_status st = init(g, backend, comm, parts->border[parts->n], most_micro_batches);
    st = plumb_comm_agree(comm, st);
    if (st == PLUMB_OK)
        st = plumb_rounds_init(g, parts);
    if (st != PLUMB_OK)
        plumb_gradient_fini(g);
    return st;
}

struct plumb_leaves plumb_gradient_leaves(bool sharded, int64_t micro_batches, plumb_comm *comm)
{
    return (sharded ? plumb_tree_rounds : plumb_tree_row)(micro_batches, plumb_comm_rank(comm),
                                                          plumb_comm_size(comm));
}

void plumb_gradient_fini(struct plumb_gradient *g)
{
    if (g->comm && !g->backend->dry)
        plumb_comm_free(g->comm, g->first);
    if (g->backend)
        plumb_backend_arena_release(g->backend, &g->arena);
    plumb_rounds_fini(g);
    free(g->sum);
    free(g->slot);
    *g = (struct plumb_gradient){0};
}

static plumb_status run_micro_batch(struct plumb_gradient *g, float *grad, int64_t micro_batch,
                                    plumb_micro_batch_fn *fn, void *arg)
{
    struct plumb_backend *b = g->backend;
    PLUMB_TRY(b->zero(b, grad, g->count * (int64_t)sizeof(*grad)));
    return fn(arg, micro_batch, grad, g->slot + micro_batch * PLUMB_MICRO_BATCH_VALUES);
}

/* Merges the topmost buffers of the stack g->sum, whose top is sum[top]. `merges` times, adds the
 * top buffer to the buffer below it; that buffer is then the top. Only elements [begin, end) are
 * added. */
static plumb_status merge(struct plumb_gradient *g, int top, int merges, int64_t begin, int64_t end)
{
    struct plumb_backend *b = g->backend;
    for (int m = 0; m < merges && end > begin; m++, top--)
        PLUMB_TRY(
            b->k.accumulate(b->stream, g->sum[top - 1] + begin, g->sum[top] + begin, end - begin));
    return PLUMB_OK;
}

/* Runs the first n of this rank's micro-batches `mine`. If g->pause returns true, sets g->paused
 * and skips the remaining micro-batches. */
static plumb_status run_micro_batches(struct plumb_gradient *g, struct plumb_range mine, int64_t n,
                                      plumb_micro_batch_fn *fn, void *arg)
{
    for (int64_t i = 0; i < n; i++) {
        const struct plumb_tree_step at = plumb_tree_at(mine.end - mine.begin, i);
        if (g->pause && g->pause(g->pause_arg)) {
            g->paused = true;
            return PLUMB_OK;
        }
        PLUMB_TRY(run_micro_batch(g, g->sum[at.buffer], mine.begin + i, fn, arg));
        PLUMB_TRY(merge(g, at.buffer, at.merges, 0, g->count));
    }
    return PLUMB_OK;
}

static plumb_status run_all(struct plumb_gradient *g, struct plumb_range mine,
                            plumb_micro_batch_fn *fn, void *arg)
{
    if (mine.begin == mine.end)
        return plumb_gradient_empty(g->backend, g->sum[0], g->count);
    return run_micro_batches(g, mine, mine.end - mine.begin, fn, arg);
}

plumb_status plumb_gradient_final(void *gradient, int64_t from)
{
    struct plumb_gradient *g = gradient;
    if (g->rounds)
        return plumb_rounds_final(g, from);
    if (!g->last.on || g->hold)
        return PLUMB_OK;
    PLUMB_TRY(merge(g, g->last.top, g->last.merges, from, g->last.from));
    g->last.from = from;
    return plumb_comm_reduce_part(g->comm, from);
}

/* Runs this rank's last micro-batch. Meanwhile exchanges the parts of the rank's sum that are
 * already final. A rank without micro-batches contributes a sum of -0.0 at once. */
static plumb_status run_last(struct plumb_gradient *g, struct plumb_range mine,
                             plumb_micro_batch_fn *fn, void *arg)
{
    const int64_t n = mine.end - mine.begin;
    if (n == 0) {
        PLUMB_TRY(plumb_gradient_empty(g->backend, g->sum[0], g->count));
        return plumb_comm_reduce_part(g->comm, 0);
    }
    const struct plumb_tree_step at = plumb_tree_at(n, n - 1);
    g->last.on = true;
    g->last.top = at.buffer, g->last.merges = at.merges;
    g->last.from = g->count;
    plumb_status st = run_micro_batch(g, g->sum[at.buffer], mine.end - 1, fn, arg);
    if (st == PLUMB_OK)
        st = plumb_gradient_final(g, 0);
    g->last.on = false;
    return st;
}

/* Runs this rank's micro-batches; the last micro-batch runs while the ranks exchange. No rank
 * starts to exchange before all ranks have arrived at their last micro-batch. So a failure or a
 * pause before that leaves no exchange unfinished. Collective. */
static plumb_status run_overlapped(struct plumb_gradient *g, struct plumb_range mine,
                                   plumb_micro_batch_fn *fn, void *arg)
{
    const int64_t n = mine.end - mine.begin;
    plumb_status st = run_micro_batches(g, mine, n ? n - 1 : 0, fn, arg);
    PLUMB_TRY(plumb_comm_agree(g->comm, st));
    double paused = g->paused || (n && g->pause && g->pause(g->pause_arg));
    PLUMB_TRY(plumb_comm_allreduce_f64(g->comm, &paused, 1, PLUMB_MAX));
    g->paused = paused > 0;
    if (g->paused)
        return PLUMB_OK;
    plumb_comm_reduce_begin(g->comm, g->sum[0], g->count);
    st = plumb_comm_agree(g->comm, run_last(g, mine, fn, arg));
    if (st != PLUMB_OK)
        plumb_comm_reduce_drop(g->comm);
    return st;
}

plumb_status plumb_gradient_run(struct plumb_gradient *g, int64_t micro_batches,
                                plumb_micro_batch_fn *fn, void *arg,
                                double value[PLUMB_MICRO_BATCH_VALUES])
{
    PLUMB_REQUIRE(micro_batches <= g->most_micro_batches, PLUMB_ERR_NOMEM,
                  "%lld micro-batches, room for %lld", (long long)micro_batches,
                  (long long)g->most_micro_batches);
    const int64_t slots = micro_batches * PLUMB_MICRO_BATCH_VALUES;
    const struct plumb_range mine =
        plumb_tree_leaves(micro_batches, plumb_comm_rank(g->comm), plumb_comm_size(g->comm));
    memset(g->slot, 0, (size_t)(slots + 1) * sizeof(*g->slot));
    memset(value, 0, PLUMB_MICRO_BATCH_VALUES * sizeof(*value));
    g->paused = false;
    if (g->rounds)
        PLUMB_TRY(plumb_rounds_run(g, micro_batches, fn, arg));
    else if (g->overlap)
        PLUMB_TRY(run_overlapped(g, mine, fn, arg));
    else
        PLUMB_TRY(plumb_comm_agree(g->comm, run_all(g, mine, fn, arg)));
    /* The last element of slot, after the values of the micro-batches, counts the ranks that
     * skipped micro-batches. */
    g->slot[slots] = g->paused;
    PLUMB_TRY(plumb_comm_allreduce_f64(g->comm, g->slot, slots + 1, PLUMB_SUM));
    g->paused = g->slot[slots] > 0;
    if (g->paused)
        return PLUMB_OK;
    /* add the micro-batches in their order, so that the sum is the same for any number of ranks */
    for (int64_t i = 0; i < slots; i++)
        value[i % PLUMB_MICRO_BATCH_VALUES] += g->slot[i];
    return PLUMB_OK;
}

/* ---- the gradient of one micro-batch ------------------------------------------------------- */

plumb_status plumb_gradient_alone(struct plumb_gradient *g, float *out, int64_t micro_batch,
                                  plumb_micro_batch_fn *fn, void *arg,
                                  double value[PLUMB_MICRO_BATCH_VALUES])
{
    struct plumb_backend *b = g->backend;
    const int64_t bytes = g->count * (int64_t)sizeof(*out);
    if (g->rounds)
        return plumb_rounds_alone(g, out, micro_batch, fn, arg, value);
    PLUMB_TRY(b->zero(b, g->sum[0], bytes));
    PLUMB_TRY(fn(arg, micro_batch, g->sum[0], value));
    return b->to_host(b, out, g->sum[0], bytes);
}

void plumb_gradient_keep(struct plumb_gradient *g, float *out)
{
    g->hold = out != NULL;
    if (g->rounds)
        g->rounds->keep = out;
}

plumb_status plumb_gradient_take(struct plumb_gradient *g, float *out, const float *grad)
{
    plumb_status st = PLUMB_OK;
    if (g->rounds)
        st = plumb_rounds_final(g, 0);
    else
        st = g->backend->to_host(g->backend, out, grad, g->count * (int64_t)sizeof(*out));
    plumb_gradient_keep(g, NULL);
    return st;
}

/* ---- a sharded gradient -------------------------------------------------------------------- */

plumb_status plumb_gradient_place(void *gradient, float **grad, int64_t begin, int64_t end)
{
    return plumb_rounds_place(gradient, grad, begin, end);
}

const struct plumb_shards *plumb_gradient_shards(const struct plumb_gradient *g)
{
    return g->rounds ? &g->rounds->shards : NULL;
}

float *plumb_gradient_shard(const struct plumb_gradient *g)
{
    return g->rounds->stored[0];
}

float *const *plumb_gradient_scratch(const struct plumb_gradient *g)
{
    return g->rounds ? g->rounds->scratch : g->sum;
}

plumb_status plumb_gradient_gather(struct plumb_gradient *g, float *out)
{
    return plumb_rounds_gather(g, out);
}

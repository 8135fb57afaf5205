/* gradient_rounds.c - the sharded gradient. In a round each rank runs at most one micro-batch; each
 * bucket is exchanged as soon as the backward has completed it, and each rank adds its shard of the
 * result to its stored sums.
 * Layer 5. Includes train/gradient_rounds.h, base/, comm/tree.h. */
#include "train/gradient_rounds.h"

#include <stdlib.h>

#include "base/num.h"
#include "comm/tree.h"

/* ---- buckets and memory -------------------------------------------------------------------- */

static int64_t to_block(int64_t at, int64_t count)
{
    const int64_t blocks = plumb_ceil_div(at, PLUMB_SHARD_BLOCK);
    return plumb_min_i64(blocks * PLUMB_SHARD_BLOCK, count);
}

/* Joins neighbouring parts to buckets of at least `least` elements, from the last part to the
 * first. Bucket 0 gets the remaining parts, which may have fewer elements. Returns the number of
 * buckets. Writes the buckets to out, in ascending order of their elements, unless out is NULL. */
static int64_t join_parts(struct plumb_bucket *out, const struct plumb_gradient_parts *p,
                          int64_t count, int64_t least, int64_t buckets)
{
    int64_t n = 0, end = count;
    for (int64_t i = p->n - 1; i >= 0; i--) {
        const int64_t begin = p->border[i], size = to_block(end, count) - to_block(begin, count);
        if (i > 0 && size < least)
            continue;
        if (end == begin && n > 0)
            continue;
        if (out)
            out[buckets - 1 - n] = (struct plumb_bucket){.begin = begin, .end = end};
        n++;
        end = begin;
    }
    return n;
}

/* Chooses the buffer of each bucket, and sets the sizes of the buffers. Neighbouring buckets have
 * different buffers, so that the backward can compute one bucket while the other is exchanged.
 * tied: the backward also writes bucket 0 at its start, so no other bucket may use the edge
 * buffer. */
static void choose_buffers(struct plumb_rounds *r, bool tied)
{
    const int64_t n = r->shards.buckets;
    for (int64_t k = 0; k < n; k++) {
        struct plumb_bucket *b = &r->bucket[k];
        const bool edge = k == 0 || (k == n - 1 && n >= 3 && !tied);
        b->buffer = edge ? PLUMB_ROUND_EDGE : PLUMB_ROUND_RING + (int)((n - 1 - k) % 2);
        const int64_t floats = plumb_ceil_div(r->shards.border[k + 1] - b->begin, 64) * 64;
        r->size[b->buffer] = plumb_max_i64(r->size[b->buffer], floats);
    }
}

/* Sets *shards to the borders of the buckets and this rank's runs, and *bucket to a new array of
 * the buckets, which the caller frees. A bucket has at least four blocks per rank, so that the
 * shards are about equal. */
static plumb_status divide(struct plumb_shards *shards, struct plumb_bucket **bucket,
                           const plumb_comm *comm, const struct plumb_gradient_parts *p)
{
    const int64_t four = 4 * (int64_t)PLUMB_SHARD_BLOCK * plumb_comm_size(comm);
    const int64_t least = plumb_max_i64(p->bucket, four), count = p->border[p->n];
    const int64_t n = join_parts(NULL, p, count, least, 0);
    int64_t *border = calloc((size_t)n + 1, sizeof(*border));
    plumb_status st = PLUMB_OK;
    *bucket = calloc((size_t)n, sizeof(**bucket));
    if (!*bucket || !border)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, done, "%lld buckets", (long long)n);
    join_parts(*bucket, p, count, least, n);
    for (int64_t k = 1; k < n; k++)
        border[k] = to_block((*bucket)[k].begin, count);
    border[n] = count;
    st = plumb_shards_init(shards, comm, border, n);
done:
    free(border);
    return st;
}

plumb_status plumb_rounds_divide(struct plumb_shards *out, const plumb_comm *comm,
                                 const struct plumb_gradient_parts *parts)
{
    struct plumb_bucket *bucket = NULL;
    *out = (struct plumb_shards){0};
    const plumb_status st = divide(out, &bucket, comm, parts);
    free(bucket);
    return st;
}

static plumb_status make_buckets(struct plumb_gradient *g, const struct plumb_gradient_parts *p)
{
    struct plumb_rounds *r = g->rounds;
    PLUMB_TRY(divide(&r->shards, &r->bucket, g->comm, p));
    r->scratch = calloc((size_t)r->shards.buckets, sizeof(*r->scratch));
    PLUMB_REQUIRE(r->scratch, PLUMB_ERR_NOMEM, "%lld buckets", (long long)r->shards.buckets);
    choose_buffers(r, p->tied);
    return PLUMB_OK;
}

/* Allocates the stored sums from the arena, and also the buffers, unless the communicator owns the
 * buffers (take_window). */
static plumb_status take(struct plumb_gradient *g)
{
    struct plumb_rounds *r = g->rounds;
    static const char *const name[] = {"grad of the edge", "grad, ring", "grad, ring"};
    for (int i = 0; i < PLUMB_ROUND_BUFFERS && !g->first; i++)
        PLUMB_TRY(plumb_arena_take_f32(&g->arena, &r->buffer[i], r->size[i], name[i]));
    for (int i = 0; i < r->n_stored; i++)
        PLUMB_TRY(plumb_arena_take_f32(&g->arena, &r->stored[i], r->shards.count, "grad shards"));
    return PLUMB_OK;
}

/* On a CPU with several ranks, allocates the buffers in memory that the other ranks of the host can
 * read. Otherwise does nothing; take() then allocates the buffers from the arena. */
static plumb_status take_window(struct plumb_gradient *g)
{
    struct plumb_rounds *r = g->rounds;
    int64_t floats = 0;
    void *window = NULL;
    if (plumb_comm_size(g->comm) == 1 || g->backend->place != PLUMB_HOST)
        return PLUMB_OK;
    for (int i = 0; i < PLUMB_ROUND_BUFFERS; i++)
        floats += r->size[i];
    const int64_t bytes = floats * (int64_t)sizeof(float);
    PLUMB_TRY(plumb_comm_agree(
        g->comm, plumb_memory_beside(g->backend, "gradient in the ranks' window", bytes)));
    if (g->backend->dry) {
        g->first = (float *)(void *)g->backend; /* never read through, but must not be NULL */
        return PLUMB_OK;
    }
    PLUMB_TRY(plumb_comm_alloc(g->comm, &window, bytes));
    g->first = window;
    r->buffer[0] = g->first;
    for (int i = 1; i < PLUMB_ROUND_BUFFERS; i++)
        r->buffer[i] = r->buffer[i - 1] + r->size[i - 1];
    return PLUMB_OK;
}

plumb_status plumb_rounds_init(struct plumb_gradient *g, const struct plumb_gradient_parts *parts)
{
    const int64_t rounds = plumb_ceil_div(g->most_micro_batches, plumb_comm_size(g->comm));
    struct plumb_rounds *r = g->rounds = calloc(1, sizeof(*r));
    plumb_status st = r ? PLUMB_OK : PLUMB_ERR_NOMEM;
    if (!r)
        st = plumb_fail_at(st, __FILE__, __LINE__, "sharded gradient");
    if (st == PLUMB_OK)
        st = make_buckets(g, parts);
    PLUMB_TRY(plumb_comm_agree(g->comm, st));
    PLUMB_TRY(take_window(g));
    r->n_stored = (int)plumb_max_i64(plumb_tree_stored(rounds), 1);
    r->stored = calloc((size_t)r->n_stored, sizeof(*r->stored));
    PLUMB_REQUIRE(r->stored, PLUMB_ERR_NOMEM, "sums of %lld rounds", (long long)rounds);
    PLUMB_TRY(take(g)); /* this call only counts the bytes */
    PLUMB_TRY(plumb_backend_arena_alloc(g->backend, &g->arena));
    PLUMB_TRY(take(g));
    for (int64_t k = 0; k < r->shards.buckets; k++)
        r->scratch[k] = r->buffer[r->bucket[k].buffer];
    return PLUMB_OK;
}

void plumb_rounds_fini(struct plumb_gradient *g)
{
    struct plumb_rounds *r = g->rounds;
    if (!r)
        return;
    plumb_shards_fini(&r->shards);
    free(r->bucket);
    free(r->scratch);
    free(r->stored);
    free(r);
}

/* ---- one bucket ---------------------------------------------------------------------------- */

/* Returns the address of element `at` of the vector in the buffer of bucket k. */
static float *element(const struct plumb_rounds *r, int64_t k, int64_t at)
{
    return r->buffer[r->bucket[k].buffer] + (at - r->bucket[k].begin);
}

/* Adds this rank's shard of bucket k to the stored sums. The shard holds the sum over the ranks in
 * the running round. In the order of the tree, it either becomes a new stored sum or is merged with
 * earlier sums. */
static plumb_status store(struct plumb_gradient *g, int64_t k)
{
    struct plumb_rounds *r = g->rounds;
    struct plumb_backend *b = g->backend;
    const struct plumb_tree_step at = plumb_tree_at(r->rounds, r->at);
    const struct plumb_shard_run *run = &r->shards.run[k];
    const int64_t n = run->end - run->begin;
    const float *x = element(r, k, run->begin);
    if (n == 0)
        return PLUMB_OK;
    if (at.merges == 0)
        return b->copy(b, r->stored[at.buffer] + run->at, x, n * (int64_t)sizeof(*x));
    for (int top = at.buffer; top > at.buffer - at.merges; top--) {
        PLUMB_TRY(b->k.accumulate(b->stream, r->stored[top - 1] + run->at, x, n));
        x = r->stored[top - 1] + run->at;
    }
    return PLUMB_OK;
}

/* Completes the exchange of the bucket that is in flight, if there is one, and adds this rank's
 * shard of the result to the stored sums. */
static plumb_status finish(struct plumb_gradient *g)
{
    struct plumb_rounds *r = g->rounds;
    const int64_t k = r->in_flight;
    if (k < 0)
        return PLUMB_OK;
    const int64_t begin = r->shards.border[k], n = r->shards.border[k + 1] - begin;
    r->in_flight = -1;
    PLUMB_TRY(plumb_comm_reduce_tree(g->comm, element(r, k, begin), n, g->backend->place));
    return store(g, k);
}

/* Completes the exchange that is in flight, if there is one, and begins the exchange of bucket k.
 * Without g->overlap, also completes the exchange of bucket k. */
static plumb_status exchange(struct plumb_gradient *g, int64_t k)
{
    struct plumb_rounds *r = g->rounds;
    const int64_t begin = r->shards.border[k], n = r->shards.border[k + 1] - begin;
    PLUMB_TRY(finish(g));
    r->in_flight = k;
    if (!g->overlap)
        return finish(g);
    plumb_comm_reduce_begin(g->comm, element(r, k, begin), n);
    return plumb_comm_reduce_part(g->comm, 0);
}

/* Prepares the buffer of bucket k, unless this was already done in this round. First completes the
 * exchange of another bucket that uses the same buffer. Then fills the buffer with zeros, or with
 * -0.0 if this rank has no micro-batch in the round. */
static plumb_status open_bucket(struct plumb_gradient *g, int64_t k)
{
    struct plumb_rounds *r = g->rounds;
    struct plumb_bucket *b = &r->bucket[k];
    if (b->open)
        return PLUMB_OK;
    if (r->in_flight >= 0 && r->bucket[r->in_flight].buffer == b->buffer)
        PLUMB_TRY(finish(g));
    b->open = true;
    float *x = element(r, k, b->begin);
    if (r->nothing)
        return plumb_gradient_empty(g->backend, x, b->end - b->begin);
    return g->backend->zero(g->backend, x, (b->end - b->begin) * (int64_t)sizeof(*x));
}

/* Completes bucket k: copies those elements of bucket k that were computed in the buffer of bucket
 * k + 1 to the buffer of bucket k. If r->keep is set, also copies to r->keep the elements that the
 * backward of bucket k wrote. */
static plumb_status complete(struct plumb_gradient *g, int64_t k)
{
    struct plumb_rounds *r = g->rounds;
    struct plumb_backend *b = g->backend;
    const int64_t begin = r->bucket[k].begin, end = r->bucket[k].end;
    const int64_t carry = r->shards.border[k + 1] - end, size = (int64_t)sizeof(float);
    PLUMB_TRY(open_bucket(g, k));
    if (carry > 0)
        PLUMB_TRY(b->copy(b, element(r, k, end), element(r, k + 1, end), carry * size));
    return r->keep ? b->to_host(b, r->keep + begin, element(r, k, begin), (end - begin) * size)
                   : PLUMB_OK;
}

/* ---- one round ----------------------------------------------------------------------------- */

static void begin_round(struct plumb_rounds *r, bool nothing)
{
    r->state = PLUMB_ROUND_ALONE;
    r->nothing = nothing;
    r->next = r->shards.buckets - 1;
    r->in_flight = -1;
    for (int64_t k = 0; k < r->shards.buckets; k++)
        r->bucket[k].open = false;
}

/* Begins the exchange of this round on all ranks or, if a rank has failed, on no rank. local: this
 * rank's status so far. Every rank calls this function once per round, when its first bucket is
 * complete or, if it completes none, when its micro-batch has ended. Collective. */
static plumb_status enter_exchange(struct plumb_gradient *g, plumb_status local)
{
    const plumb_status st = plumb_comm_agree(g->comm, local);
    g->rounds->state = st == PLUMB_OK ? PLUMB_ROUND_EXCHANGE : PLUMB_ROUND_FAILED;
    return st;
}

/* Completes and exchanges the next bucket. Once the exchange of the round has begun, a rank that
 * has failed (sound = false) still exchanges its buffers, with invalid content, so that no other
 * rank waits for this rank. The ranks agree on the failure in the next round. */
static plumb_status close_bucket(struct plumb_gradient *g, bool sound)
{
    struct plumb_rounds *r = g->rounds;
    const int64_t k = r->next--;
    const plumb_status st = sound ? complete(g, k) : PLUMB_OK;
    if (r->alone)
        return st;
    if (r->state == PLUMB_ROUND_ALONE)
        PLUMB_TRY(enter_exchange(g, st));
    const plumb_status moved = exchange(g, k);
    return moved != PLUMB_OK ? moved : st;
}

plumb_status plumb_rounds_final(struct plumb_gradient *g, int64_t from)
{
    struct plumb_rounds *r = g->rounds;
    while (r->state != PLUMB_ROUND_NONE && r->next >= 0 && r->bucket[r->next].begin >= from)
        PLUMB_TRY(close_bucket(g, true));
    return PLUMB_OK;
}

plumb_status plumb_rounds_place(struct plumb_gradient *g, float **grad, int64_t begin, int64_t end)
{
    const struct plumb_rounds *r = g->rounds;
    int64_t k = 0;
    while (k < r->next && end > r->bucket[k].end)
        k++;
    const struct plumb_bucket *b = &r->bucket[k];
    PLUMB_REQUIRE(r->state != PLUMB_ROUND_NONE && begin >= b->begin && end <= b->end, PLUMB_ERR_ARG,
                  "gradient of [%lld, %lld): it is no part of a micro-batch that runs",
                  (long long)begin, (long long)end);
    PLUMB_TRY(open_bucket(g, k));
    /* *grad is the address that element 0 of the whole vector would have; it may be outside of the
     * buffer. */
    *grad = (float *)((uintptr_t)element(r, k, b->begin) -
                      (uintptr_t)(b->begin * (int64_t)sizeof(float)));
    return PLUMB_OK;
}

/* Runs one round on this rank: computes its micro-batch and exchanges all buckets. micro_batch is
 * -1 if the rank has none in this round; the rank then contributes -0.0, which changes no sum. st:
 * this rank's status before the round. Returns its status after the round. */
static plumb_status run_round(struct plumb_gradient *g, plumb_status st, int64_t micro_batch,
                              plumb_micro_batch_fn *fn, void *arg)
{
    struct plumb_rounds *r = g->rounds;
    begin_round(r, micro_batch < 0);
    if (st == PLUMB_OK && micro_batch >= 0)
        st = fn(arg, micro_batch, NULL, g->slot + micro_batch * PLUMB_MICRO_BATCH_VALUES);
    if (r->state == PLUMB_ROUND_ALONE)
        st = enter_exchange(g, st);
    while (r->state != PLUMB_ROUND_FAILED && r->next >= 0) {
        const plumb_status closed = close_bucket(g, st == PLUMB_OK);
        st = st != PLUMB_OK ? st : closed;
    }
    if (r->state != PLUMB_ROUND_FAILED) {
        const plumb_status last = finish(g);
        st = st != PLUMB_OK ? st : last;
    }
    return st;
}

/* Sets g->paused on all ranks to true if g->pause returns true on any rank, else to false.
 * Collective. */
static plumb_status agree_pause(struct plumb_gradient *g)
{
    double paused = g->pause && g->pause(g->pause_arg);
    PLUMB_TRY(plumb_comm_allreduce_f64(g->comm, &paused, 1, PLUMB_MAX));
    g->paused = paused > 0;
    return PLUMB_OK;
}

plumb_status plumb_rounds_run(struct plumb_gradient *g, int64_t micro_batches,
                              plumb_micro_batch_fn *fn, void *arg)
{
    struct plumb_rounds *r = g->rounds;
    const int rank = plumb_comm_rank(g->comm), size = plumb_comm_size(g->comm);
    plumb_status st = PLUMB_OK;
    r->rounds = plumb_ceil_div(micro_batches, size);
    for (r->at = 0; r->at < r->rounds; r->at++) {
        PLUMB_TRY(agree_pause(g));
        if (g->paused) /* the other ranks do not know yet if this rank failed in the round before */
            return plumb_comm_agree(g->comm, st);
        const int64_t micro_batch = r->at * size + rank;
        st = run_round(g, st, micro_batch < micro_batches ? micro_batch : -1, fn, arg);
        const bool failed = r->state == PLUMB_ROUND_FAILED;
        r->state = PLUMB_ROUND_NONE;
        /* all ranks know of this failure; they learn of any other failure in the next round */
        if (failed)
            return st;
    }
    return plumb_comm_agree(g->comm, st);
}

/* ---- one micro-batch alone, and gathering the sum ------------------------------------------ */

plumb_status plumb_rounds_alone(struct plumb_gradient *g, float *out, int64_t micro_batch,
                                plumb_micro_batch_fn *fn, void *arg,
                                double value[PLUMB_MICRO_BATCH_VALUES])
{
    struct plumb_rounds *r = g->rounds;
    begin_round(r, false);
    r->alone = true;
    r->keep = out;
    plumb_status st = fn(arg, micro_batch, NULL, value);
    if (st == PLUMB_OK)
        st = plumb_rounds_final(g, 0);
    r->alone = false;
    r->keep = NULL;
    r->state = PLUMB_ROUND_NONE;
    return st;
}

plumb_status plumb_rounds_gather(struct plumb_gradient *g, float *out)
{
    struct plumb_rounds *r = g->rounds;
    struct plumb_backend *b = g->backend;
    const int64_t size = (int64_t)sizeof(float);
    plumb_status st = PLUMB_OK;
    for (int64_t k = 0; k < r->shards.buckets; k++) {
        const struct plumb_shard_run *run = &r->shards.run[k];
        const int64_t begin = r->shards.border[k], n = r->shards.border[k + 1] - begin;
        float *x = r->scratch[k];
        if (st == PLUMB_OK)
            st = b->copy(b, x + (run->begin - begin), r->stored[0] + run->at,
                         (run->end - run->begin) * size);
        PLUMB_TRY(plumb_comm_agree(g->comm, st));
        PLUMB_TRY(plumb_comm_allgather_shards(g->comm, x, n, b->place));
        if (out)
            st = b->to_host(b, out + begin, x, n * size);
    }
    return plumb_comm_agree(g->comm, st);
}

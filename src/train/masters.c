/* masters.c - updates, hashes and gathers float32 master weights ("masters") that are divided among
 * the ranks.
 * Layer 5. Includes train/masters.h, train/gradient_parts.h, base/, io/. */
#include "train/masters.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "io/file.h"
#include "train/gradient_parts.h"

_Static_assert(PLUMB_HASH_BLOCK == PLUMB_SHARD_BLOCK, "a rank has whole blocks of the hash");

/* ---- memory -------------------------------------------------------------------------------- */

bool plumb_masters_wanted(const struct plumb_config *cfg, const struct plumb_backend *b,
                          bool adapter)
{
    return cfg->train.shard == PLUMB_SHARD_GRADIENTS && b->dtype == PLUMB_BF16 && !adapter;
}

static int64_t blocks_of(int64_t n)
{
    return plumb_ceil_div(n, PLUMB_HASH_BLOCK);
}

static plumb_status open(void *arg, const plumb_model *m)
{
    struct plumb_masters *s = arg;
    struct plumb_backend *b = s->backend;
    const size_t blocks = (size_t)blocks_of(m->count) + 1;
    void *w = NULL, *hash = NULL;
    PLUMB_TRY(plumb_gradient_divide(&s->shards, m, s->comm, s->cfg));
    s->model = m;
    const int64_t n = s->shards.count;
    if (n > 0) {
        PLUMB_TRY(b->alloc(b, &w, n * (int64_t)sizeof(float), "master weights"));
        s->w = w;
        PLUMB_TRY(b->alloc(b, &hash, blocks_of(n) * (int64_t)sizeof(uint64_t), "hashes"));
        s->hash_device = hash;
        PLUMB_TRY(b->zero(b, s->w, n * (int64_t)sizeof(float)));
    }
    s->hash = calloc(blocks, sizeof(*s->hash));
    s->gathered = calloc(blocks, sizeof(*s->gathered));
    s->bytes = calloc((size_t)plumb_comm_size(s->comm), sizeof(*s->bytes));
    PLUMB_REQUIRE(s->hash && s->gathered && s->bytes, PLUMB_ERR_NOMEM, "the hashes of %lld weights",
                  (long long)m->count);
    return PLUMB_OK;
}

static plumb_status put(void *arg, const struct plumb_param *p, const float *w)
{
    const struct plumb_masters *s = arg;
    for (int64_t k = 0; k < s->shards.buckets; k++) {
        const struct plumb_shard_run r =
            plumb_shards_cut(&s->shards, k, p->offset, p->offset + p->count);
        if (r.end > r.begin)
            PLUMB_TRY(s->backend->to_device(s->backend, s->w + r.at, w + (r.begin - p->offset),
                                            (r.end - r.begin) * (int64_t)sizeof(*w)));
    }
    return PLUMB_OK;
}

static plumb_status get(void *arg, const struct plumb_param *p, float *w);

void plumb_masters_init(struct plumb_masters *m, const struct plumb_config *cfg, plumb_comm *comm,
                        struct plumb_backend *backend)
{
    *m = (struct plumb_masters){.hook = {.open = open, .put = put, .get = get, .arg = m},
                                .cfg = cfg,
                                .comm = comm,
                                .backend = backend,
                                .at = -1};
}

void plumb_masters_fini(struct plumb_masters *m)
{
    if (m->backend) {
        m->backend->release(m->backend, m->w);
        m->backend->release(m->backend, m->hash_device);
    }
    plumb_shards_fini(&m->shards);
    free(m->hash);
    free(m->gathered);
    free(m->bytes);
    *m = (struct plumb_masters){0};
}

struct plumb_masters *plumb_masters_of(const plumb_model *m)
{
    return m->masters ? m->masters->arg : NULL;
}

/* ---- fingerprint ---------------------------------------------------------------------------- */

/* Sets the first elements of s->hash to the hashes of the blocks of this rank's shard, in the order
 * of the shard. */
static plumb_status hash_shard(struct plumb_masters *s)
{
    struct plumb_backend *b = s->backend;
    for (int64_t k = 0; k < s->shards.buckets; k++) {
        const struct plumb_shard_run *r = &s->shards.run[k];
        assert(r->end == r->begin || r->at % PLUMB_HASH_BLOCK == 0);
        if (r->end > r->begin)
            PLUMB_TRY(b->k.hash_blocks(b->stream, s->hash_device + r->at / PLUMB_HASH_BLOCK,
                                       s->w + r->at, r->end - r->begin));
    }
    if (s->shards.count == 0)
        return PLUMB_OK;
    PLUMB_TRY(b->sync(b));
    return b->to_host(b, s->hash, s->hash_device,
                      blocks_of(s->shards.count) * (int64_t)sizeof(*s->hash));
}

/* Copies the hashes in s->gathered, which are in the order of the ranks, to s->hash in the order of
 * the vector's blocks. */
static void order_hashes(struct plumb_masters *s)
{
    const uint64_t *from = s->gathered;
    for (int r = 0; r < plumb_comm_size(s->comm); r++)
        for (int64_t k = 0; k < s->shards.buckets; k++) {
            const int64_t begin = s->shards.border[k], size = s->shards.border[k + 1] - begin;
            const struct plumb_range own = plumb_comm_shard(s->comm, size, r);
            const int64_t n = blocks_of(own.end - own.begin);
            memcpy(s->hash + (begin + own.begin) / PLUMB_HASH_BLOCK, from,
                   (size_t)n * sizeof(*from));
            from += n;
        }
}

plumb_status plumb_masters_hash(struct plumb_masters *s, uint64_t *hash)
{
    const int64_t size = (int64_t)sizeof(*s->hash), all = blocks_of(s->model->count) * size;
    PLUMB_TRY(plumb_comm_agree(s->comm, hash_shard(s)));
    PLUMB_TRY(plumb_comm_allgather(s->comm, s->gathered, all, s->bytes, s->hash,
                                   blocks_of(s->shards.count) * size));
    order_hashes(s);
    *hash = plumb_hash(s->hash, all, 0);
    return PLUMB_OK;
}

/* ---- after an update ------------------------------------------------------------------------ */

/* Writes this rank's masters, rounded to bfloat16, to their places in the packed weights. */
static plumb_status round_shard(const struct plumb_masters *s)
{
    struct plumb_backend *b = s->backend;
    plumb_bf16 *packed = (void *)s->model->packed;
    for (int64_t k = 0; k < s->shards.buckets; k++) {
        const struct plumb_shard_run *r = &s->shards.run[k];
        if (r->end > r->begin)
            PLUMB_TRY(b->k.bf16.narrow_fwd(b->stream, packed + r->begin, s->w + r->at,
                                           r->end - r->begin));
    }
    return b->sync(b);
}

/* Sets the elements of the model's w that belong to this rank's shard to their masters, and all
 * other elements to -0.0. (w has norms, biases and learned positions.) */
static plumb_status place_held(const struct plumb_masters *s)
{
    struct plumb_backend *b = s->backend;
    const plumb_model *m = s->model;
    PLUMB_TRY(plumb_gradient_empty(b, m->w, m->n_held));
    for (int64_t i = 0; i < m->n_param; i++) {
        const struct plumb_param *p = &m->param[i];
        for (int64_t k = 0; k < s->shards.buckets && p->held >= 0; k++) {
            const struct plumb_shard_run r =
                plumb_shards_cut(&s->shards, k, p->offset, p->offset + p->count);
            if (r.end > r.begin)
                PLUMB_TRY(b->copy(b, m->w + p->held + (r.begin - p->offset), s->w + r.at,
                                  (r.end - r.begin) * (int64_t)sizeof(*s->w)));
        }
    }
    return b->sync(b);
}

plumb_status plumb_masters_update(struct plumb_masters *s, plumb_model *m)
{
    const enum plumb_place place = s->backend->place;
    uint64_t hash = 0;
    assert(s->model == m);
    PLUMB_TRY(plumb_comm_agree(s->comm, round_shard(s)));
    for (int64_t k = 0; k < s->shards.buckets; k++) {
        const int64_t begin = s->shards.border[k], n = s->shards.border[k + 1] - begin;
        PLUMB_TRY(plumb_comm_allgather_halves(s->comm, plumb_real_at(s->backend, m->packed, begin),
                                              n, place));
    }
    /* The tensors of w can be in the shards of different ranks, so w is summed over the ranks. Each
     * element is the master of one rank plus -0.0 from the other ranks, which changes no bit. */
    PLUMB_TRY(plumb_comm_agree(s->comm, place_held(s)));
    PLUMB_TRY(plumb_comm_reduce_tree(s->comm, m->w, m->n_held, place));
    PLUMB_TRY(plumb_comm_allgather_shards(s->comm, m->w, m->n_held, place));
    PLUMB_TRY(plumb_masters_hash(s, &hash));
    return plumb_comm_agree(s->comm, plumb_model_replaced(m, hash));
}

plumb_status plumb_masters_copy(struct plumb_masters *to, const struct plumb_masters *from)
{
    assert(to->shards.count == from->shards.count);
    return from->shards.count == 0
               ? PLUMB_OK
               : to->backend->copy(to->backend, to->w, from->w,
                                   from->shards.count * (int64_t)sizeof(*to->w));
}

/* ---- reads of rank 0 ------------------------------------------------------------------------ */

enum { OVER = -1 }; /* rank 0 broadcasts this value after its last read */

/* Broadcasts *k, the bucket that rank 0 reads next, from rank 0 to all ranks. Collective. */
static plumb_status tell(struct plumb_masters *s, int64_t *k)
{
    return plumb_comm_broadcast(s->comm, k, sizeof(*k), 0);
}

/* Returns the scratch memory of bucket k, which a read overwrites on all ranks. */
static float *scratch_of(const struct plumb_masters *s, int64_t k)
{
    return (s->like ? s->like : s)->scratch[k];
}

/* Sets s->hash to the hashes of all blocks, computed from the masters in the ranks' memory, and
 * fails if the hash of these hashes is not the model's fingerprint. Later calls do nothing until
 * plumb_masters_finish. Collective; the result is the same on every rank. */
static plumb_status list_hashes(struct plumb_masters *s)
{
    uint64_t hash = 0;
    if (s->listed)
        return PLUMB_OK;
    PLUMB_TRY(plumb_masters_hash(s, &hash));
    PLUMB_REQUIRE(hash == s->model->fingerprint, PLUMB_ERR_NUMERIC,
                  "the ranks' master weights are %016" PRIx64
                  " in memory, but their fingerprint is %016" PRIx64
                  ": something else wrote to them, so they are not saved (bad memory? resume from "
                  "the last checkpoint)",
                  hash, s->model->fingerprint);
    s->listed = true;
    return PLUMB_OK;
}

/* Gathers bucket k of the masters in its scratch memory. Collective. */
static plumb_status gather(struct plumb_masters *s, int64_t k)
{
    struct plumb_backend *b = s->backend;
    float *x = scratch_of(s, k);
    const int64_t begin = s->shards.border[k], n = s->shards.border[k + 1] - begin;
    const struct plumb_shard_run *r = &s->shards.run[k];
    plumb_status st = list_hashes(s);
    if (st == PLUMB_OK && r->end > r->begin)
        st = b->copy(b, x + (r->begin - begin), s->w + r->at,
                     (r->end - r->begin) * (int64_t)sizeof(*s->w));
    st = plumb_comm_agree(s->comm, st);
    if (st == PLUMB_OK)
        st = plumb_comm_allgather_shards(s->comm, x, n, b->place);
    s->failed = st != PLUMB_OK;
    return st;
}

/* Fails with a message about a block that rank 0 received with other bits than its owner has. The
 * block begins `at` elements after the beginning of bucket k. */
static plumb_status refuse_block(const struct plumb_masters *s, int64_t k, int64_t at)
{
    const int64_t begin = s->shards.border[k], n = s->shards.border[k + 1] - begin;
    const int64_t last = plumb_min_i64(at + PLUMB_HASH_BLOCK, n) - 1;
    int rank = 0;
    while (plumb_comm_shard(s->comm, n, rank).end <= at)
        rank++;
    PLUMB_FAIL(PLUMB_ERR_NUMERIC,
               "elements %lld to %lld of the master weights came to rank 0 with other bits than "
               "rank %d has, so they are not saved (a bad link or bad memory? resume from the last "
               "checkpoint)",
               (long long)(begin + at), (long long)(begin + last), rank);
}

/* Compares the hashes of the blocks of bucket k, as rank 0 received them, with s->hash, the hashes
 * that the ranks computed of their own blocks. hash_device has room only for the hashes of one
 * shard, so a bucket may be hashed in several pieces. */
static plumb_status check_bucket(struct plumb_masters *s, int64_t k)
{
    struct plumb_backend *b = s->backend;
    const float *x = scratch_of(s, k);
    const int64_t begin = s->shards.border[k], n = s->shards.border[k + 1] - begin;
    const int64_t most = blocks_of(s->shards.count) * PLUMB_HASH_BLOCK;
    const int64_t first = begin / PLUMB_HASH_BLOCK;
    assert(most > 0); /* rank 0 owns a part of every bucket */
    for (int64_t at = 0; at < n; at += most) {
        const int64_t piece = plumb_min_i64(n - at, most);
        PLUMB_TRY(b->k.hash_blocks(b->stream, s->hash_device, x + at, piece));
        PLUMB_TRY(b->sync(b));
        PLUMB_TRY(b->to_host(b, s->gathered + first + at / PLUMB_HASH_BLOCK, s->hash_device,
                             blocks_of(piece) * (int64_t)sizeof(*s->gathered)));
    }
    for (int64_t i = 0; i < blocks_of(n); i++)
        if (s->gathered[first + i] != s->hash[first + i])
            return refuse_block(s, k, i * PLUMB_HASH_BLOCK);
    return PLUMB_OK;
}

static plumb_status read_bucket(struct plumb_masters *s, int64_t k)
{
    PLUMB_REQUIRE(!s->failed && plumb_comm_rank(s->comm) == 0, PLUMB_ERR_ARG,
                  "master weights: only rank 0 reads them, and not after a failure");
    if (s->at == k)
        return PLUMB_OK;
    s->at = -1;
    PLUMB_TRY(tell(s, &(int64_t){k}));
    PLUMB_TRY(gather(s, k));
    PLUMB_TRY(check_bucket(s, k));
    s->at = k;
    return PLUMB_OK;
}

static plumb_status get(void *arg, const struct plumb_param *p, float *w)
{
    struct plumb_masters *s = arg;
    const int64_t size = (int64_t)sizeof(*w);
    for (int64_t k = 0; k < s->shards.buckets; k++) {
        const int64_t begin = plumb_max_i64(p->offset, s->shards.border[k]);
        const int64_t end = plumb_min_i64(p->offset + p->count, s->shards.border[k + 1]);
        if (begin >= end)
            continue;
        PLUMB_TRY(read_bucket(s, k));
        PLUMB_TRY(s->backend->to_host(s->backend, w + (begin - p->offset),
                                      scratch_of(s, k) + (begin - s->shards.border[k]),
                                      (end - begin) * size));
    }
    return PLUMB_OK;
}

/* Sends this rank's shares of the buckets that rank 0 reads, until rank 0 has called
 * plumb_masters_finish. */
static plumb_status serve(struct plumb_masters *s)
{
    int64_t k = 0;
    while (!s->failed) {
        PLUMB_TRY(tell(s, &k));
        if (k == OVER)
            break;
        PLUMB_TRY(gather(s, k));
    }
    return PLUMB_OK;
}

plumb_status plumb_masters_finish(const plumb_model *m, plumb_status st)
{
    struct plumb_masters *s = plumb_masters_of(m);
    plumb_status done = PLUMB_OK;
    int64_t over = OVER;
    if (!s)
        return st;
    if (plumb_comm_rank(s->comm) > 0)
        done = serve(s);
    else if (!s->failed)
        done = tell(s, &over);
    s->failed = s->listed = false;
    s->at = -1;
    return st != PLUMB_OK ? st : done;
}

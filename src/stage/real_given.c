/* real_given.c - the method REAL on given pairs: trains on a share of the pairs, selected by the
 * embeddings of their completions.
 * Layer 5. Includes stage/method.h, train/embed.h, base/.
 * Source: arXiv:2409.17169. */
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/num.h"
#include "stage/method.h"
#include "train/embed.h"

struct real {
    struct plumb_embed embed;
};

static int64_t share_of(const struct plumb_config *cfg, int64_t n)
{
    return plumb_max_i64((int64_t)llround(cfg->method.keep * (double)n), 1);
}

static plumb_status open(void **own, const struct plumb_given_inputs *in,
                         plumb_references *references)
{
    struct real *r = *own = calloc(1, sizeof(*r));
    PLUMB_REQUIRE(r, PLUMB_ERR_NOMEM, "state of real");
    PLUMB_REQUIRE(in->t->cfg->method.pick != PLUMB_SELECT_CENTROID, PLUMB_ERR_CONFIG,
                  "method.pick: centroid is among the answers of a prompt; expected easy, hard or "
                  "random for given pairs");
    return plumb_embed_open(&r->embed, in->t, references, 2, in->pack);
}

static void close(void *own)
{
    struct real *r = own;
    plumb_embed_fini(&r->embed);
    free(r);
}

/* Packs both completions of the records first, first + step, first + 2 step, ... as long as they
 * fit. Sets *next to the first of these records that is not packed, or to a value >= n if all are
 * packed. */
static plumb_status pack_pairs(const struct real *r, const struct plumb_given_inputs *in,
                               int64_t first, int64_t step, int64_t *next)
{
    struct plumb_pack *p = in->pack;
    plumb_pack_clear(p);
    for (*next = first; *next < in->data->n; *next += step) {
        const struct plumb_piece *c = in->data->record[*next].completion;
        if (!plumb_pack_fits(p, 2, c[0].n + c[1].n + 2)) /* + 2: one token is packed before each
                                                          * completion */
            break;
        for (int side = 0; side < 2; side++)
            PLUMB_TRY(plumb_embed_add(&r->embed, p, c[side].ids, c[side].n));
    }
    return PLUMB_OK;
}

/* Sets cosine[i] of this rank's records to the cosine of the embeddings of record i's two
 * completions. Rank r has every world_size-th record, from record r on. */
static plumb_status cosines(struct real *r, const struct plumb_given_inputs *in, double *cosine)
{
    const int64_t n = in->data->n, world = plumb_comm_size(in->t->comm);
    for (int64_t first = plumb_comm_rank(in->t->comm), next; first < n; first = next) {
        PLUMB_TRY(pack_pairs(r, in, first, world, &next));
        PLUMB_TRY(plumb_embed_run(&r->embed, in->t->pass, in->pack));
        for (int64_t i = first; i < next; i += world) {
            plumb_embed_compare(&r->embed, 2 * ((i - first) / world));
            cosine[i] = r->embed.gram[1];
        }
    }
    return PLUMB_OK;
}

/* Implements plumb_method_given.select: selects the pairs by the cosine of the embeddings of their
 * two completions. Collective. */
static plumb_status select_share(void *own, const struct plumb_given_inputs *in, int64_t *kept,
                                 int64_t share)
{
    struct real *r = own;
    const int64_t n = in->data->n;
    const struct plumb_rng_key key = {.seed = in->t->cfg->seed, .purpose = PLUMB_RNG_SELECT};
    double *cosine = calloc((size_t)n, sizeof(*cosine));
    plumb_comm_phase(in->t->comm, "embed");
    plumb_status st = cosine ? cosines(r, in, cosine)
                             : plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__,
                                             "cosines of %lld pairs", (long long)n);
    st = plumb_embed_end(&r->embed, st); /* called after a failure, too: the other ranks may be
                                          * waiting */
    st = plumb_comm_agree(in->t->comm, st);
    if (st == PLUMB_OK) /* one rank has set each record's cosine; the others add 0 */
        st = plumb_comm_allreduce_f64(in->t->comm, cosine, n, PLUMB_SUM);
    if (st == PLUMB_OK)
        st = plumb_select_share(kept, share, r->embed.selection, cosine, n, &key);
    free(cosine);
    if (st == PLUMB_OK)
        plumb_log(PLUMB_LOG_INFO, "real: %lld of %lld pairs are kept", (long long)share,
                  (long long)n);
    return st;
}

const struct plumb_method_given plumb_given_real = {
    .share = share_of, .open = open, .select = select_share, .close = close};

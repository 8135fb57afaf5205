/* real.c - the method REAL: selects two completions of each prompt by their embeddings; only these
 * are scored and trained on.
 * Layer 5. Includes stage/method.h, train/embed.h.
 * Source: arXiv:2409.17169. */
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "stage/method.h"
#include "train/embed.h"

struct real {
    struct plumb_embed embed;
};

static plumb_status open(void **own, const struct plumb_align_context *c,
                         const struct plumb_partition *part,
                         struct plumb_reference_stage *reference, const struct plumb_work *w)
{
    const struct plumb_config *cfg = c->t->cfg;
    struct real *r = *own = calloc(1, sizeof(*r));
    (void)part;
    PLUMB_REQUIRE(r, PLUMB_ERR_NOMEM, "state of real");
    return plumb_embed_open(&r->embed, c->t, reference->set, cfg->generate.group_size,
                            &w->micro.pack);
}

static void close(void *own)
{
    struct real *r = own;
    plumb_embed_fini(&r->embed);
    free(r);
}

static bool same(const struct plumb_rollout *a, const struct plumb_rollout *b)
{
    return a->n == b->n && memcmp(a->ids, b->ids, (size_t)a->n * sizeof(*a->ids)) == 0;
}

/* Drops all completions of a local prompt except two, or except the first if all are equal. at:
 * index of the packed sequence that is the prompt's first completion. */
static plumb_status select_pair(const struct plumb_align_inputs *in, int64_t local_prompt,
                                int64_t at, bool *dropped)
{
    struct real *r = in->own;
    const struct plumb_rollouts *rollouts = &in->rollout->rollouts;
    const int64_t group = rollouts->group_size;
    const int64_t completion = plumb_rollouts_completion(rollouts, local_prompt, 0);
    const struct plumb_rollout *o = &rollouts->at[completion];
    const struct plumb_rng_key key = {.seed = in->t->cfg->seed,
                                      .purpose = PLUMB_RNG_SELECT,
                                      .iteration = (uint32_t)in->t->state.iteration + 1,
                                      .prompt = (uint64_t)o->record};
    int64_t first = 0, second = 0, different = 0;
    for (int64_t sample = 1; sample < group; sample++)
        different += !same(o, o + sample);
    if (different > 0) {
        plumb_embed_compare(&r->embed, at);
        PLUMB_TRY(
            plumb_select_pair(&first, &second, r->embed.selection, r->embed.gram, group, &key));
    }
    for (int64_t sample = 0; sample < group; sample++)
        dropped[completion + sample] = sample != first && sample != second;
    return PLUMB_OK;
}

/* Packs the completions of the local prompts from `begin` on, as long as the whole group of a
 * prompt fits. Sets *end to the first prompt that is not packed. */
static plumb_status pack_groups(const struct plumb_align_inputs *in, struct plumb_pack *p,
                                int64_t begin, int64_t *end)
{
    const struct real *r = in->own;
    const struct plumb_rollouts *rollouts = &in->rollout->rollouts;
    const int64_t group = rollouts->group_size;
    plumb_pack_clear(p);
    for (*end = begin; *end < rollouts->prompts; ++*end) {
        const struct plumb_rollout *o = &rollouts->at[*end * group];
        int64_t tokens = group; /* one token before each completion */
        for (int64_t sample = 0; sample < group; sample++)
            tokens += o[sample].n;
        if (!plumb_pack_fits(p, group, tokens))
            break;
        for (int64_t sample = 0; sample < group; sample++)
            PLUMB_TRY(plumb_embed_add(&r->embed, p, o[sample].ids, o[sample].n));
    }
    return PLUMB_OK;
}

/* Selects the two completions of every local prompt of this rank. */
static plumb_status select_local(const struct plumb_align_inputs *in,
                                 struct plumb_reward_stage *reward, struct plumb_work *w)
{
    struct real *r = in->own;
    struct plumb_pack *p = &w->micro.pack;
    const struct plumb_rollouts *rollouts = &in->rollout->rollouts;
    const int64_t group = rollouts->group_size;
    for (int64_t begin = 0, end; begin < rollouts->prompts; begin = end) {
        PLUMB_REQUIRE(!plumb_stop_noticed(&in->t->stop), PLUMB_STOPPED,
                      "the embeddings stopped on a pause request");
        PLUMB_TRY(pack_groups(in, p, begin, &end));
        PLUMB_TRY(plumb_embed_run(&r->embed, in->t->pass, p));
        for (int64_t local_prompt = begin; local_prompt < end; local_prompt++)
            PLUMB_TRY(select_pair(in, local_prompt, (local_prompt - begin) * group,
                                  reward->scores.dropped));
    }
    return PLUMB_OK;
}

static plumb_status preselect(const struct plumb_align_inputs *in,
                              struct plumb_reward_stage *reward, struct plumb_work *w)
{
    struct real *r = in->own;
    /* called after a failure or a pause, too: the other ranks may be waiting for this rank */
    return plumb_embed_end(&r->embed, select_local(in, reward, w));
}

const struct plumb_method_stages plumb_add_real = {
    .open = open, .close = close, .preselect_phase = "embed", .preselect = preselect};

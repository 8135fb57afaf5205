/* dlma.c - the method DLMA: the reward of a completion is its log-prob after the prompt with
 * principles minus its log-prob after the prompt with the contrary principles. Layer 5. Includes
 * stage/method.h, base/. Source: arXiv:2402.11907. */
#include <stdlib.h>

#include "base/num.h"
#include "stage/method.h"

struct dlma {
    /* index of the reference `previous`, which is the policy at the iteration's start */
    int policy;
};

/* Checks that the longest prompt with principles or contrary principles plus max_new_tokens fits
 * the context: every completion is scored after both of these prompts. */
static plumb_status check_lengths(const struct plumb_align_context *c)
{
    const struct plumb_config *cfg = c->t->cfg;
    const int64_t max_pos = plumb_at_most(cfg->data.max_tokens, c->t->model->spec.max_pos);
    int64_t longest = 0;
    for (int64_t i = 0; i < c->data->n; i++) {
        const struct plumb_record *rec = &c->data->record[i];
        longest = plumb_max_i64(longest, plumb_max_i64(rec->principled.n, rec->contrary.n));
    }
    PLUMB_REQUIRE(
        longest + cfg->generate.max_new_tokens <= max_pos, PLUMB_ERR_CONFIG,
        "generate.max_new_tokens: %lld tokens after the longest guided prompt of %lld tokens are "
        "more than the %lld that the model and data.max_tokens allow",
        (long long)cfg->generate.max_new_tokens, (long long)longest, (long long)max_pos);
    return PLUMB_OK;
}

static plumb_status open_rollouts(void **own, const struct plumb_align_context *c,
                                  const struct plumb_partition *part, int64_t *bytes)
{
    (void)part, (void)bytes;
    *own = calloc(1, sizeof(struct dlma));
    PLUMB_REQUIRE(*own, PLUMB_ERR_NOMEM, "state of dlma");
    return check_lengths(c);
}

static plumb_status open_references(void *own, const struct plumb_align_context *c,
                                    struct plumb_reference_stage *reference)
{
    struct dlma *d = own;
    (void)c;
    return plumb_references_open(reference->set, &d->policy, "previous", "method.name");
}

static void close(void *own)
{
    free(own);
}

/* Returns the prompt of a completion, with the principles (side 0) or with the contrary principles
 * (side 1). */
static const struct plumb_piece *side_of(const struct plumb_align_inputs *in, int64_t completion,
                                         int side)
{
    const struct plumb_rollout *o = &in->rollout->rollouts.at[completion];
    const struct plumb_record *rec = &in->data->record[o->record];
    return side ? &rec->contrary : &rec->principled;
}

static bool is_known(const struct plumb_align_inputs *in, int64_t completion, int side,
                     double *logp)
{
    const struct dlma *d = in->own;
    const struct plumb_rollout *o = &in->rollout->rollouts.at[completion];
    const struct plumb_piece *prompt = side_of(in, completion, side);
    return plumb_references_find(in->reference->set, d->policy, prompt->ids, prompt->n, o->ids,
                                 o->n, logp);
}

/* Computes the log-probs of the packed sequences under the policy of the iteration's start and
 * stores them in reference->set, where is_known finds them by their tokens. */
static plumb_status run_packed(const struct plumb_align_inputs *in, struct plumb_micro *m)
{
    const struct dlma *d = in->own;
    if (m->pack.n_seq == 0)
        return PLUMB_OK;
    PLUMB_TRY(
        plumb_references_score(in->reference->set, d->policy, in->t->pass, &m->pack, m->logp));
    plumb_pack_clear(&m->pack);
    return PLUMB_OK;
}

/* Computes two log-probs of every completion that has no reward yet: after the prompt with the
 * principles and after the prompt with their contrary. Skips log-probs that are already stored. */
static plumb_status score_sides(const struct plumb_align_inputs *in, const bool *scored,
                                struct plumb_micro *m)
{
    const struct plumb_rollouts *r = &in->rollout->rollouts;
    struct plumb_pack *p = &m->pack;
    double logp;
    plumb_pack_clear(p);
    for (int64_t i = 0; i < 2 * plumb_rollouts_n(r); i++) {
        const int64_t completion = i / 2;
        const int side = (int)(i % 2);
        const struct plumb_rollout *o = &r->at[completion];
        const struct plumb_piece *prompt = side_of(in, completion, side);
        if (scored[completion] || is_known(in, completion, side, &logp))
            continue;
        PLUMB_REQUIRE(!plumb_stop_noticed(&in->t->stop), PLUMB_STOPPED,
                      "scoring stopped on a pause request");
        if (!plumb_pack_fits(p, 1, prompt->n + o->n))
            PLUMB_TRY(run_packed(in, m));
        PLUMB_TRY(plumb_pack_add(p, prompt->ids, prompt->n, o->ids, o->n));
    }
    return run_packed(in, m);
}

/* Sets the reward of each completion y of prompt x, with principles p+ and contrary principles p-:
 *     log pi(y|p+,x) - log pi(y|p-,x)                     Source: DLMA, arXiv:2402.11907, eq. 5 */
static plumb_status score(const struct plumb_align_inputs *in, struct plumb_reward_stage *reward,
                          struct plumb_work *w)
{
    const int64_t n = plumb_rollouts_n(&in->rollout->rollouts);
    struct plumb_scores *scores = &reward->scores;
    double logp[2];
    PLUMB_TRY(score_sides(in, scores->scored, &w->micro));
    for (int64_t completion = 0; completion < n; completion++) {
        if (scores->scored[completion])
            continue;
        PLUMB_REQUIRE(is_known(in, completion, 0, &logp[0]) &&
                          is_known(in, completion, 1, &logp[1]),
                      PLUMB_ERR_NOMEM, "log-probs of %lld answers under two prompts did not fit",
                      (long long)n);
        scores->reward[completion] = logp[0] - logp[1];
        scores->scored[completion] = true;
    }
    return PLUMB_OK;
}

const struct plumb_method_stages plumb_add_dlma = {.open_rollouts = open_rollouts,
                                                   .open_references = open_references,
                                                   .close = close,
                                                   .score = score};

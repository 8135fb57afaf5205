/* dlma.c - DLMA: an answer's reward is the contrast of its log-probs under two opposite prompts.
 * Layer 5. Includes stage/align.h, base/.
 * Source: arXiv:2402.11907. */
#include <stdlib.h>

#include "base/num.h"
#include "stage/align.h"

struct dlma {
    int policy; /* number of the reference `previous`: the policy at the iteration's start */
};

/* Checks that the longest prompt with principles or contrary principles plus max_new_tokens fits
 * the context: every answer is scored after both of these prompts. */
static plumb_status check_lengths(const struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    const int64_t max_pos = plumb_at_most(cfg->data.max_tokens, a->t->model->spec.max_pos);
    int64_t longest = 0;
    for (int64_t i = 0; i < a->data->n; i++) {
        const struct plumb_record *rec = &a->data->record[i];
        longest = plumb_max_i64(longest, plumb_max_i64(rec->principled.n, rec->contrary.n));
    }
    PLUMB_REQUIRE(
        longest + cfg->generate.max_new_tokens <= max_pos, PLUMB_ERR_CONFIG,
        "generate.max_new_tokens: %lld behind a guided prompt of %lld tokens is more than "
        "%lld, what the model or data.max_tokens allows",
        (long long)cfg->generate.max_new_tokens, (long long)longest, (long long)max_pos);
    return PLUMB_OK;
}

static plumb_status open_rollouts(struct plumb_align_run *a, int64_t *bytes)
{
    (void)bytes;
    a->own = calloc(1, sizeof(struct dlma));
    PLUMB_REQUIRE(a->own, PLUMB_ERR_NOMEM, "state of dlma");
    return check_lengths(a);
}

static plumb_status open_references(struct plumb_align_run *a)
{
    struct dlma *d = a->own;
    return plumb_references_open(a->reference.set, &d->policy, "previous", "method.name");
}

static void close(struct plumb_align_run *a)
{
    free(a->own);
}

/* Returns the prompt of completion i with the principles (side 0) or with their contrary (side 1).
 */
static const struct plumb_piece *side_of(const struct plumb_align_run *a, int64_t i, int side)
{
    const struct plumb_record *rec = &a->data->record[a->answers.at[i].record];
    return side ? &rec->contrary : &rec->principled;
}

static bool is_known(const struct plumb_align_run *a, int64_t i, int side, double *logp)
{
    const struct dlma *d = a->own;
    const struct plumb_rollout *o = &a->answers.at[i];
    const struct plumb_piece *prompt = side_of(a, i, side);
    return plumb_references_find(a->reference.set, d->policy, prompt->ids, prompt->n, o->ids, o->n,
                                 logp);
}

/* Computes the reference log-probs of the packed sequences and stores them in reference.set.
 * is_known finds them there by their tokens. */
static plumb_status run_packed(struct plumb_align_run *a)
{
    const struct dlma *d = a->own;
    struct plumb_micro *m = &a->update.micro;
    if (m->pack.n_seq == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_references_score(a->reference.set, d->policy, a->t->pass, &m->pack, m->logp));
    plumb_pack_clear(&m->pack);
    return PLUMB_OK;
}

/* Sets the reward of each completion y of prompt x, with principles p+ and their contrary p-:
 *     log pi(y|p+,x) - log pi(y|p-,x)                     Source: DLMA, arXiv:2402.11907, eq. 5 */
static plumb_status score(struct plumb_align_run *a)
{
    struct plumb_pack *p = &a->update.micro.pack;
    const int64_t n = a->answers.prompts * a->answers.group_size;
    double logp[2];
    plumb_pack_clear(p);
    for (int64_t i = 0; i < 2 * n; i++) {
        const struct plumb_rollout *o = &a->answers.at[i / 2];
        const struct plumb_piece *prompt = side_of(a, i / 2, i % 2);
        if (o->scored || is_known(a, i / 2, i % 2, logp))
            continue;
        PLUMB_REQUIRE(!plumb_stop_noticed(&a->t->stop), PLUMB_STOPPED, "scoring was paused");
        if (p->n_seq == p->max_seq || p->offset[p->n_seq] + prompt->n + o->n > p->max_tokens)
            PLUMB_TRY(run_packed(a));
        PLUMB_TRY(plumb_pack_add(p, prompt->ids, prompt->n, o->ids, o->n));
    }
    PLUMB_TRY(run_packed(a));
    for (int64_t i = 0; i < n; i++) {
        struct plumb_rollout *o = &a->answers.at[i];
        if (o->scored)
            continue;
        PLUMB_REQUIRE(is_known(a, i, 0, &logp[0]) && is_known(a, i, 1, &logp[1]), PLUMB_ERR_NOMEM,
                      "log-probs of %lld answers under two prompts did not fit", (long long)n);
        o->reward = logp[0] - logp[1];
        o->scored = true;
    }
    return PLUMB_OK;
}

const struct plumb_method_stages plumb_add_dlma = {.open_rollouts = open_rollouts,
                                                   .open_references = open_references,
                                                   .close = close,
                                                   .score = score};

/* reference_stage.c - computes the log-probs of an iteration's rollouts under the reference models.
 * Layer 5. Includes stage/stages.h, stage/method.h, train/start.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "stage/method.h"
#include "stage/stages.h"
#include "train/start.h"

plumb_status plumb_reference_stage_open(struct plumb_reference_stage *r,
                                        const struct plumb_align_context *c, void *own,
                                        int64_t completions)
{
    const struct plumb_config *cfg = c->t->cfg;
    const bool init = strcmp(cfg->method.reference, "init") == 0;
    for (int role = 0; role < PLUMB_ROLES; role++)
        r->role[role] = -1;
    r->n = completions;
    r->needed = plumb_method_needs_reference(c->method, &c->param);
    r->logp = calloc((size_t)(completions * PLUMB_ROLES) + 1, sizeof(*r->logp));
    PLUMB_REQUIRE(r->logp, PLUMB_ERR_NOMEM, "log-probs of %lld completions",
                  (long long)completions);
    PLUMB_TRY(plumb_memory_beside(c->t->backend, "reference log-probs",
                                  completions * PLUMB_ROLES * (int64_t)sizeof(*r->logp)));
    /* Memory for one stored log-prob per completion and role, and for two more per completion: DLMA
     * computes the log-prob of each completion after two prompts, with the principles and with the
     * contrary principles. */
    PLUMB_TRY(plumb_references_create(&r->set, c->t->model, plumb_start_init(cfg), &c->t->frozen,
                                      (PLUMB_ROLES + 2) * completions));
    if (r->needed)
        PLUMB_TRY(plumb_references_open(r->set, &r->role[PLUMB_ROLE_LOSS], cfg->method.reference,
                                        "method.reference"));
    if (c->add->open_references)
        PLUMB_TRY(c->add->open_references(own, c, r));
    if (cfg->train.kl_to_start || (r->needed && init))
        PLUMB_TRY(
            plumb_references_open(r->set, &r->role[PLUMB_ROLE_START], "init", "train.kl_to_start"));
    return PLUMB_OK;
}

void plumb_reference_stage_close(struct plumb_reference_stage *r)
{
    plumb_references_destroy(&r->set);
    free(r->logp);
}

plumb_status plumb_reference_stage_begin(struct plumb_reference_stage *r)
{
    for (int64_t i = 0; i < r->n * PLUMB_ROLES; i++)
        r->logp[i] = NAN;
    plumb_references_begin(r->set);
    return plumb_references_update_snapshot(r->set);
}

plumb_status plumb_reference_stage_keep(struct plumb_reference_stage *r,
                                        const struct plumb_align_context *c)
{
    int *loss = &r->role[PLUMB_ROLE_LOSS];
    if (plumb_references_frozen(r->set, *loss))
        return PLUMB_OK;
    if (c->t->cfg->train.iterations == 1)
        return plumb_references_open(r->set, loss, "init", "method.reference");
    return plumb_references_open_snapshot(r->set, *loss);
}

/* Computes the log-probs of the packed completions under the reference model of one role, and
 * stores them in r->logp. */
static plumb_status score_packed(struct plumb_reference_stage *r, const struct plumb_trainer *t,
                                 enum plumb_role role, struct plumb_work *w)
{
    struct plumb_micro *m = &w->micro;
    PLUMB_TRY(plumb_references_score(r->set, r->role[role], t->pass, &m->pack, m->logp));
    for (int64_t sequence = 0; sequence < m->pack.n_seq; sequence++)
        r->logp[w->completion_of[sequence] * PLUMB_ROLES + role] = m->logp[sequence];
    return PLUMB_OK;
}

static plumb_status score_packs(struct plumb_reference_stage *r,
                                const struct plumb_align_inputs *in,
                                const struct plumb_reward_stage *reward, enum plumb_role role,
                                struct plumb_work *w)
{
    const struct plumb_rollouts *rollouts = &in->rollout->rollouts;
    struct plumb_pack *p = &w->micro.pack;
    const int64_t n = plumb_rollouts_n(rollouts);
    for (int64_t i = 0; i < n;) {
        PLUMB_REQUIRE(!plumb_stop_noticed(&in->t->stop), PLUMB_STOPPED,
                      "the log-probs of the reference model stopped on a pause request");
        plumb_pack_clear(p);
        for (; i < n && p->n_seq < p->max_seq; i++) {
            const struct plumb_rollout *o = &rollouts->at[i];
            const struct plumb_piece *prompt = &in->data->record[o->record].prompt;
            double *logp = &r->logp[i * PLUMB_ROLES + role];
            if (!isnan(*logp) || (o->principled && role == PLUMB_ROLE_START) ||
                (reward->scores.dropped[i] && role == PLUMB_ROLE_LOSS) ||
                plumb_references_find(r->set, r->role[role], prompt->ids, prompt->n, o->ids, o->n,
                                      logp))
                continue;
            if (!plumb_pack_fits(p, 1, prompt->n + o->n))
                break;
            w->completion_of[p->n_seq] = i;
            PLUMB_TRY(plumb_pack_add(p, prompt->ids, prompt->n, o->ids, o->n));
        }
        PLUMB_TRY(score_packed(r, in->t, role, w));
    }
    return PLUMB_OK;
}

plumb_status plumb_reference_stage_score(struct plumb_reference_stage *r,
                                         const struct plumb_align_inputs *in,
                                         const struct plumb_reward_stage *reward,
                                         struct plumb_work *w)
{
    plumb_status st = PLUMB_OK;
    for (int role = 0; role < PLUMB_ROLES; role++) {
        if (r->role[role] < 0)
            continue;
        if (st == PLUMB_OK)
            st = score_packs(r, in, reward, (enum plumb_role)role, w);
        /* called after a failure, too: the other ranks may be waiting for this rank */
        st = plumb_references_end(r->set, r->role[role], st);
    }
    return st;
}

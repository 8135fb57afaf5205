/* judge.c - the policy as its own judge, and its doubts about its own labels.
 * Layer 5. Includes stage/align.h, comm/tree.h. */
#include <math.h>
#include <string.h>

#include "comm/tree.h"
#include "stage/align.h"

/* beta (log pi(y|x) - log pi_judge(y|x)), pi as it sampled the answer.
 *                                          Source: SPA, arXiv:2406.04412, eq. 7-8 */
static double implicit_reward(const struct plumb_align_run *a, const struct plumb_answer *o)
{
    double logp = 0;
    for (int64_t j = 0; j < o->n; j++)
        logp += (double)o->logp[j];
    return a->param.beta * (logp - o->under[PLUMB_ROLE_JUDGE]);
}

static const struct plumb_piece *side_of(const struct plumb_align_run *a, int64_t i, int side)
{
    const struct plumb_record *rec = &a->data->record[a->answers.at[i].record];
    return side ? &rec->contrary : &rec->principled;
}

static bool is_known(const struct plumb_align_run *a, int64_t i, int side, double *logp)
{
    const struct plumb_answer *o = &a->answers.at[i];
    const struct plumb_piece *prompt = side_of(a, i, side);
    return plumb_references_find(a->references, a->contrast, prompt->ids, prompt->n, o->ids, o->n,
                                 logp);
}

/* Log-probs of what is packed, under the policy, are found again by their tokens. */
static plumb_status run_packed(struct plumb_align_run *a)
{
    struct plumb_micro *m = &a->micro;
    if (m->pack.n_seq == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_references_score(a->references, a->contrast, a->t->pass, &m->pack, m->logp));
    plumb_pack_clear(&m->pack);
    return PLUMB_OK;
}

/* log pi(y|p+,x) - log pi(y|p-,x)                         Source: DLMA, arXiv:2402.11907, eq. 5 */
static plumb_status contrast(struct plumb_align_run *a)
{
    struct plumb_pack *p = &a->micro.pack;
    const int64_t n = a->answers.prompts * a->answers.group_size;
    double logp[2];
    plumb_pack_clear(p);
    for (int64_t i = 0; i < 2 * n; i++) {
        const struct plumb_answer *o = &a->answers.at[i / 2];
        const struct plumb_piece *prompt = side_of(a, i / 2, i % 2);
        if (o->scored || is_known(a, i / 2, i % 2, logp))
            continue;
        PLUMB_REQUIRE(!plumb_stop_noticed(&a->t->stop), PLUMB_STOPPED, "judging was paused");
        if (p->n_seq == p->max_seq || p->offset[p->n_seq] + prompt->n + o->n > p->max_tokens)
            PLUMB_TRY(run_packed(a));
        PLUMB_TRY(plumb_pack_add(p, prompt->ids, prompt->n, o->ids, o->n));
    }
    PLUMB_TRY(run_packed(a));
    for (int64_t i = 0; i < n; i++) {
        struct plumb_answer *o = &a->answers.at[i];
        if (o->scored)
            continue;
        PLUMB_REQUIRE(is_known(a, i, 0, &logp[0]) && is_known(a, i, 1, &logp[1]), PLUMB_ERR_NOMEM,
                      "log-probs of %lld answers under two prompts did not fit", (long long)n);
        o->reward = logp[0] - logp[1];
        o->scored = true;
    }
    return PLUMB_OK;
}

plumb_status plumb_align_judge(struct plumb_align_run *a)
{
    if (a->method->source == PLUMB_SOURCE_CONTRAST)
        return contrast(a);
    for (int64_t i = 0; i < a->answers.prompts * a->answers.group_size; i++) {
        struct plumb_answer *o = &a->answers.at[i];
        o->reward = implicit_reward(a, o);
        o->scored = true;
    }
    return PLUMB_OK;
}

/* ---- doubts --------------------------------------------------------------------------------- */

/* Log-prob sums of what is packed, under the policy of now pushed away from the reference. */
static plumb_status score_packed(struct plumb_align_run *a)
{
    struct plumb_micro *m = &a->micro;
    const plumb_model *reference = plumb_references_model(a->references, a->role[PLUMB_ROLE_LOSS]);
    const struct plumb_batch batch = plumb_pack_batch(&m->pack);
    if (a->param.decoupling == 0)
        return plumb_micro_forward(m, a->t->pass, a->t->model);
    PLUMB_TRY(plumb_pass_mixed_logprob(a->t->pass, &a->mix, a->t->model, reference,
                                       a->param.decoupling, &batch, m->pack.logp));
    plumb_micro_sum(m);
    return PLUMB_OK;
}

/* margin[slot - first] of the pairs among [slots), which are this rank's. */
static plumb_status leaf_margins(struct plumb_align_run *a, struct plumb_range slots, int64_t first,
                                 double *margin)
{
    struct plumb_micro *m = &a->micro;
    PLUMB_TRY(plumb_align_collect(a, slots));
    if (m->pairs == 0)
        return PLUMB_OK;
    PLUMB_TRY(score_packed(a));
    PLUMB_TRY(plumb_micro_check(m));
    int64_t k = 0;
    for (int64_t slot = slots.begin; slot < slots.end; slot++) {
        if (a->board->choice[slot].branch != PLUMB_BRANCH_RANK)
            continue;
        const struct plumb_pair *pair = &m->pair[k++];
        margin[slot - first] = a->param.beta * ((m->logp[pair->win] - m->logp_ref[pair->win]) -
                                                (m->logp[pair->lose] - m->logp_ref[pair->lose]));
    }
    return PLUMB_OK;
}

static plumb_status local_margins(struct plumb_align_run *a, struct plumb_range slots,
                                  double *margin)
{
    const struct plumb_range mine =
        plumb_tree_leaves(plumb_cut_leaves(&a->cut, a->step), plumb_comm_rank(a->t->comm),
                          plumb_comm_size(a->t->comm));
    for (int64_t leaf = mine.begin; leaf < mine.end; leaf++)
        PLUMB_TRY(leaf_margins(a, plumb_cut_leaf(&a->cut, a->step, leaf), slots.begin, margin));
    return PLUMB_OK;
}

plumb_status plumb_align_doubt(struct plumb_align_run *a)
{
    const struct plumb_range slots = plumb_cut_step(&a->cut, a->step);
    const int64_t n = slots.end - slots.begin;
    const double steps = (double)(a->t->cfg->train.epochs * a->steps);
    double *margin = a->noise + a->noise_n;
    plumb_comm_phase(a->t->comm, "doubt");
    memset(margin, 0, (size_t)n * sizeof(*margin));
    PLUMB_TRY(plumb_comm_agree(a->t->comm, local_margins(a, slots, margin)));
    PLUMB_TRY(plumb_comm_allreduce_f64(a->t->comm, margin, n, PLUMB_SUM)); /* one owner each */
    for (int64_t k = 0; k < n; k++)
        if (a->board->choice[slots.begin + k].branch != PLUMB_BRANCH_RANK)
            margin[k] = NAN;
    a->noise_n += n;
    const double tau = plumb_threshold_noise(a->noise, a->noise_n, &a->param, a->noise_work);
    for (int64_t k = 0; k < n; k++)
        plumb_threshold_doubt(&a->board->choice[slots.begin + k], margin[k], tau,
                              a->sums.done / steps, &a->param);
    return PLUMB_OK;
}

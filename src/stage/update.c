/* update.c - gradients of the method's objective on one optimizer step's rollouts.
 * Layer 5. Includes stage/align.h, base/. */
#include <math.h>

#include "stage/align.h"

/* Local index of a prompt that this rank owns in the current step. */
static int64_t local_prompt(const struct plumb_align_run *a, int64_t slot)
{
    const int64_t first = a->local_slot[a->step_base[a->step]];
    return a->step_base[a->step] + (slot - first);
}

/* Completion `sample` of that prompt. */
static struct plumb_answer *answer_of(struct plumb_align_run *a, int64_t slot, int64_t sample)
{
    return &a->answers.at[local_prompt(a, slot) * a->answers.group_size + sample];
}

plumb_status plumb_align_collect(struct plumb_align_run *a, struct plumb_range slots)
{
    const int64_t group = a->answers.group_size;
    struct plumb_micro *m = &a->micro;
    plumb_micro_clear(m);
    for (int64_t slot = slots.begin; slot < slots.end; slot++) {
        const struct plumb_choice *choice = &a->board->choice[slot];
        struct plumb_pair pair = {
            .win = -1, .lose = -1, .smooth = choice->smooth, .weight = choice->weight};
        for (int64_t i = 0; i < group; i++) {
            const int64_t entry = slot * group + i, q = m->pack.n_seq;
            if (!plumb_scoreboard_uses(a->board, entry))
                continue;
            const struct plumb_answer *o = answer_of(a, slot, i);
            const struct plumb_record *rec = &a->data->record[o->record];
            PLUMB_TRY(plumb_micro_add(m, o->record, o->sample, rec->prompt.ids, rec->prompt.n,
                                      o->ids, o->n));
            a->sequence[q] = o - a->answers.at;
            m->weight[q] = a->board->weight[entry];
            m->reward[q] = a->board->norm[entry];
            m->logp_ref[q] = o->under[PLUMB_ROLE_LOSS];
            if (entry == choice->win)
                pair.win = q;
            if (entry == choice->lose)
                pair.lose = q;
        }
        if (a->add->add_sequences && choice->branch != PLUMB_BRANCH_SKIP)
            PLUMB_TRY(a->add->add_sequences(a, local_prompt(a, slot)));
        plumb_micro_end_group(m);
        if (choice->branch == PLUMB_BRANCH_RANK || choice->branch == PLUMB_BRANCH_SWAP)
            m->pair[m->pairs++] = pair;
    }
    m->scale = 1.0 / a->terms;
    return PLUMB_OK;
}

/* What was sampled from the plain prompt is in the batch under that very prompt. */
static plumb_status compare_plain(struct plumb_align_run *a)
{
    const float *logp = a->micro.pack.logp;
    for (int64_t q = 0; q < a->micro.pack.n_seq; q++) {
        const struct plumb_answer *o = a->sequence[q] >= 0 ? &a->answers.at[a->sequence[q]] : NULL;
        if (o && !o->principled && !o->old)
            PLUMB_TRY(plumb_align_compare(a, o, logp));
        logp += a->micro.len[q];
    }
    return PLUMB_OK;
}

/* Comparisons of best and worst that an objective of whole groups reports. */
static int64_t grouped(const struct plumb_micro *m)
{
    return m->objective->needs(&m->param) & PLUMB_NEED_GROUP ? m->groups : 0;
}

static plumb_status leaf_gradient(void *arg, int64_t leaf, float *grad,
                                  double value[PLUMB_LEAF_VALUES])
{
    struct plumb_align_run *a = arg;
    struct plumb_trainer *t = a->t;
    struct plumb_micro *m = &a->micro;
    PLUMB_TRY(plumb_align_collect(a, plumb_cut_leaf(&a->cut, a->step, leaf)));
    if (m->pack.n_seq == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_micro_forward(m, t->pass, t->model));
    PLUMB_TRY(plumb_micro_check(m));
    if (a->measure_gap)
        PLUMB_TRY(compare_plain(a));
    PLUMB_TRY(plumb_micro_loss(m));
    value[LEAF_LOSS] = m->out.loss;
    value[LEAF_TOKENS] = (double)m->pack.offset[m->pack.n_seq];
    value[LEAF_PAIRS] = (double)(m->pairs + grouped(m));
    value[LEAF_CHOSEN] = m->out.chosen;
    value[LEAF_REJECTED] = m->out.rejected;
    value[LEAF_ACCURATE] = (double)m->out.accurate;
    return plumb_micro_backward(m, t->pass, t->model, grad);
}

plumb_status plumb_align_update(struct plumb_align_run *a, struct plumb_step_result *out)
{
    const struct plumb_range slots = plumb_cut_step(&a->cut, a->step);
    for (int64_t s = slots.begin; s < slots.end; s++)
        a->slot_list[s - slots.begin] = s;
    a->terms = plumb_scoreboard_terms(a->board, a->slot_list, slots.end - slots.begin);
    *out = (struct plumb_step_result){0};
    if (a->terms == 0) /* the board is the same everywhere: every rank skips */
        return PLUMB_OK;
    return plumb_trainer_step(a->t, plumb_cut_leaves(&a->cut, a->step), leaf_gradient, a, out);
}

/* The batch that is packed, all of one role. */
static plumb_status score_packed(struct plumb_align_run *a, enum plumb_role role)
{
    struct plumb_micro *m = &a->micro;
    PLUMB_TRY(plumb_references_score(a->references, a->role[role], a->t->pass, &m->pack, m->logp));
    for (int64_t q = 0; q < m->pack.n_seq; q++)
        a->answers.at[a->sequence[q]].under[role] = m->logp[q];
    return PLUMB_OK;
}

static plumb_status score_role(struct plumb_align_run *a, enum plumb_role role)
{
    struct plumb_pack *p = &a->micro.pack;
    const int64_t n = a->answers.prompts * a->answers.group_size;
    for (int64_t i = 0; i < n;) {
        PLUMB_REQUIRE(!plumb_stop_noticed(&a->t->stop), PLUMB_STOPPED, "the reference was paused");
        plumb_pack_clear(p);
        for (; i < n && p->n_seq < p->max_seq; i++) {
            struct plumb_answer *o = &a->answers.at[i];
            const struct plumb_piece *prompt = &a->data->record[o->record].prompt;
            if (!isnan(o->under[role]) || (o->principled && role == PLUMB_ROLE_START) ||
                (o->dropped && role == PLUMB_ROLE_LOSS) ||
                plumb_references_find(a->references, a->role[role], prompt->ids, prompt->n, o->ids,
                                      o->n, &o->under[role]))
                continue;
            a->sequence[p->n_seq] = i;
            PLUMB_TRY(plumb_pack_add(p, prompt->ids, prompt->n, o->ids, o->n));
        }
        PLUMB_TRY(score_packed(a, role));
    }
    return PLUMB_OK;
}

plumb_status plumb_align_reference(struct plumb_align_run *a)
{
    for (int role = 0; role < PLUMB_ROLES; role++)
        if (a->role[role] >= 0)
            PLUMB_TRY(score_role(a, (enum plumb_role)role));
    return PLUMB_OK;
}

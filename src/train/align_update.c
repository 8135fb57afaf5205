/* align_update.c - gradients of the method's objective on one optimizer step's rollouts.
 * Layer 5. Includes train/align_run.h, base/. */
#include <math.h>

#include "train/align_run.h"

/* Rollout of completion `sample` of a slot that this rank owns in the current step. */
static struct plumb_answer *answer_of(struct plumb_align_run *a, int64_t slot, int64_t sample)
{
    const int64_t first = a->local_slot[a->step_base[a->step]];
    const int64_t k = a->step_base[a->step] + (slot - first);
    return &a->answers.at[k * a->answers.group_size + sample];
}

/* Packs the completions of [slots) that have a term in the loss, each under its plain prompt. */
static plumb_status collect(struct plumb_align_run *a, struct plumb_range slots, int64_t *pairs)
{
    const int64_t group = a->answers.group_size;
    plumb_pack_clear(&a->pack);
    *pairs = 0;
    for (int64_t slot = slots.begin; slot < slots.end; slot++) {
        const struct plumb_choice *choice = &a->board->choice[slot];
        struct plumb_pair pair = {.win = -1, .lose = -1, .weight = 1.0};
        for (int64_t i = 0; i < group; i++) {
            const int64_t entry = slot * group + i;
            if (!plumb_scoreboard_uses(a->board, entry))
                continue;
            const struct plumb_answer *o = answer_of(a, slot, i);
            const struct plumb_record *rec = &a->data->record[o->record];
            const int64_t q = a->pack.n_seq;
            PLUMB_TRY(plumb_pack_add(&a->pack, rec->prompt.ids, rec->prompt.n, o->ids, o->n));
            a->sequence[q] = o - a->answers.at;
            a->weight[q] = a->board->weight[entry];
            a->len[q] = (int32_t)o->n;
            a->logp_ref[q] = o->logp_ref;
            if (entry == choice->win)
                pair.win = q;
            if (entry == choice->lose)
                pair.lose = q;
        }
        if (choice->branch == PLUMB_BRANCH_RANK || choice->branch == PLUMB_BRANCH_SWAP)
            a->pair[(*pairs)++] = pair;
    }
    return PLUMB_OK;
}

/* Sums each sequence's log-probs in token order; notes the largest difference to sampling. */
static void sum_logp(struct plumb_align_run *a)
{
    const float *logp = a->pack.logp;
    for (int64_t q = 0; q < a->pack.n_seq; q++) {
        const struct plumb_answer *o = &a->answers.at[a->sequence[q]];
        a->logp[q] = 0;
        for (int64_t j = 0; j < o->n; j++) {
            a->logp[q] += (double)logp[j];
            if (a->measure_gap && !o->principled)
                a->max_gap = fmax(a->max_gap, fabs((double)logp[j] - (double)o->logp[j]));
        }
        logp += o->n;
    }
}

static plumb_status leaf_gradient(void *arg, int64_t leaf, float *grad,
                                  double value[PLUMB_LEAF_VALUES])
{
    struct plumb_align_run *a = arg;
    struct plumb_trainer *t = a->t;
    int64_t pairs = 0;
    PLUMB_TRY(collect(a, plumb_cut_leaf(&a->cut, a->step, leaf), &pairs));
    if (a->pack.n_seq == 0)
        return PLUMB_OK;
    const struct plumb_batch batch = plumb_pack_batch(&a->pack);
    PLUMB_TRY(plumb_pass_logprob(t->pass, t->model, &batch, a->pack.logp));
    sum_logp(a);
    const struct plumb_obj_in in = {.n = a->pack.n_seq,
                                    .k = pairs,
                                    .logp = a->logp,
                                    .logp_ref = a->needs_reference ? a->logp_ref : NULL,
                                    .len = a->len,
                                    .weight = a->weight,
                                    .pair = a->pair,
                                    .scale = 1.0 / (double)a->terms};
    struct plumb_obj_out out = {.dlogp = a->dlogp};
    PLUMB_TRY(plumb_objective_eval(a->method->objective, &out, &in, &a->param));
    float *d = a->pack.dlogp; /* every token of a sequence has its sequence's derivative */
    for (int64_t q = 0; q < a->pack.n_seq; q++)
        for (int64_t j = 0; j < a->len[q]; j++)
            *d++ = (float)a->dlogp[q];
    value[LEAF_LOSS] = out.loss;
    value[LEAF_TOKENS] = (double)plumb_batch_tokens(&batch);
    value[LEAF_PAIRS] = (double)pairs;
    value[LEAF_CHOSEN] = out.chosen;
    value[LEAF_REJECTED] = out.rejected;
    value[LEAF_ACCURATE] = (double)out.accurate;
    return plumb_pass_logprob_backward(t->pass, t->model, a->pack.dlogp, grad);
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

plumb_status plumb_align_reference(struct plumb_align_run *a)
{
    if (!a->start)
        return PLUMB_OK;
    struct plumb_pack *p = &a->pack;
    const int64_t n = a->answers.prompts * a->answers.group_size;
    for (int64_t i = 0; i < n;) {
        plumb_pack_clear(p);
        for (; i < n && p->n_seq < p->max_seq; i++) {
            const struct plumb_answer *o = &a->answers.at[i];
            const struct plumb_record *rec = &a->data->record[o->record];
            if (o->principled && !a->needs_reference)
                continue;
            a->sequence[p->n_seq] = i;
            PLUMB_TRY(plumb_pack_add(p, rec->prompt.ids, rec->prompt.n, o->ids, o->n));
        }
        if (p->n_seq == 0)
            break;
        const struct plumb_batch batch = plumb_pack_batch(p);
        PLUMB_TRY(plumb_pass_logprob(a->t->pass, a->start, &batch, p->logp));
        const float *logp = p->logp;
        for (int64_t q = 0; q < p->n_seq; q++) {
            struct plumb_answer *o = &a->answers.at[a->sequence[q]];
            o->logp_ref = 0;
            for (int64_t j = 0; j < o->n; j++)
                o->logp_ref += (double)*logp++;
        }
    }
    return PLUMB_OK;
}

/* update.c - computes the gradient of the method's objective on one optimizer step's rollouts.
 * Layer 5. Includes stage/align.h, base/. */
#include <math.h>

#include "stage/align.h"

/* Returns the local prompt of a prompt that this rank owns in the current step. */
static int64_t local_prompt(const struct plumb_align_run *a, int64_t prompt)
{
    const int64_t first = a->part.local_prompt[a->part.step_first[a->update.step]];
    return a->part.step_first[a->update.step] + (prompt - first);
}

/* Returns completion `sample` of a prompt that this rank owns in the current step. */
static struct plumb_rollout *answer_of(struct plumb_align_run *a, int64_t prompt, int64_t sample)
{
    return &a->answers.at[local_prompt(a, prompt) * a->answers.group_size + sample];
}

plumb_status plumb_align_collect(struct plumb_align_run *a, struct plumb_range prompts)
{
    const int64_t group = a->answers.group_size;
    struct plumb_micro *m = &a->update.micro;
    plumb_micro_clear(m);
    for (int64_t prompt = prompts.begin; prompt < prompts.end; prompt++) {
        const struct plumb_choice *choice = &a->decision.board->choice[prompt];
        struct plumb_pair pair = {
            .win = -1, .lose = -1, .smooth = choice->smooth, .weight = choice->weight};
        for (int64_t i = 0; i < group; i++) {
            const int64_t entry = prompt * group + i, q = m->pack.n_seq;
            if (!plumb_scoreboard_uses(a->decision.board, entry))
                continue;
            const struct plumb_rollout *o = answer_of(a, prompt, i);
            const struct plumb_record *rec = &a->data->record[o->record];
            PLUMB_TRY(plumb_micro_add(m, o->record, o->sample, rec->prompt.ids, rec->prompt.n,
                                      o->ids, o->n));
            a->update.completion[q] = o - a->answers.at;
            m->weight[q] = a->decision.board->weight[entry];
            m->reward[q] = a->decision.board->norm[entry];
            m->logp_ref[q] = o->under[PLUMB_ROLE_LOSS];
            if (entry == choice->win)
                pair.win = q;
            if (entry == choice->lose)
                pair.lose = q;
        }
        if (a->add->add_sequences && choice->branch != PLUMB_BRANCH_SKIP)
            PLUMB_TRY(a->add->add_sequences(a, local_prompt(a, prompt)));
        plumb_micro_end_group(m);
        if (choice->branch == PLUMB_BRANCH_RANK || choice->branch == PLUMB_BRANCH_SWAP)
            m->pair[m->pairs++] = pair;
    }
    m->scale = 1.0 / a->update.denominator;
    m->mean_len = a->update.mean_len;
    return PLUMB_OK;
}

/* Compares the log-probs of the packed completions that were sampled from the plain prompt. The
 * micro-batch holds these after the same prompt; principled ones are packed after another prompt.
 */
static plumb_status compare_plain(struct plumb_align_run *a)
{
    const float *logp = a->update.micro.pack.logp;
    for (int64_t q = 0; q < a->update.micro.pack.n_seq; q++) {
        const struct plumb_rollout *o =
            a->update.completion[q] >= 0 ? &a->answers.at[a->update.completion[q]] : NULL;
        if (o && !o->principled && !o->old)
            PLUMB_TRY(plumb_align_compare(a, o, logp));
        logp += a->update.micro.len[q];
    }
    return PLUMB_OK;
}

/* Returns the number of groups in the micro-batch, or 0 for an objective of pairs. A group
 * objective reports one comparison (best, worst) per group. */
static int64_t grouped(const struct plumb_micro *m)
{
    return m->objective->needs(&m->param) & PLUMB_NEED_GROUP ? m->groups : 0;
}

static plumb_status micro_batch_gradient(void *arg, int64_t micro_batch, float *grad,
                                         double value[PLUMB_MICRO_BATCH_VALUES])
{
    struct plumb_align_run *a = arg;
    struct plumb_trainer *t = a->t;
    struct plumb_micro *m = &a->update.micro;
    PLUMB_TRY(plumb_align_collect(
        a, plumb_split_micro_batch(&a->part.split, a->update.step, micro_batch)));
    if (m->pack.n_seq == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_micro_forward(m, t->pass, t->model));
    PLUMB_TRY(plumb_micro_check(m));
    if (a->update.measure_mismatch)
        PLUMB_TRY(compare_plain(a));
    PLUMB_TRY(plumb_micro_loss(m));
    value[SUM_LOSS] = m->out.loss;
    value[SUM_TOKENS] = (double)m->pack.offset[m->pack.n_seq];
    value[SUM_PAIRS] = (double)(m->pairs + grouped(m));
    value[SUM_CHOSEN] = m->out.chosen;
    value[SUM_REJECTED] = m->out.rejected;
    value[SUM_ACCURATE] = (double)m->out.accurate;
    return plumb_micro_backward(m, t->pass, t->model, grad);
}

/* Returns the mean completion tokens of the sequences that the listed prompts imitate: completions,
 * and the sequences that the method adds. Scoreboard and rows are equal on all ranks, so the result
 * is equal, too. */
static double imitated_length(const struct plumb_align_run *a, const int64_t *prompt, int64_t count)
{
    const struct plumb_scoreboard *b = a->decision.board;
    const double *row = a->decision.row;
    struct plumb_imitated sums =
        plumb_scoreboard_imitated(b, prompt, count, row + ROW_TOKENS, ROW_VALUES);
    for (int64_t k = 0; k < count && a->add->add_sequences; k++)
        if (b->choice[prompt[k]].branch != PLUMB_BRANCH_SKIP) {
            sums.weight += (double)a->add->extra_sequences;
            sums.tokens += row[prompt[k] * b->group_size * ROW_VALUES + ROW_EXTRA];
        }
    return plumb_imitated_mean(sums);
}

plumb_status plumb_align_update(struct plumb_align_run *a, struct plumb_step_result *out)
{
    const struct plumb_range prompts = plumb_split_step(&a->part.split, a->update.step);
    for (int64_t s = prompts.begin; s < prompts.end; s++)
        a->update.prompt_list[s - prompts.begin] = s;
    const int64_t count = prompts.end - prompts.begin;
    a->update.denominator = plumb_scoreboard_terms(a->decision.board, a->update.prompt_list, count);
    a->update.mean_len = imitated_length(a, a->update.prompt_list, count);
    *out = (struct plumb_step_result){0};
    if (a->update.denominator == 0) /* the scoreboard is equal on all ranks: every rank skips */
        return PLUMB_OK;
    return plumb_trainer_step(a->t, plumb_split_micro_batches(&a->part.split, a->update.step),
                              micro_batch_gradient, a, out);
}

/* Computes the reference log-probs of the packed completions for one role. */
static plumb_status score_packed(struct plumb_align_run *a, enum plumb_role role)
{
    struct plumb_micro *m = &a->update.micro;
    PLUMB_TRY(plumb_references_score(a->reference.set, a->reference.role[role], a->t->pass,
                                     &m->pack, m->logp));
    for (int64_t q = 0; q < m->pack.n_seq; q++)
        a->answers.at[a->update.completion[q]].under[role] = m->logp[q];
    return PLUMB_OK;
}

static plumb_status score_role(struct plumb_align_run *a, enum plumb_role role)
{
    struct plumb_pack *p = &a->update.micro.pack;
    const int64_t n = a->answers.prompts * a->answers.group_size;
    for (int64_t i = 0; i < n;) {
        PLUMB_REQUIRE(!plumb_stop_noticed(&a->t->stop), PLUMB_STOPPED, "the reference was paused");
        plumb_pack_clear(p);
        for (; i < n && p->n_seq < p->max_seq; i++) {
            struct plumb_rollout *o = &a->answers.at[i];
            const struct plumb_piece *prompt = &a->data->record[o->record].prompt;
            if (!isnan(o->under[role]) || (o->principled && role == PLUMB_ROLE_START) ||
                (o->dropped && role == PLUMB_ROLE_LOSS) ||
                plumb_references_find(a->reference.set, a->reference.role[role], prompt->ids,
                                      prompt->n, o->ids, o->n, &o->under[role]))
                continue;
            a->update.completion[p->n_seq] = i;
            PLUMB_TRY(plumb_pack_add(p, prompt->ids, prompt->n, o->ids, o->n));
        }
        PLUMB_TRY(score_packed(a, role));
    }
    return PLUMB_OK;
}

plumb_status plumb_align_reference(struct plumb_align_run *a)
{
    for (int role = 0; role < PLUMB_ROLES; role++)
        if (a->reference.role[role] >= 0)
            PLUMB_TRY(score_role(a, (enum plumb_role)role));
    return PLUMB_OK;
}

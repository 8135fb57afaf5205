/* update.c - computes the gradient of the method's objective and takes the optimizer steps.
 * Layer 5. Includes stage/stages.h, stage/method.h, base/. */
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "stage/method.h"
#include "stage/stages.h"

plumb_status plumb_update_open(struct plumb_update *u, const struct plumb_partition *p)
{
    u->prompt_list = calloc((size_t)p->split.global_batch, sizeof(*u->prompt_list));
    PLUMB_REQUIRE(u->prompt_list, PLUMB_ERR_NOMEM, "list of %lld prompts",
                  (long long)p->split.global_batch);
    return PLUMB_OK;
}

void plumb_update_close(struct plumb_update *u)
{
    free(u->prompt_list);
}

void plumb_update_begin(struct plumb_update *u)
{
    u->sums = (struct plumb_align_sums){0};
    u->mismatch = (struct plumb_mismatch){0};
}

plumb_status plumb_update_check_weights(struct plumb_update *u, const struct plumb_align_inputs *in,
                                        struct plumb_work *w)
{
    const bool moved = u->sums.taken > 0; /* the run resumed after some steps of the iteration; the
                                           * log-probs were compared before the pause */
    plumb_status st = plumb_mismatch_own_rollouts(in->rollout, in->t, moved);
    if (st == PLUMB_OK && !moved) {
        u->mismatch = (struct plumb_mismatch){0};
        st = plumb_mismatch_rescore(&u->mismatch, in, w);
    }
    return plumb_comm_agree(in->t->comm, st);
}

/* ---- one micro-batch ------------------------------------------------------------------------- */

/* Adds one prompt to the micro-batch: its completions that have a term in the loss, the sequences
 * that the method adds, and its pair, if it has one. */
static plumb_status collect_prompt(struct plumb_work *w, const struct plumb_align_inputs *in,
                                   const struct plumb_decision *d, int64_t prompt)
{
    const struct plumb_rollouts *r = &in->rollout->rollouts;
    const struct plumb_scoreboard *board = d->board;
    const struct plumb_choice *choice = &board->choice[prompt];
    const int64_t local_prompt = plumb_partition_local(in->part, prompt);
    struct plumb_micro *m = &w->micro;
    struct plumb_pair pair = {
        .win = -1, .lose = -1, .smooth = choice->smooth, .weight = choice->weight};
    for (int64_t sample = 0; sample < r->group_size; sample++) {
        const int64_t entry = plumb_scoreboard_entry(board, prompt, sample);
        const int64_t sequence = m->pack.n_seq;
        if (!plumb_scoreboard_uses(board, entry))
            continue;
        const int64_t completion = plumb_rollouts_completion(r, local_prompt, sample);
        const struct plumb_rollout *o = &r->at[completion];
        const struct plumb_piece *x = &in->data->record[o->record].prompt;
        PLUMB_TRY(plumb_micro_add(m, o->record, o->sample, x->ids, x->n, o->ids, o->n));
        w->completion_of[sequence] = completion;
        m->weight[sequence] = board->weight[entry];
        m->reward[sequence] = board->norm[entry];
        m->logp_ref[sequence] = plumb_reference_logp(in->reference, completion, PLUMB_ROLE_LOSS);
        if (entry == choice->win)
            pair.win = sequence;
        if (entry == choice->lose)
            pair.lose = sequence;
    }
    if (in->add->add_sequences && choice->branch != PLUMB_BRANCH_SKIP)
        PLUMB_TRY(in->add->add_sequences(in, d, local_prompt, w));
    plumb_micro_end_group(m);
    if (choice->branch == PLUMB_BRANCH_RANK || choice->branch == PLUMB_BRANCH_SWAP)
        m->pair[m->pairs++] = pair;
    return PLUMB_OK;
}

plumb_status plumb_align_collect(struct plumb_work *w, const struct plumb_align_inputs *in,
                                 const struct plumb_decision *d, struct plumb_range prompts)
{
    plumb_micro_clear(&w->micro);
    for (int64_t prompt = prompts.begin; prompt < prompts.end; prompt++)
        PLUMB_TRY(collect_prompt(w, in, d, prompt));
    return PLUMB_OK;
}

/* Compares the log-probs of those packed completions that were sampled from the plain prompt in
 * this iteration, because the micro-batch holds every completion after its plain prompt. It skips
 * principled completions, which were sampled from another prompt, and old ones, which were sampled
 * by other weights. */
static plumb_status compare_plain(struct plumb_mismatch *mismatch,
                                  const struct plumb_align_inputs *in, const struct plumb_work *w)
{
    const struct plumb_micro *m = &w->micro;
    const float *logp = m->pack.logp;
    for (int64_t sequence = 0; sequence < m->pack.n_seq; sequence++) {
        const int64_t completion = w->completion_of[sequence];
        const struct plumb_rollout *o =
            completion >= 0 ? &in->rollout->rollouts.at[completion] : NULL;
        if (o && !o->principled && !o->old)
            PLUMB_TRY(plumb_mismatch_compare(mismatch, in, o, logp));
        logp += m->len[sequence];
    }
    return PLUMB_OK;
}

/* Returns the number of groups in the micro-batch if the objective compares the completions of
 * groups, or 0 if it compares pairs. An objective of groups counts one comparison per group: best
 * against worst completion. */
static int64_t grouped(const struct plumb_micro *m)
{
    return m->objective->needs(&m->param) & PLUMB_NEED_GROUP ? m->groups : 0;
}

/* The arguments of micro_batch_gradient. */
struct gradient_of {
    struct plumb_update *u;
    const struct plumb_align_inputs *in;
    const struct plumb_decision *d;
    const struct plumb_align_step *step;
    struct plumb_work *w;
};

static plumb_status micro_batch_gradient(void *arg, int64_t micro_batch, float *grad,
                                         double value[PLUMB_MICRO_BATCH_VALUES])
{
    const struct gradient_of *g = arg;
    struct plumb_trainer *t = g->in->t;
    struct plumb_micro *m = &g->w->micro;
    PLUMB_TRY(plumb_align_collect(
        g->w, g->in, g->d,
        plumb_split_micro_batch(&g->in->part->split, g->step->step, micro_batch)));
    m->scale = 1.0 / g->u->denominator;
    m->mean_len = g->u->mean_len;
    if (m->pack.n_seq == 0)
        return PLUMB_OK;
    PLUMB_TRY(plumb_micro_forward(m, t->pass, t->model));
    PLUMB_TRY(plumb_micro_check(m));
    if (g->u->measure_mismatch)
        PLUMB_TRY(compare_plain(&g->u->mismatch, g->in, g->w));
    PLUMB_TRY(plumb_micro_loss(m));
    value[SUM_LOSS] = m->out.loss;
    value[SUM_TOKENS] = (double)m->pack.offset[m->pack.n_seq];
    value[SUM_PAIRS] = (double)(m->pairs + grouped(m));
    value[SUM_CHOSEN] = m->out.chosen;
    value[SUM_REJECTED] = m->out.rejected;
    value[SUM_ACCURATE] = (double)m->out.accurate;
    return plumb_micro_backward(m, t->pass, t->model, grad);
}

/* Returns the mean number of tokens of the step's imitated sequences, by which
 * method.loss_aggregation=token divides. The mean covers the imitated completions of the `count`
 * prompts in the list `prompt`, each with its weight, and the sequences that the method adds to
 * those of these prompts that are not skipped. The scoreboard and d->row are equal on all ranks, so
 * the result is equal, too. */
static double imitated_length(const struct plumb_align_inputs *in, const struct plumb_decision *d,
                              const int64_t *prompt, int64_t count)
{
    const struct plumb_scoreboard *b = d->board;
    struct plumb_imitated sums =
        plumb_scoreboard_imitated(b, prompt, count, d->row + ROW_TOKENS, ROW_VALUES);
    for (int64_t k = 0; k < count && in->add->add_sequences; k++)
        if (b->choice[prompt[k]].branch != PLUMB_BRANCH_SKIP) {
            sums.weight += (double)in->add->extra_sequences;
            sums.tokens += d->row[prompt[k] * b->group_size * ROW_VALUES + ROW_EXTRA];
        }
    return plumb_imitated_mean(sums);
}

/* ---- one step -------------------------------------------------------------------------------- */

struct plumb_align_step plumb_update_next(const struct plumb_update *u,
                                          const struct plumb_align_inputs *in)
{
    const struct plumb_partition *p = in->part;
    const int64_t step = (int64_t)u->sums.done % p->steps;
    return (struct plumb_align_step){.step = step,
                                     .prompts = plumb_split_step(&p->split, step),
                                     .done = u->sums.done /
                                             (double)(in->t->cfg->train.epochs * p->steps)};
}

/* Removes the log-prob comparisons of an interrupted step from the statistics: sets u->mismatch to
 * *before, its value at the start of the step, and u->sums.mismatch to that value reduced over all
 * ranks. Collective. */
static plumb_status undo(struct plumb_update *u, const struct plumb_mismatch *before,
                         plumb_comm *comm)
{
    double sum[2] = {before->sum, before->tokens};
    u->mismatch = u->sums.mismatch = *before;
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, &u->sums.mismatch.max, 1, PLUMB_MAX));
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, sum, 2, PLUMB_SUM));
    u->sums.mismatch.sum = sum[0];
    u->sums.mismatch.tokens = sum[1];
    return PLUMB_OK;
}

static void add_step(struct plumb_align_sums *s, const struct plumb_step_result *r)
{
    for (int v = 0; v < PLUMB_MICRO_BATCH_VALUES; v++)
        s->value[v] += r->value[v];
    s->norm += r->optim.grad_norm;
    s->learning_rate = r->optim.lr;
    s->taken++;
}

plumb_status plumb_update_step(struct plumb_update *u, const struct plumb_align_inputs *in,
                               const struct plumb_decision *d, const struct plumb_align_step *step,
                               struct plumb_work *w, bool *paused)
{
    struct plumb_trainer *t = in->t;
    const struct plumb_batch_split *split = &in->part->split;
    const struct plumb_range prompts = step->prompts;
    const struct plumb_mismatch before = u->mismatch;
    const int64_t all = t->cfg->train.epochs * in->part->steps, state_step = t->state.step;
    struct gradient_of arg = {.u = u, .in = in, .d = d, .step = step, .w = w};
    struct plumb_step_result r = {0};
    u->measure_mismatch = u->sums.taken == 0;
    /* The learning-rate schedule counts skipped steps, so that it ends with the last step of the
     * run. */
    t->optim->skipped = t->state.iteration * all + (int64_t)u->sums.done - t->state.step;
    for (int64_t prompt = prompts.begin; prompt < prompts.end; prompt++)
        u->prompt_list[prompt - prompts.begin] = prompt;
    const int64_t count = prompts.end - prompts.begin;
    u->denominator = plumb_scoreboard_terms(d->board, u->prompt_list, count);
    u->mean_len = imitated_length(in, d, u->prompt_list, count);
    if (u->denominator != 0) /* the scoreboard is equal on all ranks, so either all ranks skip the
                              * step or none */
        PLUMB_TRY(plumb_trainer_step(t, plumb_split_micro_batches(split, step->step),
                                     micro_batch_gradient, &arg, &r));
    *paused = r.paused;
    if (r.paused)
        return undo(u, &before, t->comm);
    u->sums.done++;
    if (t->state.step == state_step)
        return PLUMB_OK; /* no prompt of this step had a term in the loss */
    add_step(&u->sums, &r);
    return plumb_health_loss(&t->health, t->cfg, t->state.step, r.value[SUM_LOSS]);
}

/* ---- metrics --------------------------------------------------------------------------------- */

static void set_update_metrics(const struct plumb_align_sums *s, struct plumb_metrics_row *row)
{
    const double *value = s->value, pairs = s->value[SUM_PAIRS];
    if (s->taken > 0) {
        plumb_metrics_set(row, PLUMB_METRIC_LOSS, value[SUM_LOSS] / s->taken);
        plumb_metrics_set(row, PLUMB_METRIC_GRAD_NORM, s->norm / s->taken);
        plumb_metrics_set(row, PLUMB_METRIC_LEARNING_RATE, s->learning_rate);
    } else {
        plumb_log(PLUMB_LOG_INFO,
                  "no prompt had a term in the loss (rewards are missing, or all rewards of a "
                  "prompt are equal): the weights do not change");
    }
    if (s->pairs > 0)
        plumb_metrics_set(row, PLUMB_METRIC_SHARE_SMOOTHED, s->smoothed / s->pairs);
    if (pairs > 0) {
        plumb_metrics_set(row, PLUMB_METRIC_REWARDS_CHOSEN, value[SUM_CHOSEN] / pairs);
        plumb_metrics_set(row, PLUMB_METRIC_REWARDS_REJECTED, value[SUM_REJECTED] / pairs);
        plumb_metrics_set(row, PLUMB_METRIC_REWARDS_MARGINS,
                          (value[SUM_CHOSEN] - value[SUM_REJECTED]) / pairs);
        plumb_metrics_set(row, PLUMB_METRIC_REWARDS_ACCURACIES, value[SUM_ACCURATE] / pairs);
    }
}

plumb_status plumb_update_metrics(struct plumb_update *u, plumb_comm *comm,
                                  struct plumb_metrics_row *row)
{
    PLUMB_TRY(plumb_mismatch_metrics(&u->mismatch, comm, row));
    set_update_metrics(&u->sums, row);
    return PLUMB_OK;
}

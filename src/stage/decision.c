/* decision.c - chooses by the rewards of all ranks which completions are trained on, and sets the
 * metrics of these choices.
 * Layer 5. Includes stage/stages.h, stage/method.h, base/. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "stage/method.h"
#include "stage/stages.h"

plumb_status plumb_decision_open(struct plumb_decision *d, const struct plumb_partition *p,
                                 int64_t group_size)
{
    const int64_t entries = p->per_iteration * group_size;
    d->row = calloc((size_t)entries * ROW_VALUES, sizeof(*d->row));
    PLUMB_REQUIRE(d->row, PLUMB_ERR_NOMEM,
                  "table with token counts and log-probs of %lld completions", (long long)entries);
    return plumb_scoreboard_create(&d->board, p->per_iteration, group_size);
}

void plumb_decision_close(struct plumb_decision *d)
{
    plumb_scoreboard_destroy(&d->board);
    free(d->row);
}

void plumb_decision_restore(struct plumb_decision *d, const struct plumb_train_state *s,
                            const struct plumb_align_param *param)
{
    d->threshold = plumb_threshold_begin(param);
    d->threshold.tau = plumb_state_get(s, "threshold.tau", d->threshold.tau);
    d->threshold.iteration =
        (int64_t)plumb_state_get(s, "threshold.iteration", (double)d->threshold.iteration);
}

plumb_status plumb_decision_save(const struct plumb_decision *d, struct plumb_train_state *s)
{
    PLUMB_TRY(plumb_state_set(s, "threshold.tau", d->threshold.tau));
    return plumb_state_set(s, "threshold.iteration", (double)d->threshold.iteration);
}

static plumb_status fill_board(struct plumb_decision *d, const struct plumb_align_inputs *in,
                               const struct plumb_reward_stage *reward)
{
    const struct plumb_rollouts *r = &in->rollout->rollouts;
    PLUMB_TRY(plumb_scoreboard_begin(d->board, in->part->split.items));
    for (int64_t completion = 0; completion < plumb_rollouts_n(r); completion++) {
        const struct plumb_rollout *o = &r->at[completion];
        if (reward->scores.dropped[completion])
            continue;
        PLUMB_TRY(plumb_scoreboard_put(d->board, o->prompt, o->sample, o->principled,
                                       reward->scores.reward[completion]));
    }
    return PLUMB_OK;
}

/* Logs the number of prompts with only one completion on the scoreboard although group_size is
 * above 1. The method's `preselect` has dropped the other completions of such a prompt, because all
 * of them are equal. */
static void say_alike(const struct plumb_scoreboard *b)
{
    int64_t alike = 0;
    for (int64_t prompt = 0; b->group_size > 1 && prompt < b->prompts; prompt++) {
        int64_t there = 0;
        for (int64_t entry = prompt * b->group_size; entry < (prompt + 1) * b->group_size; entry++)
            there += b->kind[entry] != PLUMB_ENTRY_ABSENT;
        alike += there == 1;
    }
    if (alike > 0)
        plumb_log(PLUMB_LOG_INFO,
                  "%lld of %lld prompts are skipped, because all answers to the prompt are equal",
                  (long long)alike, (long long)b->prompts);
}

/* Returns PLUMB_ERR_NUMERIC if the share of completions without a finite reward is above
 * reward.max_missing. Otherwise it logs the completions without one. Collective. */
static plumb_status check_missing(const struct plumb_decision *d,
                                  const struct plumb_align_inputs *in,
                                  const struct plumb_reward_stage *reward)
{
    const struct plumb_config *cfg = in->t->cfg;
    const struct plumb_align_stats *s = &d->report.stats;
    if (!reward->sources || s->missing == 0)
        return PLUMB_OK;
    char which[900];
    PLUMB_TRY(plumb_align_missing(d, in, reward, which, sizeof(which)));
    const double share = (double)s->missing / (double)s->completions;
    PLUMB_REQUIRE(share <= cfg->reward.max_missing, PLUMB_ERR_NUMERIC,
                  "%lld of %lld completions have no finite reward (%.0f %%, reward.max_missing is "
                  "%.0f %%): %s",
                  (long long)s->missing, (long long)s->completions, 100 * share,
                  100 * cfg->reward.max_missing, which);
    plumb_log(PLUMB_LOG_INFO, "%lld of %lld completions have no finite reward and are dropped: %s",
              (long long)s->missing, (long long)s->completions, which);
    return PLUMB_OK;
}

/* Fills d->row on every rank: each rank writes the rows of its completions, and an allreduce adds
 * the rows of all ranks. Collective. */
static plumb_status share_rows(struct plumb_decision *d, const struct plumb_align_inputs *in)
{
    const struct plumb_rollouts *r = &in->rollout->rollouts;
    const int64_t n = d->board->n * ROW_VALUES;
    memset(d->row, 0, (size_t)n * sizeof(*d->row));
    for (int64_t completion = 0; completion < plumb_rollouts_n(r); completion++) {
        const struct plumb_rollout *o = &r->at[completion];
        const double logp = plumb_reference_logp(in->reference, completion, PLUMB_ROLE_START);
        double *row = d->row + plumb_rollouts_entry(r, o) * ROW_VALUES;
        row[ROW_TOKENS] = (double)o->n;
        row[ROW_FRESH] = o->old ? 0 : (double)o->n;
        if (in->add->rollout_tokens && o->sample == 0)
            row[ROW_FRESH] +=
                (double)in->add->rollout_tokens(in, plumb_rollouts_local_prompt(r, completion));
        if (in->add->extra_tokens && o->sample == 0)
            row[ROW_EXTRA] =
                (double)in->add->extra_tokens(in, d, plumb_rollouts_local_prompt(r, completion));
        row[ROW_CLIPPED] = o->stop == PLUMB_STOP_LENGTH;
        for (int64_t j = 0; j < o->n; j++)
            row[ROW_LOGP] += (double)o->logp[j];
        if (!o->principled && !o->old && !isnan(logp)) {
            row[ROW_KL] = row[ROW_LOGP] - logp;
            row[ROW_KL_COUNT] = 1;
        }
    }
    return plumb_comm_allreduce_f64(in->t->comm, d->row, n, PLUMB_SUM);
}

plumb_status plumb_decision_make(struct plumb_decision *d, const struct plumb_align_inputs *in,
                                 const struct plumb_method *m,
                                 const struct plumb_reward_stage *reward)
{
    plumb_comm *comm = in->t->comm;
    plumb_comm_phase(comm, "threshold");
    PLUMB_TRY(plumb_comm_agree(comm, fill_board(d, in, reward)));
    PLUMB_TRY(plumb_comm_allreduce_f64(comm, d->board->slot, d->board->slots, PLUMB_SUM));
    PLUMB_TRY(plumb_comm_agree(comm, plumb_align_decide(d->board, &d->threshold, &d->report, m,
                                                        in->param, plumb_align_progress(in->t))));
    say_alike(d->board);
    PLUMB_TRY(check_missing(d, in, reward));
    return share_rows(d, in);
}

/* ---- metrics -------------------------------------------------------------------------------- */

/* Sets the rollout metrics. Returns the number of tokens that all ranks generated in this
 * iteration. */
static int64_t set_rollout_metrics(const struct plumb_decision *d, struct plumb_metrics_row *row)
{
    const int64_t n = d->board->n;
    double sum[ROW_VALUES] = {0}, least = INFINITY, most = 0;
    for (int64_t entry = 0; entry < n; entry++) {
        const double *x = d->row + entry * ROW_VALUES;
        for (int v = 0; v < ROW_VALUES; v++)
            sum[v] += x[v];
        least = fmin(least, x[ROW_TOKENS]);
        most = fmax(most, x[ROW_TOKENS]);
    }
    plumb_metrics_set(row, PLUMB_METRIC_COMPLETION_LENGTH, sum[ROW_TOKENS] / (double)n);
    plumb_metrics_set(row, PLUMB_METRIC_COMPLETION_MIN, least);
    plumb_metrics_set(row, PLUMB_METRIC_COMPLETION_MAX, most);
    plumb_metrics_set(row, PLUMB_METRIC_CLIPPED_RATIO, sum[ROW_CLIPPED] / (double)n);
    plumb_metrics_set(row, PLUMB_METRIC_ENTROPY, -sum[ROW_LOGP] / sum[ROW_TOKENS]);
    if (sum[ROW_KL_COUNT] > 0) {
        plumb_metrics_set(row, PLUMB_METRIC_KL, sum[ROW_KL] / sum[ROW_KL_COUNT]);
        plumb_metrics_set(row, PLUMB_METRIC_OBJECTIVE_KL, sum[ROW_KL] / sum[ROW_KL_COUNT]);
    }
    return (int64_t)sum[ROW_FRESH];
}

static void set_report_metrics(const struct plumb_align_report *r, bool principled,
                               bool compares_tau, struct plumb_metrics_row *row)
{
    const struct plumb_align_stats *s = &r->stats;
    plumb_metrics_set(row, PLUMB_METRIC_REWARD, s->reward_mean);
    plumb_metrics_set(row, PLUMB_METRIC_REWARD_STD, s->reward_std);
    plumb_metrics_set(row, PLUMB_METRIC_REWARD_PLAIN, s->reward_plain_mean);
    if (principled)
        plumb_metrics_set(row, PLUMB_METRIC_REWARD_PRINCIPLED, s->reward_principled_mean);
    plumb_metrics_set(row, PLUMB_METRIC_REWARD_MISSING, (double)s->missing);
    if (compares_tau) {
        plumb_metrics_set(row, PLUMB_METRIC_TAU, r->tau);
        plumb_metrics_set(row, PLUMB_METRIC_SHARE_RANK, r->branch_share[PLUMB_BRANCH_RANK]);
        plumb_metrics_set(row, PLUMB_METRIC_SHARE_WEIGHTED, r->branch_share[PLUMB_BRANCH_WEIGHTED]);
        plumb_metrics_set(row, PLUMB_METRIC_SHARE_REVERSE, r->branch_share[PLUMB_BRANCH_SWAP]);
    }
    plumb_metrics_set(row, PLUMB_METRIC_SHARE_DROPPED, r->branch_share[PLUMB_BRANCH_SKIP]);
    plumb_metrics_set(row, PLUMB_METRIC_MARGIN_MEAN, s->margin_mean);
    plumb_metrics_set(row, PLUMB_METRIC_MARGIN_STD, s->margin_std);
    plumb_metrics_set(row, PLUMB_METRIC_MARGIN_Q05, s->margin_quantile[0]);
    plumb_metrics_set(row, PLUMB_METRIC_MARGIN_Q50, s->margin_quantile[2]);
    plumb_metrics_set(row, PLUMB_METRIC_MARGIN_Q95, s->margin_quantile[4]);
    plumb_metrics_set(row, PLUMB_METRIC_WEIGHT_ENTROPY, r->weight_entropy);
}

void plumb_decision_metrics(const struct plumb_decision *d, const struct plumb_align_inputs *in,
                            const struct plumb_method *m, int64_t *generated,
                            struct plumb_metrics_row *row)
{
    *generated = set_rollout_metrics(d, row);
    set_report_metrics(&d->report, in->rollout->rollouts.principled > 0,
                       plumb_method_compares_tau(m), row);
}

/* align.c - runs the stages of each alignment iteration in their order.
 * Layer 5. Includes base/, align/, comm/, data/, train/. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "stage/align.h"
#include "train/plan.h"
#include "train/weights.h"

/* Wall time of each stage of one iteration on this rank, in seconds. */
struct stage_times {
    double rollout, reward, reference, train, save;
};

struct plumb_rollout_source plumb_align_source(struct plumb_align_run *a)
{
    struct plumb_rollout_source src = {
        .data = a->data,
        .tokenizer = a->t->tokenizer,
        .generator = a->generator,
        .model = a->t->model,
        .options = plumb_generate_options_of(a->t->cfg, a->t->state.iteration + 1),
        .principled = a->method->principled,
    };
    src.options.pause = plumb_stop_noticed;
    src.options.pause_arg = &a->t->stop;
    return src;
}

/* Starts an iteration: chooses its prompts and clears its completions. If the checkpoint holds an
 * unfinished iteration, reads the completions that it saved. */
static plumb_status begin(struct plumb_align_run *a)
{
    const struct plumb_rollout_source src = plumb_align_source(a);
    a->update.sums = (struct plumb_align_sums){0};
    a->update.mismatch = (struct plumb_mismatch){0};
    PLUMB_TRY(plumb_align_begin_partition(a));
    PLUMB_TRY(plumb_rollouts_begin(&a->answers, &src, a->part.local_prompt, a->part.local_record,
                                   a->part.n_local));
    plumb_references_begin(a->reference.set);
    PLUMB_TRY(plumb_references_follow(a->reference.set));
    if (a->add->begin)
        PLUMB_TRY(a->add->begin(a));
    if (a->in_progress) {
        a->in_progress = false;
        PLUMB_TRY(plumb_align_resume(a, a->t->resumed_from));
        a->weights = a->answers.weights;
        a->update.mismatch = a->update.sums.mismatch;
    }
    return PLUMB_OK;
}

static plumb_status generate(struct plumb_align_run *a)
{
    const struct plumb_rollout_source src = plumb_align_source(a);
    return plumb_rollouts_generate(&a->answers, &src);
}

static plumb_status score(struct plumb_align_run *a)
{
    if (!a->rewards || a->add->score)
        return PLUMB_OK;
    return plumb_rollouts_score(&a->answers, a->data, a->rewards, plumb_stop_noticed, &a->t->stop);
}

/* Runs one stage on this rank's part of the data. If a pause is requested, `work` returns early.
 * Then all ranks meet and save a checkpoint, and if the run goes on, `work` does the rest.
 * Collective. */
static plumb_status run_stage(struct plumb_align_run *a, const char *phase,
                              plumb_status (*work)(struct plumb_align_run *a))
{
    bool paused = true;
    while (paused) {
        plumb_comm_phase(a->t->comm, phase);
        const plumb_status st = work(a);
        PLUMB_TRY(plumb_comm_agree(a->t->comm, st == PLUMB_STOPPED ? PLUMB_OK : st));
        PLUMB_TRY(plumb_align_pause(a, &paused));
    }
    return PLUMB_OK;
}

static plumb_status fill_board(struct plumb_align_run *a)
{
    PLUMB_TRY(plumb_scoreboard_begin(a->decision.board, a->part.split.items));
    for (int64_t i = 0; i < a->answers.prompts * a->answers.group_size; i++) {
        const struct plumb_rollout *o = &a->answers.at[i];
        if (o->dropped)
            continue;
        PLUMB_TRY(plumb_scoreboard_put(a->decision.board, o->prompt, o->sample, o->principled,
                                       o->reward));
    }
    return PLUMB_OK;
}

/* Logs the number of prompts with one completion on the scoreboard: REAL dropped the others,
 * because all completions of the prompt are equal. */
static void say_alike(const struct plumb_align_run *a)
{
    const struct plumb_scoreboard *b = a->decision.board;
    int64_t alike = 0;
    for (int64_t q = 0; b->group_size > 1 && q < b->prompts; q++) {
        int64_t there = 0;
        for (int64_t i = q * b->group_size; i < (q + 1) * b->group_size; i++)
            there += b->kind[i] != PLUMB_ENTRY_ABSENT;
        alike += there == 1;
    }
    if (alike > 0)
        plumb_log(PLUMB_LOG_INFO,
                  "%lld of %lld prompts have one answer only, again and again, and "
                  "are skipped",
                  (long long)alike, (long long)b->prompts);
}

/* Sums the rewards of all ranks into every rank's scoreboard. Then each rank computes the choices
 * of all prompts and gets the same result. Collective. */
static plumb_status decide(struct plumb_align_run *a)
{
    const struct plumb_config *cfg = a->t->cfg;
    plumb_comm_phase(a->t->comm, "threshold");
    PLUMB_TRY(plumb_comm_agree(a->t->comm, fill_board(a)));
    PLUMB_TRY(plumb_comm_allreduce_f64(a->t->comm, a->decision.board->slot,
                                       a->decision.board->slots, PLUMB_SUM));
    PLUMB_TRY(
        plumb_comm_agree(a->t->comm, plumb_align_decide(a->decision.board, &a->decision.threshold,
                                                        &a->decision.report, a->method, &a->param,
                                                        plumb_align_progress(a))));
    say_alike(a);
    const struct plumb_align_stats *s = &a->decision.report.stats;
    if (!a->rewards || s->missing == 0)
        return PLUMB_OK;
    char which[900];
    PLUMB_TRY(plumb_align_missing(a, which, sizeof(which)));
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

/* Fills decision.row on every rank: each rank writes the rows of its completions, and an allreduce
 * adds the rows of all ranks. Collective. */
static plumb_status share_rows(struct plumb_align_run *a)
{
    const int64_t g = a->answers.group_size, n = a->part.split.items * g * ROW_VALUES;
    memset(a->decision.row, 0, (size_t)n * sizeof(*a->decision.row));
    for (int64_t i = 0; i < a->answers.prompts * g; i++) {
        const struct plumb_rollout *o = &a->answers.at[i];
        double *row = a->decision.row + (o->prompt * g + o->sample) * ROW_VALUES;
        row[ROW_TOKENS] = (double)o->n;
        row[ROW_FRESH] = o->old ? 0 : (double)o->n;
        if (a->add->rollout_tokens && i % g == 0)
            row[ROW_FRESH] += (double)a->add->rollout_tokens(a, i / g);
        if (a->add->extra_tokens && i % g == 0)
            row[ROW_EXTRA] = (double)a->add->extra_tokens(a, i / g);
        row[ROW_CLIPPED] = o->stop == PLUMB_STOP_LENGTH;
        for (int64_t j = 0; j < o->n; j++)
            row[ROW_LOGP] += (double)o->logp[j];
        if (!o->principled && !o->old && !isnan(o->under[PLUMB_ROLE_START])) {
            row[ROW_KL] = row[ROW_LOGP] - o->under[PLUMB_ROLE_START];
            row[ROW_KL_COUNT] = 1;
        }
    }
    return plumb_comm_allreduce_f64(a->t->comm, a->decision.row, n, PLUMB_SUM);
}

/* Sets the rollout metrics. Returns the number of tokens that all ranks generated in this
 * iteration. */
static int64_t set_rollout_metrics(struct plumb_align_run *a, struct plumb_metrics_row *row)
{
    const int64_t n = a->part.split.items * a->answers.group_size;
    double sum[ROW_VALUES] = {0}, least = INFINITY, most = 0;
    for (int64_t i = 0; i < n; i++) {
        const double *x = a->decision.row + i * ROW_VALUES;
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

static void set_report_metrics(const struct plumb_align_report *r, const struct plumb_method *m,
                               struct plumb_metrics_row *row)
{
    const struct plumb_align_stats *s = &r->stats;
    const bool by_threshold = m->rule == plumb_threshold_branch || m->rule == plumb_threshold_weigh;
    plumb_metrics_set(row, PLUMB_METRIC_REWARD, s->reward_mean);
    plumb_metrics_set(row, PLUMB_METRIC_REWARD_STD, s->reward_std);
    plumb_metrics_set(row, PLUMB_METRIC_REWARD_PLAIN, s->reward_plain_mean);
    if (m->principled)
        plumb_metrics_set(row, PLUMB_METRIC_REWARD_PRINCIPLED, s->reward_principled_mean);
    plumb_metrics_set(row, PLUMB_METRIC_REWARD_MISSING, (double)s->missing);
    if (by_threshold) {
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

static void set_update_metrics(const struct plumb_align_sums *s, struct plumb_metrics_row *row)
{
    const double *value = s->value, pairs = s->value[SUM_PAIRS];
    if (s->taken > 0) {
        plumb_metrics_set(row, PLUMB_METRIC_LOSS, value[SUM_LOSS] / s->taken);
        plumb_metrics_set(row, PLUMB_METRIC_GRAD_NORM, s->norm / s->taken);
        plumb_metrics_set(row, PLUMB_METRIC_LEARNING_RATE, s->learning_rate);
    } else {
        plumb_log(PLUMB_LOG_INFO,
                  "no prompt had a term in the loss (scores missing, or all of a prompt "
                  "alike): the weights stay");
    }
    if (s->pairs > 0)
        plumb_metrics_set(row, PLUMB_METRIC_SHARE_DOUBTED, s->doubted / s->pairs);
    if (pairs > 0) {
        plumb_metrics_set(row, PLUMB_METRIC_REWARDS_CHOSEN, value[SUM_CHOSEN] / pairs);
        plumb_metrics_set(row, PLUMB_METRIC_REWARDS_REJECTED, value[SUM_REJECTED] / pairs);
        plumb_metrics_set(row, PLUMB_METRIC_REWARDS_MARGINS,
                          (value[SUM_CHOSEN] - value[SUM_REJECTED]) / pairs);
        plumb_metrics_set(row, PLUMB_METRIC_REWARDS_ACCURACIES, value[SUM_ACCURATE] / pairs);
    }
}

/* Checks that the rollouts come from the weights of this iteration, and compares a sample of their
 * log-probs with the training forward pass. Collective. */
static plumb_status check_weights(struct plumb_align_run *a)
{
    const bool moved =
        a->update.sums.taken > 0; /* steps taken before a pause; log-probs were compared then */
    plumb_status st = plumb_align_own_answers(a, moved);
    if (st == PLUMB_OK && !moved) {
        a->update.mismatch = (struct plumb_mismatch){0};
        st = plumb_align_rescore(a);
    }
    return plumb_comm_agree(a->t->comm, st);
}

/* Discards the interrupted step and its log-prob comparisons, then saves the pause. `before` is the
 * comparison result at the start of the step. Collective. */
static plumb_status pause_step(struct plumb_align_run *a, const struct plumb_mismatch *before)
{
    const struct plumb_range prompts = plumb_split_step(&a->part.split, a->update.step);
    bool paused;
    if (a->add->end_step)
        a->add->end_step(a, prompts, true);
    double sum[2] = {before->sum, before->tokens};
    a->update.mismatch = a->update.sums.mismatch = *before;
    PLUMB_TRY(plumb_comm_allreduce_f64(a->t->comm, &a->update.sums.mismatch.max, 1, PLUMB_MAX));
    PLUMB_TRY(plumb_comm_allreduce_f64(a->t->comm, sum, 2, PLUMB_SUM));
    a->update.sums.mismatch.sum = sum[0];
    a->update.sums.mismatch.tokens = sum[1];
    return plumb_align_pause(a, &paused);
}

static plumb_status update(struct plumb_align_run *a, struct plumb_metrics_row *row)
{
    struct plumb_trainer *t = a->t;
    struct plumb_align_sums *s = &a->update.sums;
    const int64_t all = t->cfg->train.epochs * a->part.steps;
    struct plumb_progress progress;
    PLUMB_TRY(check_weights(a));
    plumb_progress_start(&progress, "train", "steps", all);
    while ((int64_t)s->done < all) {
        struct plumb_step_result r;
        const struct plumb_mismatch before_step = a->update.mismatch;
        const int64_t before = t->state.step;
        a->update.step = (int64_t)s->done % a->part.steps;
        a->update.measure_mismatch = s->taken == 0;
        const struct plumb_range prompts = plumb_split_step(&a->part.split, a->update.step);
        if (a->add->decide_step)
            PLUMB_TRY(a->add->decide_step(a, prompts));
        /* count skipped steps in the schedule, so that it ends with the last step */
        t->optim->skipped = t->state.iteration * all + (int64_t)s->done - t->state.step;
        PLUMB_TRY(plumb_align_update(a, &r));
        if (r.paused) {
            PLUMB_TRY(pause_step(a, &before_step));
            continue;
        }
        s->done++;
        if (a->add->end_step)
            a->add->end_step(a, prompts, false);
        plumb_progress_at(&progress, (int64_t)s->done, NULL);
        if (t->state.step == before)
            continue; /* no prompt of this step had a term in the loss */
        for (int v = 0; v < PLUMB_MICRO_BATCH_VALUES; v++)
            s->value[v] += r.value[v];
        s->norm += r.optim.grad_norm;
        s->learning_rate = r.optim.lr;
        s->taken++;
    }
    plumb_progress_end(&progress);
    PLUMB_TRY(plumb_align_mismatch_metrics(a, row));
    set_update_metrics(s, row);
    return PLUMB_OK;
}

static plumb_status save(struct plumb_align_run *a, const struct plumb_metrics_row *row)
{
    struct plumb_trainer *t = a->t;
    const bool last = plumb_align_ended(a), evaluated = row->set[PLUMB_METRIC_EVAL_REWARD];
    PLUMB_TRY(plumb_state_set(&t->state, "threshold.tau", a->decision.threshold.tau));
    PLUMB_TRY(
        plumb_state_set(&t->state, "threshold.iteration", (double)a->decision.threshold.iteration));
    if (plumb_trainer_saves(t, t->state.iteration, last, evaluated))
        return plumb_trainer_save(t, row, last);
    return PLUMB_OK;
}

static plumb_status evaluate(struct plumb_align_run *a, struct plumb_metrics_row *row)
{
    const int64_t every = a->t->cfg->train.eval_every;
    if (plumb_align_ended(a) || (every > 0 && a->t->state.iteration % every == 0))
        return plumb_align_evaluate(a, row);
    return PLUMB_OK;
}

static double lap(double *since)
{
    const double now = plumb_now(), spent = now - *since;
    *since = now;
    return spent;
}

static plumb_status iterate(struct plumb_align_run *a)
{
    struct plumb_trainer *t = a->t;
    struct stage_times time = {0};
    struct plumb_metrics_row row = {0};
    const double began = plumb_now();
    double since = began;
    PLUMB_TRY(plumb_weights_agree(&a->weights, t->model, t->comm));
    PLUMB_TRY(plumb_comm_agree(t->comm, begin(a)));
    PLUMB_TRY(run_stage(a, "rollout", generate));
    if (a->add->rollout)
        PLUMB_TRY(run_stage(a, a->add->rollout_phase, a->add->rollout));
    time.rollout = lap(&since);
    if (a->add->preselect)
        PLUMB_TRY(run_stage(a, a->add->preselect_phase, a->add->preselect));
    PLUMB_TRY(run_stage(a, "reward", score));
    time.reward = lap(&since);
    PLUMB_TRY(run_stage(a, "reference", plumb_align_reference));
    if (a->add->score)
        PLUMB_TRY(run_stage(a, "judge", a->add->score));
    time.reference = lap(&since);
    PLUMB_TRY(decide(a));
    PLUMB_TRY(share_rows(a));
    const int64_t sampled = set_rollout_metrics(a, &row);
    set_report_metrics(&a->decision.report, a->method, &row);
    plumb_align_spread(a, &row);
    PLUMB_TRY(plumb_align_write_rollouts(a));
    time.save = lap(&since);
    PLUMB_TRY(update(a, &row));
    time.train = lap(&since);
    PLUMB_TRY(plumb_align_end_partition(a, sampled));
    t->state.iteration++;
    t->state.prompt_cursor += a->part.split.items;
    t->state.num_tokens += sampled + (int64_t)a->update.sums.value[SUM_TOKENS];
    PLUMB_TRY(evaluate(a, &row));
    plumb_metrics_set(&row, PLUMB_METRIC_GENERATED_TOKENS, (double)plumb_align_generated(a));
    plumb_metrics_set(&row, PLUMB_METRIC_EPOCH,
                      (double)t->state.prompt_cursor / (double)a->data->n);
    plumb_metrics_set(&row, PLUMB_METRIC_TIME_ROLLOUT, time.rollout);
    plumb_metrics_set(&row, PLUMB_METRIC_TIME_REWARD, time.reward);
    plumb_metrics_set(&row, PLUMB_METRIC_TIME_REFERENCE, time.reference);
    plumb_metrics_set(&row, PLUMB_METRIC_TIME_TRAIN, time.train);
    plumb_metrics_set(&row, PLUMB_METRIC_TIME_SAVE, time.save);
    plumb_metrics_set(&row, PLUMB_METRIC_TIME_ITERATION, plumb_now() - began);
    plumb_metrics_set(&row, PLUMB_METRIC_ROLLOUT_TOKENS_PER_SECOND,
                      time.rollout > 0 ? (double)sampled / time.rollout : 0);
    PLUMB_TRY(plumb_comm_agree(t->comm, plumb_trainer_log(t, &row, t->cfg->train.iterations)));
    PLUMB_TRY(plumb_align_show_samples(a));
    return save(a, &row);
}

static plumb_status setup(void *run, const struct plumb_trainer_source *s)
{
    return plumb_align_setup(run, s);
}

static plumb_status work(void *run)
{
    struct plumb_align_run *a = run;
    while (!plumb_align_ended(a))
        PLUMB_TRY(iterate(a));
    plumb_align_say_spent(a);
    return plumb_align_write_report(a);
}

static void release(void *run, plumb_status outcome)
{
    struct plumb_align_run *a = run;
    plumb_trainer_close(&a->t, outcome);
    plumb_align_release(a);
}

static struct plumb_dataset **data(void *run)
{
    return &((struct plumb_align_run *)run)->data;
}

static plumb_status check(const struct plumb_config *cfg)
{
    PLUMB_REQUIRE(*cfg->data.prompts, PLUMB_ERR_CONFIG,
                  "data.prompts: is not set; name a JSONL file of prompts");
    return PLUMB_OK;
}

const struct plumb_job plumb_job_align = {.name = "align",
                                          .check = check,
                                          .size = sizeof(struct plumb_align_run),
                                          .setup = setup,
                                          .work = work,
                                          .release = release,
                                          .data = data};

plumb_status plumb_train_align(const struct plumb_trainer_source *source)
{
    return plumb_job_run(&plumb_job_align, source);
}

/* align.c - runs the stages of each alignment iteration in their order.
 * Layer 5. Includes stage/align_run.h, stage/load.h, base/, train/. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "stage/align_run.h"
#include "stage/load.h"
#include "train/loops.h"
#include "train/plan.h"
#include "train/weights.h"

/* Starts an iteration: chooses its prompts, and clears the completions, rewards, log-probs and sums
 * of the last iteration. In the first iteration after a resume, reads the completions and sums of
 * an unfinished iteration, if the checkpoint holds them. */
static plumb_status begin(struct plumb_align_run *a)
{
    const struct plumb_align_inputs in = plumb_align_inputs_of(a);
    plumb_update_begin(&a->update);
    PLUMB_TRY(plumb_partition_begin(&a->part, &a->context));
    PLUMB_TRY(plumb_rollout_stage_begin(&a->rollout, &a->context, &a->part));
    plumb_scores_clear(&a->reward.scores);
    PLUMB_TRY(plumb_reference_stage_begin(&a->reference));
    if (in.add->begin)
        PLUMB_TRY(in.add->begin(&in, &a->rollout, &a->reward));
    if (a->in_progress) {
        a->in_progress = false;
        PLUMB_TRY(plumb_align_resume(a, a->t->resumed_from));
    }
    return PLUMB_OK;
}

/* ---- the stages, each as a function that run_stage calls ------------------------------------ */

static plumb_status generate(struct plumb_align_run *a)
{
    struct plumb_rollout_source src = plumb_rollout_stage_source(&a->rollout, &a->context);
    plumb_balance_supply(&a->rollout, &src);
    return plumb_rollouts_generate(plumb_rollout_stage_made(&a->rollout), &src);
}

static plumb_status collect(struct plumb_align_run *a)
{
    return plumb_balance_collect(&a->rollout, &a->context, &a->part);
}

static plumb_status method_rollout(struct plumb_align_run *a)
{
    const struct plumb_align_inputs in = plumb_align_inputs_of(a);
    return in.add->rollout(&in);
}

static plumb_status method_preselect(struct plumb_align_run *a)
{
    const struct plumb_align_inputs in = plumb_align_inputs_of(a);
    return in.add->preselect(&in, &a->reward, &a->work);
}

static plumb_status score(struct plumb_align_run *a)
{
    if (!a->reward.sources || a->context.add->score)
        return PLUMB_OK;
    return plumb_scores_compute(&a->reward.scores, &a->rollout.rollouts, a->data, a->reward.sources,
                                plumb_stop_pause, &a->t->stop);
}

static plumb_status reference(struct plumb_align_run *a)
{
    const struct plumb_align_inputs in = plumb_align_inputs_of(a);
    return plumb_reference_stage_score(&a->reference, &in, &a->reward, &a->work);
}

static plumb_status method_score(struct plumb_align_run *a)
{
    const struct plumb_align_inputs in = plumb_align_inputs_of(a);
    return in.add->score(&in, &a->reward, &a->work);
}

/* Runs one stage. `work` computes this rank's part of it; on a pause request it returns
 * PLUMB_STOPPED before it has finished. The ranks then save a checkpoint together, and unless the
 * run ends there, `work` is called again and computes the rest. `after` may be NULL; otherwise it
 * is collective and is called after each call of `work`. Collective. */
static plumb_status run_stage(struct plumb_align_run *a, const char *phase,
                              plumb_status (*work)(struct plumb_align_run *a),
                              plumb_status (*after)(struct plumb_align_run *a))
{
    bool paused = true;
    while (paused) {
        plumb_comm_phase(a->t->comm, phase);
        const plumb_status st = work(a);
        PLUMB_TRY(plumb_comm_agree(a->t->comm, st == PLUMB_STOPPED ? PLUMB_OK : st));
        if (after)
            PLUMB_TRY(after(a));
        PLUMB_TRY(plumb_align_pause(a, &paused));
    }
    return PLUMB_OK;
}

/* Takes the optimizer steps of the iteration that are not taken yet. Collective. */
static plumb_status update(struct plumb_align_run *a, struct plumb_metrics_row *row)
{
    const struct plumb_align_inputs in = plumb_align_inputs_of(a);
    const int64_t all = a->t->cfg->train.epochs * a->part.steps;
    struct plumb_progress progress;
    PLUMB_TRY(plumb_update_check_weights(&a->update, &in, &a->work));
    plumb_progress_start(&progress, "train", "steps", all);
    while ((int64_t)a->update.sums.done < all) {
        const struct plumb_align_step step = plumb_update_next(&a->update, &in);
        bool paused, saved;
        if (in.add->decide_step)
            PLUMB_TRY(in.add->decide_step(&in, &a->decision, &step, &a->work));
        PLUMB_TRY(plumb_update_step(&a->update, &in, &a->decision, &step, &a->work, &paused));
        if (in.add->end_step)
            in.add->end_step(&in, &a->decision, step.prompts, paused, &a->update.sums);
        if (paused)
            PLUMB_TRY(plumb_align_pause(a, &saved));
        else
            plumb_progress_at(&progress, (int64_t)a->update.sums.done, NULL);
    }
    plumb_progress_end(&progress);
    return plumb_update_metrics(&a->update, a->t->comm, row);
}

static plumb_status save(struct plumb_align_run *a, const struct plumb_metrics_row *row)
{
    struct plumb_trainer *t = a->t;
    const bool last = plumb_align_ended(t), evaluated = row->set[PLUMB_METRIC_EVAL_REWARD];
    PLUMB_TRY(plumb_decision_save(&a->decision, &t->state));
    if (plumb_trainer_saves(t, t->state.iteration, last, evaluated))
        return plumb_trainer_save(t, row, last);
    return PLUMB_OK;
}

static plumb_status evaluate(struct plumb_align_run *a, struct plumb_metrics_row *row)
{
    const int64_t every = a->t->cfg->train.eval_every;
    if (plumb_align_ended(a->t) || (every > 0 && a->t->state.iteration % every == 0))
        return plumb_align_held_out_run(&a->held_out, a->t, a->rollout.generator, a->reward.sources,
                                        row);
    return PLUMB_OK;
}

/* Runs the stages that come before the decision, and measures their times. Collective. */
static plumb_status run_stages(struct plumb_align_run *a, struct plumb_load *load)
{
    const struct plumb_method_stages *add = a->context.add;
    PLUMB_TRY(plumb_weights_agree(&a->rollout.weights, a->t->model, a->t->comm));
    PLUMB_TRY(plumb_comm_agree(a->t->comm, begin(a)));
    PLUMB_TRY(plumb_balance_deal(&a->rollout, &a->context, &a->part));
    PLUMB_TRY(run_stage(a, "rollout", generate, collect));
    if (add->rollout)
        PLUMB_TRY(run_stage(a, add->rollout_phase, method_rollout, NULL));
    plumb_load_lap(load, PLUMB_LOAD_ROLLOUT);
    load->made_by = a->rollout.balance.maker;
    load->prompts = a->part.split.items;
    if (add->preselect)
        PLUMB_TRY(run_stage(a, add->preselect_phase, method_preselect, NULL));
    PLUMB_TRY(run_stage(a, "reward", score, NULL));
    plumb_load_lap(load, PLUMB_LOAD_REWARD);
    PLUMB_TRY(run_stage(a, "reference", reference, NULL));
    if (add->score)
        PLUMB_TRY(run_stage(a, "judge", method_score, NULL));
    plumb_load_lap(load, PLUMB_LOAD_REFERENCE);
    return PLUMB_OK;
}

/* Sets the metrics of the run's position, times and speed in row. saved: seconds from the end of
 * the stages before the decision until the rollout files are written; sampled: tokens that all
 * ranks generated in the iteration. */
static void set_run_metrics(const struct plumb_align_run *a, const struct plumb_load *load,
                            double saved, int64_t sampled, struct plumb_metrics_row *row)
{
    const double *seconds = load->seconds;
    const struct plumb_train_state *s = &a->t->state;
    plumb_metrics_set(row, PLUMB_METRIC_GENERATED_TOKENS, (double)plumb_align_generated(s));
    plumb_metrics_set(row, PLUMB_METRIC_EPOCH, (double)s->prompt_cursor / (double)a->data->n);
    plumb_metrics_set(row, PLUMB_METRIC_TIME_ROLLOUT, seconds[PLUMB_LOAD_ROLLOUT]);
    plumb_metrics_set(row, PLUMB_METRIC_TIME_REWARD, seconds[PLUMB_LOAD_REWARD]);
    plumb_metrics_set(row, PLUMB_METRIC_TIME_REFERENCE, seconds[PLUMB_LOAD_REFERENCE]);
    plumb_metrics_set(row, PLUMB_METRIC_TIME_TRAIN, seconds[PLUMB_LOAD_TRAIN]);
    plumb_metrics_set(row, PLUMB_METRIC_TIME_SAVE, saved);
    plumb_metrics_set(
        row, PLUMB_METRIC_ROLLOUT_TOKENS_PER_SECOND,
        seconds[PLUMB_LOAD_ROLLOUT] > 0 ? (double)sampled / seconds[PLUMB_LOAD_ROLLOUT] : 0);
}

static plumb_status iterate(struct plumb_align_run *a)
{
    struct plumb_trainer *t = a->t;
    const struct plumb_align_inputs in = plumb_align_inputs_of(a);
    struct plumb_load load;
    struct plumb_metrics_row row = {0};
    const double began = plumb_now();
    int64_t sampled;
    plumb_load_begin(&load, t->comm, a->rollout.generator);
    PLUMB_TRY(run_stages(a, &load));
    PLUMB_TRY(plumb_decision_make(&a->decision, &in, a->context.method, &a->reward));
    plumb_decision_metrics(&a->decision, &in, a->context.method, &sampled, &row);
    plumb_status health = plumb_align_spread(&a->decision, &in, &a->reward, &row);
    if (health == PLUMB_OK)
        health = plumb_health_rollouts(&t->health, t->cfg, t->state.iteration + 1, &row);
    PLUMB_TRY(plumb_align_write_rollouts(&in, &a->reward, &a->decision));
    /* a failed health check (options health.*) ends the run only now, so that the rollout files
     * exist and show the problem */
    PLUMB_TRY(health);
    const double saved = plumb_load_lap(&load, PLUMB_LOAD_COUNT);
    PLUMB_TRY(update(a, &row));
    plumb_load_lap(&load, PLUMB_LOAD_TRAIN);
    PLUMB_TRY(plumb_partition_end(&a->part, &a->context, sampled));
    t->state.iteration++;
    t->state.prompt_cursor += a->part.split.items;
    t->state.num_tokens += sampled + (int64_t)a->update.sums.value[SUM_TOKENS];
    PLUMB_TRY(plumb_load_share(&load, t, &row));
    PLUMB_TRY(evaluate(a, &row));
    set_run_metrics(a, &load, saved, sampled, &row);
    plumb_metrics_set(&row, PLUMB_METRIC_TIME_ITERATION, plumb_now() - began);
    PLUMB_TRY(plumb_comm_agree(t->comm, plumb_trainer_log(t, &row, t->cfg->train.iterations)));
    PLUMB_TRY(plumb_align_show_samples(&in, &a->reward));
    return save(a, &row);
}

static plumb_status setup(void *run, const struct plumb_trainer_source *s)
{
    return plumb_align_setup(run, s);
}

static plumb_status work(void *run)
{
    struct plumb_align_run *a = run;
    while (!plumb_align_ended(a->t))
        PLUMB_TRY(iterate(a));
    plumb_align_say_spent(a->t);
    const struct plumb_align_inputs in = plumb_align_inputs_of(a);
    return plumb_align_write_report(&a->context, &in, &a->reward);
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

static void cost(const void *run, struct plumb_cost *out)
{
    const struct plumb_align_run *a = run;
    plumb_align_cost(out, &a->context, &a->part, &a->reference,
                     plumb_rewards_model(a->reward.sources));
}

const struct plumb_job plumb_job_align = {.cost = cost,
                                          .name = "align",
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

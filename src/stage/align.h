/* align.h - the state of an alignment run, shared by the files that implement its stages.
 * Layer 5, private to stage/. Includes align/, data/, model/, train/. */
#ifndef PLUMB_STAGE_ALIGN_H
#define PLUMB_STAGE_ALIGN_H

#include "stage/commands.h"
#include "stage/method.h"
#include "stage/rewards.h"
#include "stage/rollouts.h"
#include "train/loops.h"
#include "train/micro.h"
#include "train/references.h"

/* Columns of a row of plumb_decision.row: the scalars of one completion. Every rank needs them for
 * the metrics of the iteration and the loss denominator. ROW_LOGP is the sum of the completion's
 * log-probs in nats; ROW_FRESH counts the tokens that this iteration generated for the completion;
 * ROW_EXTRA counts the tokens of the sequences that the method adds to the prompt, in the row of
 * the prompt's first completion. */
enum { ROW_TOKENS, ROW_FRESH, ROW_EXTRA, ROW_CLIPPED, ROW_LOGP, ROW_KL, ROW_KL_COUNT, ROW_VALUES };
/* Index of plumb_step_result.value: each is a sum over the micro-batches of one optimizer step. */
enum { SUM_LOSS, SUM_TOKENS, SUM_PAIRS, SUM_CHOSEN, SUM_REJECTED, SUM_ACCURATE };

/* The log-prob of a token at sampling minus its log-prob in the training forward pass, in nats. The
 * struct covers the tokens that this rank has compared so far. */
struct plumb_mismatch {
    double max, sum, tokens; /* largest |difference|; sum of the differences; number of tokens */
};

/* Totals over the optimizer steps of an iteration, for its line of metrics. Every member is a
 * double, because a pause writes the struct as one array. */
struct plumb_align_sums {
    double done;                            /* steps done, including skipped ones (no loss term) */
    double taken;                           /* optimizer steps that changed the weights */
    double pairs, doubted;                  /* SPA: number of pairs; pairs with a smoothed label */
    double value[PLUMB_MICRO_BATCH_VALUES]; /* indexed by SUM_*; summed over the steps taken */
    double norm, learning_rate;             /* sum of the gradient norms; rate of the last step */
    struct plumb_mismatch mismatch;         /* reduced over all ranks; set only at a pause */
};

/* The held-out prompts of data.eval, and this rank's share of them. */
struct plumb_align_held {
    struct plumb_dataset *data;    /* NULL if data.eval is not set */
    struct plumb_rollouts answers; /* one completion for each record of this rank */
    int64_t *index;                /* (n_local,) records of this rank: rank + k * world_size */
    int64_t n_local;               /* number of this rank's records */
    double *value; /* (data->n, HELD_VALUES) results per record, summed over ranks */
};

/* Five kinds of index are in use. A variable's name says which kind it is:
 *   record        a line of data.prompts, 0 .. data->n - 1; the prompt id of random numbers
 *   prompt        a prompt of the iteration, in the global order; the same on every rank
 *   local prompt  a prompt that this rank owns, in the order of the prompts
 *   completion    a completion of this rank: local prompt * group_size + sample
 *   sequence      a sequence of the packed micro-batch */

/* The prompts of an iteration, and the prompts among them that this rank owns. Only partition.c
 * writes this struct. */
struct plumb_partition {
    int64_t per_iteration;          /* prompts of a full iteration; arrays are sized by it */
    int64_t most_local;             /* largest n_local of this rank in any iteration */
    struct plumb_batch_split split; /* cuts the iteration's prompts into steps and micro-batches */
    int64_t fresh;                  /* prompts of this iteration that get new completions */
    int64_t steps;                  /* optimizer steps of one pass over the prompts */
    int64_t *record;                /* (per_iteration,) record of each prompt */
    int64_t n_local;                /* local prompts of this iteration */
    int64_t *local_prompt;          /* (n_local,) prompt of each local prompt, ascending */
    int64_t *local_record;          /* (n_local,) record of each local prompt */
    int64_t *step_first;            /* (steps,) first local prompt of each step */
};

/* The frozen reference models, which give reference log-probs. setup.c and the methods'
 * open_references write this struct. */
struct plumb_reference_stage {
    plumb_references *set;
    int role[PLUMB_ROLES]; /* reference number of each role in `set`; -1 if the role has none */
    bool needed;           /* true if the objective reads log-probs of its reference */
};

/* The rewards of all ranks and the choices that follow from them; equal on all ranks. align.c
 * writes this struct; a method's decide_step may change the choices of one optimizer step. */
struct plumb_decision {
    struct plumb_scoreboard *board;
    struct plumb_threshold_state threshold;
    struct plumb_align_report report;
    double *row; /* (prompts * group_size, ROW_VALUES) scalars of every completion of all ranks */
};

/* The optimizer step in progress, and the sums over the steps of the iteration. update.c,
 * mismatch.c and the update loop in align.c write this struct. */
struct plumb_update {
    struct plumb_micro micro; /* the packed micro-batch */
    int64_t *completion;  /* (max_seq,) completion of each sequence; -1 if add_sequences added it */
    int64_t *prompt_list; /* (global_batch,) prompts of the step, on all ranks */
    int64_t step;         /* index of the step, from 0 in each pass over the iteration's prompts */
    double denominator;   /* loss denominator of the step, summed over all ranks */
    double mean_len;      /* mean tokens of the step's imitated sequences, over all ranks */
    bool measure_mismatch;          /* true until a step of the iteration changes the weights */
    struct plumb_mismatch mismatch; /* of the tokens that this rank compared in this iteration */
    struct plumb_align_sums sums;
};

struct plumb_align_run {
    struct plumb_trainer *t;
    struct plumb_dataset *data;
    const struct plumb_method *method;
    const struct plumb_method_stages *add; /* functions that the method adds to the stages */
    void *own;                             /* the method's own state; NULL if it has none */
    struct plumb_align_param param;
    bool in_progress; /* true if the resumed checkpoint holds an unfinished iteration */
    uint64_t weights; /* policy's fingerprint at the start of the iteration, equal on all ranks */

    struct plumb_partition part;
    plumb_generator *generator;
    struct plumb_rollouts answers; /* the rollouts of this rank */
    plumb_rewards *rewards;        /* NULL if the run does not use the configured reward */
    struct plumb_reference_stage reference;
    struct plumb_decision decision;
    struct plumb_update update;
    struct plumb_align_held held;
};

/* setup.c: opens everything that a run needs, and frees it. Setup is Collective. */
plumb_status plumb_align_setup(struct plumb_align_run *a, const struct plumb_trainer_source *s);
void plumb_align_release(struct plumb_align_run *a);

/* partition.c: the prompts of an iteration and the rank that owns each. None is collective.
 *     open_partition: sets per_iteration and allocates the arrays of plumb_partition.
 *     begin_partition: sets the prompts of the next iteration and this rank's share of them.
 *     end_partition: adds `generated`, the tokens of the iteration on all ranks, to the run's
 *                    total. Call it before state.iteration is increased.
 *     generated: returns the tokens that all finished iterations generated on all ranks.
 *     ended: returns true if no iteration is left.
 *     say_spent: logs how much of train.generated_tokens was used, if that is set.
 *     progress: returns the position of the next iteration, from 0 (first) to 1 (last). */
plumb_status plumb_align_open_partition(struct plumb_align_run *a);
plumb_status plumb_align_begin_partition(struct plumb_align_run *a);
plumb_status plumb_align_end_partition(struct plumb_align_run *a, int64_t generated);
int64_t plumb_align_generated(const struct plumb_align_run *a);
bool plumb_align_ended(const struct plumb_align_run *a);
void plumb_align_say_spent(const struct plumb_align_run *a);
double plumb_align_progress(const struct plumb_align_run *a);

/* update.c: takes one optimizer step on the prompts of step a->update.step. Collective. */
plumb_status plumb_align_update(struct plumb_align_run *a, struct plumb_step_result *out);
/* Packs into a->update.micro this rank's completions of the prompts [begin, end) that have a term
 * in the loss, each after its plain prompt, with the values that the objective reads: weight,
 * reward, reference log-prob and pair. Every prompt of the range must be local. Not collective. */
plumb_status plumb_align_collect(struct plumb_align_run *a, struct plumb_range prompts);
/* Computes the reference log-probs (plumb_rollout.under) of this rank's rollouts after their plain
 * prompts, for every role that has a reference. It skips values that are already known, dropped
 * completions (PLUMB_ROLE_LOSS) and principled ones (PLUMB_ROLE_START). Not collective.
 * Returns PLUMB_STOPPED on a pause request and keeps the values computed so far. */
plumb_status plumb_align_reference(struct plumb_align_run *a);

/* Returns the model, options and data with which this iteration's rollouts are generated. */
struct plumb_rollout_source plumb_align_source(struct plumb_align_run *a);
/* Makes the objective's reference readable while the policy changes: the reference `previous` gets
 * its own copy of the weights. In a run of one iteration, `previous` equals `init`. */
plumb_status plumb_align_keep_reference(struct plumb_align_run *a);
/* Returns the local prompt of an iteration's prompt, or -1 if another rank owns the prompt. */
int64_t plumb_align_local(const struct plumb_align_run *a, int64_t prompt);

/* reward_spread.c: sets the metric frac_reward_zero_std: of the prompts with at least two finite
 * rewards, the share whose rewards are all equal. Warns if most or all of these prompts have equal
 * rewards, if all rewards of the iteration are equal, or if many prompts have fewer than two finite
 * rewards. Call it after decision.row holds all ranks' values; the result is the same on every
 * rank. Not collective. */
void plumb_align_spread(const struct plumb_align_run *a, struct plumb_metrics_row *row);

/* missing.c: writes to out (size bytes) which completions have no finite reward, by prompt record
 * and sample, and which reward source failed and why. The same text on every rank. Collective. */
plumb_status plumb_align_missing(struct plumb_align_run *a, char *out, int64_t size);

/* mismatch.c: compares the log-probs at sampling with those of the training forward pass.
 *     own_answers: checks that the rollouts were sampled by the weights that the iteration began
 *                  with, and, unless `moved` (a step was taken), that the model still has these
 *                  weights. Else PLUMB_ERR_FORMAT with the three fingerprints. Not collective.
 *     compare: adds one answer; logp (o->n,) are its training log-probs after the prompt that it
 *              was sampled from. A gap above train.max_logprob_gap is PLUMB_ERR_NUMERIC, with
 *              iteration, rank, prompt, sample, token and both values. Not collective.
 *     rescore: compares up to micro_batch_size of this rank's answers, spread over all of them,
 *              after exactly the prompts that they were sampled from. Not collective.
 *     mismatch_metrics: sets logprob_max_diff = max |sampled - trained| and mismatch_kl = mean of
 *              sampled - trained, both over all compared tokens of all ranks. The mean estimates
 *              KL(sampling policy || training policy): the estimator k1 of Schulman 2020,
 *              "Approximating KL divergence"; the name is prime-rl's. Collective. */
plumb_status plumb_align_own_answers(const struct plumb_align_run *a, bool moved);
plumb_status plumb_align_compare(struct plumb_align_run *a, const struct plumb_rollout *o,
                                 const float *logp);
plumb_status plumb_align_rescore(struct plumb_align_run *a);
plumb_status plumb_align_mismatch_metrics(struct plumb_align_run *a, struct plumb_metrics_row *row);

/* pause.c: saves an unfinished iteration in a checkpoint folder and restores it.
 *     pause: if a pause is requested, saves a checkpoint with the completions and sums so far
 *            (plumb_trainer_pause). Collective.
 *     paused_in: returns true if the checkpoint folder holds an unfinished iteration. Not
 *                collective.
 *     resume: reads the completions into a->answers and the sums into a->update.sums. Call
 *             plumb_rollouts_begin first. The run that saved them may have had another number of
 *             ranks. PLUMB_ERR_FORMAT if the files belong to another iteration or other weights.
 *             Not collective. */
plumb_status plumb_align_pause(struct plumb_align_run *a, bool *paused);
bool plumb_align_paused_in(const char *dir);
plumb_status plumb_align_resume(struct plumb_align_run *a, const char *dir);

/* evaluate.c: scores the policy's answers to data.eval. Does nothing if data.eval is not set.
 *     open_eval: reads data.eval and allocates. PLUMB_ERR_CONFIG if no reward is configured. Not
 *                collective.
 *     evaluate: sets the metrics eval_* and time/eval in row. Collective. */
plumb_status plumb_align_open_eval(struct plumb_align_run *a);
void plumb_align_close_eval(struct plumb_align_run *a);
plumb_status plumb_align_evaluate(struct plumb_align_run *a, struct plumb_metrics_row *row);

/* output.c: writes the rollout files, prints the sample table, writes report.html. Collective. */
plumb_status plumb_align_write_rollouts(struct plumb_align_run *a);
plumb_status plumb_align_show_samples(struct plumb_align_run *a);
plumb_status plumb_align_write_report(struct plumb_align_run *a);

#endif

/* align.h - the parts of an alignment run, shared by the files that implement its stages.
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

/* Scalars of a completion that every rank needs for the report of the iteration. */
enum { ROW_TOKENS, ROW_FRESH, ROW_CLIPPED, ROW_LOGP, ROW_KL, ROW_KL_COUNT, ROW_VALUES };
/* Sums over the micro-batches of a step. */
enum { SUM_LOSS, SUM_TOKENS, SUM_PAIRS, SUM_CHOSEN, SUM_REJECTED, SUM_ACCURATE };

/* Sampling against training log-probs, over this rank's tokens compared so far. */
struct plumb_mismatch {
    double max, sum, tokens; /* largest |difference|; sum of sampled - trained; how many */
};

/* What the steps of an iteration leave behind for its line of metrics. Doubles all through: a pause
 * writes it as an array. */
struct plumb_align_sums {
    double done;                     /* steps, those in which no prompt had a term too */
    double taken;                    /* optimizer steps */
    double pairs, doubted;           /* labels that could be smoothed, and that were */
    double value[PLUMB_LEAF_VALUES]; /* SUM_*, over the micro-batches of all of them */
    double norm, learning_rate;      /* sum of the gradient norms; the last rate */
    struct plumb_mismatch mismatch;  /* of all ranks, as it was at a pause */
};

/* data.eval and this rank's share of it. */
struct plumb_align_held {
    struct plumb_dataset *data; /* NULL: it is not set */
    struct plumb_answers answers;
    int64_t *index; /* (n_local,) records of this rank: every world_size-th */
    int64_t n_local;
    double *value; /* (data->n, figures) of all answers */
};

/* Five index spaces are in use. A name says which one it is:
 *   record        a line of data.prompts, 0 .. data->n - 1; the prompt id of random numbers
 *   prompt        a prompt of the iteration, in the global order; the same on every rank
 *   local prompt  a prompt that this rank owns, in the order of the prompts
 *   completion    a completion of this rank: local prompt * group_size + sample
 *   sequence      a sequence of the micro-batch that is packed */

/* Which prompts an iteration takes, and which of them are this rank's. Written by partition.c
 * alone. */
struct plumb_partition {
    int64_t per_iteration;        /* prompts of a whole iteration; all room is sized by it */
    int64_t most_local;           /* local prompts that this rank ever has */
    struct plumb_batch_cut split; /* items: the prompts of this iteration */
    int64_t fresh;                /* prompts of this iteration that are answered anew */
    int64_t steps;                /* optimizer steps of one pass over the prompts */
    int64_t *record;              /* (per_iteration,) record of each prompt */
    int64_t n_local;              /* local prompts of this iteration */
    int64_t *local_prompt;        /* (n_local,) prompt of each local prompt, ascending */
    int64_t *local_record;        /* (n_local,) record of each local prompt */
    int64_t *step_first;          /* (steps,) first local prompt of each step */
};

/* Log-probs under frozen weights. Written by setup.c and by the methods' open_references. */
struct plumb_reference_stage {
    plumb_references *set;
    int role[PLUMB_ROLES]; /* number of the reference of each role; -1: nothing needs one */
    bool needed;           /* the objective reads log-probs of its reference */
};

/* Rewards of all ranks and what follows from them; equal on all ranks. Written by align.c, and the
 * choices of a step by the methods' decide_step. */
struct plumb_decision {
    struct plumb_scoreboard *board;
    struct plumb_threshold_state threshold;
    struct plumb_align_report report;
    double *row; /* (prompts * group_size, ROW_VALUES) scalars of every completion of all ranks */
};

/* The optimizer step in progress, and the sums over the steps of the iteration. Written by
 * update.c, mismatch.c and the loop in align.c. */
struct plumb_update {
    struct plumb_micro micro; /* one micro-batch */
    int64_t *completion;      /* (max_seq,) completion of each sequence; -1: a method's own */
    int64_t *prompt_list;     /* (global_batch,) prompts of the step */
    int64_t step;             /* within the pass over the prompts */
    double denominator;       /* of the step's loss: plumb_scoreboard_terms */
    bool measure_mismatch;    /* the weights are still those that sampled */
    struct plumb_mismatch mismatch;
    struct plumb_align_sums sums;
};

struct plumb_align_run {
    struct plumb_trainer *t;
    struct plumb_dataset *data;
    const struct plumb_method *method;
    const struct plumb_method_stages *add; /* what the method adds to the stages */
    void *own;                             /* state of `add`; NULL: none */
    struct plumb_align_param param;
    bool in_progress; /* the checkpoint that is resumed from holds an iteration half done */
    uint64_t weights; /* fingerprint at the start of the iteration, the same on all ranks */

    struct plumb_partition part;
    plumb_generator *generator;
    struct plumb_answers answers; /* the rollouts of this rank */
    plumb_rewards *rewards;       /* NULL: nothing is scored by the configured reward */
    struct plumb_reference_stage reference;
    struct plumb_decision decision;
    struct plumb_update update;
    struct plumb_align_held held;
};

/* setup.c */
plumb_status plumb_align_setup(struct plumb_align_run *a, const struct plumb_trainer_source *s);
void plumb_align_release(struct plumb_align_run *a);

/* partition.c: the prompts of an iteration, and whose they are. None is collective.
 *     open: per_iteration, and room for the prompts of any iteration.
 *     begin: how many prompts the iteration that comes takes, and this rank's share of them.
 *     end: counts the tokens that it generated on all ranks; before state.iteration is raised.
 *     generated: tokens up to the last iteration that is done.
 *     ended: whether that was the last of all. say_spent: what became of the budget.
 *     progress: of the iteration that comes between the first (0) and the last (1). */
plumb_status plumb_align_open_partition(struct plumb_align_run *a);
plumb_status plumb_align_begin_partition(struct plumb_align_run *a);
plumb_status plumb_align_end_partition(struct plumb_align_run *a, int64_t generated);
int64_t plumb_align_generated(const struct plumb_align_run *a);
bool plumb_align_ended(const struct plumb_align_run *a);
void plumb_align_say_spent(const struct plumb_align_run *a);
double plumb_align_progress(const struct plumb_align_run *a);

/* update.c: one optimizer step on the prompts of step a->update.step. Collective. */
plumb_status plumb_align_update(struct plumb_align_run *a, struct plumb_step_result *out);
/* Packs the completions of [prompts), this rank's, that have a term in the loss, each under its
 * plain prompt, with all that the objective reads. Not collective. */
plumb_status plumb_align_collect(struct plumb_align_run *a, struct plumb_range prompts);
/* Log-probs of this rank's rollouts under every role's reference and the plain prompts: all that
 * the method reads, the plain ones for the KL report; those that are known stay. Not collective.
 * PLUMB_STOPPED when a pause was asked for: what is known so far is kept. */
plumb_status plumb_align_reference(struct plumb_align_run *a);

/* What generation of the iteration's rollouts needs. */
struct plumb_answer_source plumb_align_source(struct plumb_align_run *a);
/* Makes the objective's reference one that can be read while the policy moves: `previous` gets
 * weights of its own; of a single iteration, previous is what the run starts from. */
plumb_status plumb_align_keep_reference(struct plumb_align_run *a);
/* Local prompt of a prompt; -1: another rank's. */
int64_t plumb_align_local(const struct plumb_align_run *a, int64_t prompt);

/* reward_spread.c: sets frac_reward_zero_std, the share of the prompts with two finite rewards or
 * more in which all are the same, and warns when that holds for most or for all, when all rewards
 * of the iteration are the same, and when many prompts have fewer than two. After the rows were
 * shared; the same on every rank. Not collective. */
void plumb_align_spread(const struct plumb_align_run *a, struct plumb_metrics_row *row);

/* missing.c: out (size bytes) = which completions of the scoreboard have no finite reward, by
 * prompt record and sample, and which source gave none and why; the same on every rank. Collective.
 */
plumb_status plumb_align_missing(struct plumb_align_run *a, char *out, int64_t size);

/* mismatch.c: the difference between the log-probs of sampling and of the training forward. Above
 * train.max_logprob_gap it is PLUMB_ERR_NUMERIC naming iteration, rank, prompt, sample, token and
 * both values. None is collective but the last.
 *     compare: logp (o->n,) are an answer's log-probs in training, under the prompt it answered
 *     rescore: runs up to micro_batch_size of this rank's answers, spread over its list, through
 *              the training forward under exactly the prompts that they were sampled from
 *     metrics: logprob_max_diff = max |sampled - trained| and mismatch_kl = mean of
 *              sampled - trained over all compared tokens of all ranks, which estimates
 *              KL(sampling policy || training policy): the estimator k1 of Schulman 2020,
 *              "Approximating KL divergence"; the name is prime-rl's. */
/* Whether the answers are of the weights that the iteration began with, and these are the model's
 * still (moved: steps have been taken since). PLUMB_ERR_FORMAT naming all three fingerprints. */
plumb_status plumb_align_own_answers(const struct plumb_align_run *a, bool moved);
plumb_status plumb_align_compare(struct plumb_align_run *a, const struct plumb_answer *o,
                                 const float *logp);
plumb_status plumb_align_rescore(struct plumb_align_run *a);
plumb_status plumb_align_mismatch_metrics(struct plumb_align_run *a, struct plumb_metrics_row *row);

/* pause.c: the iteration in progress, in a checkpoint folder.
 *     pause: plumb_trainer_pause with the completions and the sums so far. Collective.
 *     paused_in: whether a checkpoint folder holds such an iteration. Not collective.
 *     resume: takes them over into a->answers (which plumb_answers_begin has emptied) and
 * a->update.sums, from any number of ranks. Not collective; PLUMB_ERR_FORMAT when they do not
 * belong to this state. */
plumb_status plumb_align_pause(struct plumb_align_run *a, bool *paused);
bool plumb_align_paused_in(const char *dir);
plumb_status plumb_align_resume(struct plumb_align_run *a, const char *dir);

/* evaluate.c: the policy on data.eval; nothing where that is not set.
 *     open: reads it, allocates. Not collective. PLUMB_ERR_CONFIG without a reward.
 *     evaluate: adds eval_reward and its kin, and time/eval, to row. Collective. */
plumb_status plumb_align_open_eval(struct plumb_align_run *a);
void plumb_align_close_eval(struct plumb_align_run *a);
plumb_status plumb_align_evaluate(struct plumb_align_run *a, struct plumb_metrics_row *row);

/* output.c: what an iteration leaves besides metrics. Collective. */
plumb_status plumb_align_write_rollouts(struct plumb_align_run *a);
plumb_status plumb_align_show_samples(struct plumb_align_run *a);
plumb_status plumb_align_write_report(struct plumb_align_run *a);

#endif

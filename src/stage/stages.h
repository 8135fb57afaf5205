/* stages.h - the state of each stage of an alignment run, and the functions of the stages.
 * Layer 5, private to stage/. Includes align/, data/, model/, train/.
 *
 *   partition -> rollout -> reward -> reference -> decision -> update
 *
 * Each stage has one struct, and the comment above it names the files that write it during an
 * iteration; besides, setup.c opens and closes the structs, and pause.c restores them. The later
 * stages get the struct as const. A run holds all structs (stage/align_run.h), and only align.c,
 * setup.c and pause.c see a run; tests/lint/layers.py checks that.
 *
 * Six kinds of index are in use. A variable's name says which kind it is:
 *   record         a line of data.prompts, 0 .. data->n - 1; random numbers are keyed by it
 *   prompt         a prompt of the iteration, in the global order; the same on every rank
 *   local prompt   a prompt that this rank owns, in the order of the prompts
 *   completion     a completion of this rank: local prompt * group_size + sample
 *   entry          a completion of any rank: prompt * group_size + sample, as on the scoreboard
 *   sequence       a sequence of the packed micro-batch
 * Only these functions and arrays convert an index to another kind:
 *   prompt -> local prompt           plumb_partition_local
 *   local prompt -> prompt, record   prompt_of_local, record_of_local (struct plumb_partition)
 *   local prompt -> completion       plumb_rollouts_completion
 *   completion -> local prompt       plumb_rollouts_local_prompt
 *   completion -> entry              plumb_rollouts_entry
 *   prompt -> entry, and back        plumb_scoreboard_entry, plumb_scoreboard_prompt
 *   sequence -> completion           completion_of (struct plumb_work) */
#ifndef PLUMB_STAGE_STAGES_H
#define PLUMB_STAGE_STAGES_H

#include "align/method.h"
#include "stage/rollouts.h"
#include "stage/scores.h"
#include "train/gradient.h"
#include "train/micro.h"
#include "train/references.h"
#include "train/split.h"
#include "train/trainer.h"

struct plumb_method_stages;

/* The inputs of all stages. No stage changes this struct; setup.c writes it. */
struct plumb_align_context {
    struct plumb_trainer *t; /* the stages change its model, pass and state */
    const struct plumb_dataset *data;
    const struct plumb_method *method;
    const struct plumb_method_stages *add; /* functions that the method adds to the stages */
    struct plumb_align_param param;
};

/* ---- partition: the prompts of an iteration, and those that this rank owns ------------------- */

/* The prompts of one iteration on all ranks, their split into optimizer steps and micro-batches,
 * and the local prompts of this rank. A rank generates, scores and trains on the completions of its
 * local prompts. Only partition.c writes this struct. */
struct plumb_partition {
    int64_t per_iteration;          /* number of prompts of a full iteration, and size of the arrays
                                     */
    int64_t most_local;             /* largest n_local of this rank in any iteration */
    struct plumb_batch_split split; /* the iteration's prompts in steps and micro-batches */
    struct plumb_split_most most;   /* over all iterations: the most prompts and tokens of a
                                     * micro-batch and the most micro-batches of a step. Its member
                                     * `tokens` is 0 if train.micro_batch_tokens is 0 */
    int64_t *tokens; /* (per_iteration,) the most tokens that each prompt of the iteration, with its
                      * completions, can add to a micro-batch; NULL if train.micro_batch_tokens is 0
                      */
    int64_t fresh;   /* prompts of this iteration that get new completions */
    int64_t steps;   /* optimizer steps of one pass over the prompts */
    int64_t *record_of_prompt; /* (per_iteration,) record of each prompt; the first split.items
                                * elements are set */
    int64_t n_local;           /* number of local prompts of this iteration */
    int64_t *prompt_of_local;  /* (n_local,) prompt of each local prompt, ascending */
    int64_t *record_of_local;  /* (n_local,) record of each local prompt */
};

/* None of these functions is collective.
 *     open: sets per_iteration and `most`, and allocates the arrays. PLUMB_ERR_ARG if a prompt with
 *           its completions can have more tokens than train.micro_batch_tokens.
 *     begin: sets the prompts of the next iteration and the local prompts of this rank.
 *     end: adds `generated`, the number of tokens that all ranks generated in the iteration, to the
 *          run's total. If train.generated_tokens is set, it also sets the number of prompts of the
 *          next iteration. Both values are stored in the trainer's state. Call it before
 *          state.iteration is increased.
 *     records: sets record (per_iteration,) to the records of an iteration (from 1).
 *     local: returns the local prompt of a prompt, or -1 if another rank owns the prompt. */
plumb_status plumb_partition_open(struct plumb_partition *p, const struct plumb_align_context *c);
void plumb_partition_close(struct plumb_partition *p);
plumb_status plumb_partition_begin(struct plumb_partition *p, const struct plumb_align_context *c);
plumb_status plumb_partition_end(const struct plumb_partition *p,
                                 const struct plumb_align_context *c, int64_t generated);
plumb_status plumb_partition_records(int64_t *record, const struct plumb_partition *p,
                                     const struct plumb_align_context *c, int64_t iteration);
int64_t plumb_partition_local(const struct plumb_partition *p, int64_t prompt);

/* partition.c: how far a run has come. None of these functions is collective.
 *     generated: returns the number of tokens that all ranks generated in the finished iterations.
 *     ended: returns true if no iteration is left.
 *     progress: returns the position of the next iteration in the run, from 0 (first iteration) to
 *               1 (last); an estimate if train.generated_tokens is set (train/budget.h).
 *     say_spent: if train.generated_tokens is set, logs how much of it was used. */
int64_t plumb_align_generated(const struct plumb_train_state *s);
bool plumb_align_ended(const struct plumb_trainer *t);
double plumb_align_progress(const struct plumb_trainer *t);
void plumb_align_say_spent(const struct plumb_trainer *t);

/* ---- rollout: the completions of this rank --------------------------------------------------- */

/* The deal of generate.balance: which rank generates the completions of each prompt. The arrays are
 * equal on all ranks, except those whose name contains "made" or "local". Only balance.c writes
 * this struct; the generator fills in the completions of `made`. */
struct plumb_balance {
    int64_t cap;                /* most prompts that a rank generates for; 0 without balance */
    int64_t at_once;            /* prompts that a rank's slots can start immediately; at least 1 */
    struct plumb_rollouts made; /* completions that this rank generates */
    double *length;  /* (data->n,) mean tokens of the record's last completions; 0 if unknown */
    int64_t *tokens; /* (per_iteration * group_size,) number of tokens of each entry so far */
    bool *open;      /* (per_iteration * group_size,) true if the entry was not finished when the
                      * prompts were dealt */
    double *share;   /* (per_iteration * (group_size + 1),) scratch */
    int32_t *owner;  /* (per_iteration,) rank that trains on the prompt */
    /* (per_iteration,) rank that generates; -1 if all entries of the prompt were finished when the
     * prompts were dealt, or while the prompt is in the queue */
    int32_t *maker;
    int64_t *prompt_of_made, *record_of_made; /* (cap,) prompts that are dealt to this rank,
                                               * ascending, and their records */
    int64_t *order_of_made; /* (cap,) local prompts of `made` in the order of generation: the dealt
                             * ones, the largest load first, then those from the queue */
    /* (per_iteration,) each: the local prompt of each prompt among the owner's rollouts, and in the
     * maker's `made`; -1 on other ranks. Both are parts of one allocation. */
    int64_t *local_of_owner, *local_of_maker;
    /* if generate.balance is queue: the prompts that are not dealt, the largest load first */
    int64_t *queue; /* (per_iteration,) */
    int64_t queued; /* number of prompts in the queue; 0 without a queue */
    plumb_comm *comm;
    const int64_t *record_of_prompt; /* borrowed from the partition of this iteration */
};

/* The generator, and this rank's completions of the iteration. Only rollout_stage.c, align.c and a
 * method's `begin` write this struct. */
struct plumb_rollout_stage {
    plumb_generator *generator;
    struct plumb_rollouts rollouts;
    struct plumb_balance balance;
    uint64_t weights; /* fingerprint of the policy's weights at the start of the iteration, equal on
                       * all ranks */
};

/* Returns the model, options and data with which this iteration's rollouts are generated. */
struct plumb_rollout_source plumb_rollout_stage_source(const struct plumb_rollout_stage *r,
                                                       const struct plumb_align_context *c);
/* Clears the rollouts for the prompts of the iteration. Not collective. */
plumb_status plumb_rollout_stage_begin(struct plumb_rollout_stage *r,
                                       const struct plumb_align_context *c,
                                       const struct plumb_partition *p);

/* Returns the rollouts that this rank generates: those of its own prompts, or with balance those of
 * the prompts of which it is the maker (struct plumb_balance). */
static inline struct plumb_rollouts *plumb_rollout_stage_made(struct plumb_rollout_stage *r)
{
    return r->balance.cap > 0 ? &r->balance.made : &r->rollouts;
}

/* balance.c. With cap == 0, deal, collect and supply do nothing.
 *     open: allocates *b if generate.balance is set and there are several ranks; otherwise leaves
 *           cap at 0. Adds the bytes of host memory to *bytes. Not collective.
 *     recall: after a resume, reads the lengths of the completions of earlier iterations from their
 *             rollout files. Collective.
 *     deal: decides which rank generates for which prompt, and sends that rank the tokens that an
 *           interrupted iteration has already generated. Call it after plumb_rollout_stage_begin, a
 *           method's `begin` and a resume. Collective.
 *     supply: sets src->take, with which the generation takes prompts from the queue, if there is
 *             one. Not collective.
 *     collect: sends the completions, finished or not, to the ranks that own their prompts. May be
 *              called again after more tokens have been generated. Collective. */
plumb_status plumb_balance_open(struct plumb_balance *b, const struct plumb_align_context *c,
                                const struct plumb_partition *p, int64_t *bytes);
void plumb_balance_close(struct plumb_balance *b);
plumb_status plumb_balance_recall(struct plumb_balance *b, const struct plumb_align_context *c,
                                  const struct plumb_partition *p);
plumb_status plumb_balance_deal(struct plumb_rollout_stage *r, const struct plumb_align_context *c,
                                const struct plumb_partition *p);
void plumb_balance_supply(struct plumb_rollout_stage *r, struct plumb_rollout_source *src);
plumb_status plumb_balance_collect(struct plumb_rollout_stage *r,
                                   const struct plumb_align_context *c,
                                   const struct plumb_partition *p);

/* ---- reward: the rewards of this rank's completions ------------------------------------------ */

/* The reward sources, and the rewards of this rank's completions. Only align.c and a method's
 * functions `begin`, `preselect` and `score` write this struct. */
struct plumb_reward_stage {
    plumb_rewards *sources; /* NULL if the run does not use the configured reward */
    struct plumb_scores scores;
};

/* ---- reference: log-probs of this rank's completions under reference models ------------------ */

/* Purposes for which a run reads log-probs of a reference model. Each may have its own model;
 * train/references.h lists the models' names. */
enum plumb_role {
    PLUMB_ROLE_LOSS,  /* the term of the objective that compares with the reference;
                       * method.reference names the model */
    PLUMB_ROLE_START, /* the metric KL to the model that the run started from (train.kl_to_start) */
    PLUMB_ROLE_JUDGE, /* the reward that the policy computes itself (SPA); method.judge names the
                       * model */
    PLUMB_ROLES
};

/* The reference models, and the log-probs of this rank's completions under them. Only
 * reference_stage.c and a method's functions `open_references` and `open` write this struct. */
struct plumb_reference_stage {
    plumb_references *set;
    int role[PLUMB_ROLES]; /* index of each role's reference in `set`; -1 if the role has none */
    bool needed;           /* true if the objective reads log-probs of its reference */
    int64_t n;             /* number of completions for which `logp` has space */
    /* (n, PLUMB_ROLES) sums of a completion's log-probs (nats) after the plain prompt; NaN if not
     * computed */
    double *logp;
};

static inline double plumb_reference_logp(const struct plumb_reference_stage *r, int64_t completion,
                                          enum plumb_role role)
{
    return r->logp[completion * PLUMB_ROLES + role];
}

/* ---- work memory ----------------------------------------------------------------------------- */

/* The memory of one micro-batch, which all stages use one after another. A stage packs and computes
 * its own micro-batches in it, and must not expect to find them there after another stage has run.
 */
struct plumb_work {
    struct plumb_micro micro;
    int64_t *completion_of; /* (max_seq,) completion of each sequence; -1 if the method's
                             * add_sequences added the sequence */
};

/* Inputs of the stages after the rollout and of the method's functions. */
struct plumb_align_inputs {
    struct plumb_trainer *t;
    const struct plumb_dataset *data;
    const struct plumb_method_stages *add;
    const struct plumb_align_param *param;
    const struct plumb_partition *part;
    const struct plumb_rollout_stage *rollout;
    const struct plumb_reference_stage *reference;
    void *own; /* the method's own state, which only its functions change; NULL if it has none */
};

/* reference_stage.c. These functions are not collective, except for `score` if the layers of a
 * reference are sharded over the ranks.
 *     open: opens the reference models of all roles (enum plumb_role). PLUMB_ROLE_START has one if
 *           train.kl_to_start is set or if the objective's reference is `init`.
 *     begin: discards the log-probs, and copies the policy's weights to the snapshot, if any.
 *     keep: makes sure that the weights of the objective's reference can be read while the policy
 *           changes. For the reference `previous` it allocates a snapshot of the policy's weights.
 *           In a run of one iteration it uses `init` instead, which has the same weights.
 *     score: computes the log-probs of all rollouts for every role that has a reference. It skips
 *            log-probs that are already known; for PLUMB_ROLE_LOSS dropped completions, for
 *            PLUMB_ROLE_START principled ones. Returns PLUMB_STOPPED on a pause request and keeps
 *            the values computed so far. */
plumb_status plumb_reference_stage_open(struct plumb_reference_stage *r,
                                        const struct plumb_align_context *c, void *own,
                                        int64_t completions);
void plumb_reference_stage_close(struct plumb_reference_stage *r);
plumb_status plumb_reference_stage_begin(struct plumb_reference_stage *r);
plumb_status plumb_reference_stage_keep(struct plumb_reference_stage *r,
                                        const struct plumb_align_context *c);
plumb_status plumb_reference_stage_score(struct plumb_reference_stage *r,
                                         const struct plumb_align_inputs *in,
                                         const struct plumb_reward_stage *reward,
                                         struct plumb_work *w);

/* ---- decision: which completions are trained on, by the rewards of all ranks ----------------- */

/* Columns of plumb_decision.row, which has one row per completion of any rank. Every rank computes
 * the metrics of the iteration and the mean length of imitated sequences from them.
 *     ROW_TOKENS    number of the completion's tokens
 *     ROW_FRESH     number of tokens that this iteration generated for the completion; for the
 *                   first completion of a prompt, also those of the method's own rollouts
 *     ROW_EXTRA     for the first completion of a prompt, the number of completion tokens of the
 *                   sequences that the method adds to the prompt; else 0
 *     ROW_CLIPPED   1 if the completion was cut at max_new_tokens
 *     ROW_LOGP      sum of the completion's log-probs at sampling, in nats
 *     ROW_KL        ROW_LOGP minus the log-prob sum under the start weights; 0 if not known
 *     ROW_KL_COUNT  1 if ROW_KL is known */
enum { ROW_TOKENS, ROW_FRESH, ROW_EXTRA, ROW_CLIPPED, ROW_LOGP, ROW_KL, ROW_KL_COUNT, ROW_VALUES };

/* Which completions of an iteration are trained on, and the values from which this was decided.
 * Equal on every rank. Only decision.c writes this struct, except that a method's decide_step may
 * change the choices of one step. */
struct plumb_decision {
    struct plumb_scoreboard *board;
    struct plumb_threshold_state threshold;
    struct plumb_align_report report;
    double *row; /* (prompts * group_size, ROW_VALUES) scalars of every entry */
};

plumb_status plumb_decision_open(struct plumb_decision *d, const struct plumb_partition *p,
                                 int64_t group_size);
void plumb_decision_close(struct plumb_decision *d);
/* restore: sets d->threshold to the values in the trainer's state *s, or to the start values of a
 * new run if *s has none. save: writes d->threshold to *s. Not collective. */
void plumb_decision_restore(struct plumb_decision *d, const struct plumb_train_state *s,
                            const struct plumb_align_param *param);
plumb_status plumb_decision_save(const struct plumb_decision *d, struct plumb_train_state *s);
/* Copies the rewards of all ranks to every rank's scoreboard by an allreduce, and sets d->row. Then
 * each rank computes the choices of all prompts; the result is the same on every rank.
 * PLUMB_ERR_NUMERIC if more than reward.max_missing of the completions have no finite reward.
 * Collective. */
plumb_status plumb_decision_make(struct plumb_decision *d, const struct plumb_align_inputs *in,
                                 const struct plumb_method *m,
                                 const struct plumb_reward_stage *reward);
/* Sets the metrics of rollouts, rewards and choices in row. Sets *generated to the number of tokens
 * that all ranks generated in this iteration. Not collective. */
void plumb_decision_metrics(const struct plumb_decision *d, const struct plumb_align_inputs *in,
                            const struct plumb_method *m, int64_t *generated,
                            struct plumb_metrics_row *row);

/* reward_spread.c: sets the metrics frac_reward_zero_std (of the prompts with at least two finite
 * rewards, the share whose rewards are all equal) and completions/duplicate_ratio. Warns, or fails
 * with health.action=stop, if frac_reward_zero_std exceeds health.max_equal_rewards or is 1; warns
 * if many prompts have fewer than two finite rewards. The result is the same on every rank. Not
 * collective. */
plumb_status plumb_align_spread(const struct plumb_decision *d, const struct plumb_align_inputs *in,
                                const struct plumb_reward_stage *reward,
                                struct plumb_metrics_row *row);

/* missing.c: writes a text to out (size bytes): which completions have no finite reward (prompt
 * record and sample), which reward source failed, and why. The text is the same on every rank.
 * Collective. */
plumb_status plumb_align_missing(const struct plumb_decision *d,
                                 const struct plumb_align_inputs *in,
                                 const struct plumb_reward_stage *reward, char *out, int64_t size);

/* ---- update: the optimizer steps ----------------------------------------------------------------
 */

/* Index of plumb_step_result.value: each is a sum over the micro-batches of one optimizer step. */
enum { SUM_LOSS, SUM_TOKENS, SUM_PAIRS, SUM_CHOSEN, SUM_REJECTED, SUM_ACCURATE };

/* Statistics of the mismatch, which is the log-prob of a token at sampling minus its log-prob in
 * the training forward pass, in nats. They cover the tokens that this rank has compared so far in
 * the iteration. */
struct plumb_mismatch {
    double max, sum, tokens; /* largest |mismatch|; sum of the mismatches; number of tokens */
};

/* Totals over the optimizer steps of an iteration so far, for the metrics of the iteration. Every
 * member is a double, because a pause file stores the struct as one array. */
struct plumb_align_sums {
    double done;                            /* steps done, including those that were skipped because
                                             * they had no loss term */
    double taken;                           /* optimizer steps that changed the weights */
    double pairs, smoothed;                 /* SPA only: number of pairs; number of pairs with a
                                             * smoothed label */
    double value[PLUMB_MICRO_BATCH_VALUES]; /* indexed by SUM_*; summed over the steps taken */
    double norm, learning_rate;             /* sum of the gradient norms; learning rate of the last
                                             * step */
    struct plumb_mismatch mismatch;         /* the mismatch of all ranks; set only when a pause file
                                             * is written */
};

/* An optimizer step of an iteration, as update.c and a method's decide_step see it. */
struct plumb_align_step {
    int64_t step;               /* index of the step, from 0 in each pass over the iteration's
                                 * prompts */
    struct plumb_range prompts; /* prompts of the step, on all ranks */
    double done;                /* share of the iteration's steps that come before this one: at
                                 * least 0, less than 1 */
};

/* The state of the optimizer steps of an iteration. Only update.c writes this struct. A method's
 * end_step adds to sums.pairs and sums.smoothed. */
struct plumb_update {
    int64_t *prompt_list;  /* (global_batch,) prompts of the step, on all ranks */
    double denominator;    /* loss denominator of the step, summed over all ranks */
    double mean_len;       /* mean number of tokens of the step's imitated sequences (those with a
                            * -logp term), over all ranks */
    bool measure_mismatch; /* true until a step of the iteration changes the weights */
    struct plumb_mismatch mismatch; /* covers the tokens that this rank compared in this iteration
                                     */
    struct plumb_align_sums sums;
};

plumb_status plumb_update_open(struct plumb_update *u, const struct plumb_partition *p);
void plumb_update_close(struct plumb_update *u);
/* Starts an iteration: sets u->sums and u->mismatch to 0. */
void plumb_update_begin(struct plumb_update *u);
/* Checks that the rollouts come from the weights of this iteration, and compares a sample of their
 * log-probs with the training forward pass. Collective. */
plumb_status plumb_update_check_weights(struct plumb_update *u, const struct plumb_align_inputs *in,
                                        struct plumb_work *w);
/* Returns the next step of the iteration. */
struct plumb_align_step plumb_update_next(const struct plumb_update *u,
                                          const struct plumb_align_inputs *in);
/* Takes one optimizer step and adds it to the sums. A step whose prompts have no term in the loss
 * is skipped and only counted in sums.done. *paused becomes true if a pause interrupted the step.
 * Then the weights and the number of steps are unchanged, and u->sums is ready to be saved in the
 * pause file. Collective. */
plumb_status plumb_update_step(struct plumb_update *u, const struct plumb_align_inputs *in,
                               const struct plumb_decision *d, const struct plumb_align_step *step,
                               struct plumb_work *w, bool *paused);
/* Sets the metrics of the update in row. Collective. */
plumb_status plumb_update_metrics(struct plumb_update *u, plumb_comm *comm,
                                  struct plumb_metrics_row *row);

/* Packs a micro-batch into w: the completions of the prompts [begin, end) that have a term in the
 * loss, each after its plain prompt, and the sequences that the method adds. Sets the values that
 * the objective reads: weight, reward, reference log-prob and pair. Every prompt of the range must
 * be local. Not collective. */
plumb_status plumb_align_collect(struct plumb_work *w, const struct plumb_align_inputs *in,
                                 const struct plumb_decision *d, struct plumb_range prompts);

/* mismatch.c: compares the log-probs at sampling with those of the training forward pass.
 *     own_rollouts: fails with PLUMB_ERR_FORMAT unless the rollouts were sampled by the weights
 *                   that the iteration began with. If `moved` is false (no optimizer step was
 *                   taken), the model must still have these weights, too. Not collective.
 *     compare: adds the tokens of completion *o to *m. logp (o->n,): its log-probs in the training
 *              forward pass after the prompt that it was sampled from. PLUMB_ERR_NUMERIC if a
 *              token's |mismatch| exceeds train.max_logprob_gap. Not collective.
 *     rescore: computes the training log-probs of a sample of this rank's completions, each after
 *              the prompt that it was sampled from, and compares them. The sample has at most as
 *              many completions as a micro-batch can have prompts. Not collective.
 *     metrics: sets logprob_max_diff = max |sampled - trained| and mismatch_kl = mean of sampled -
 *              trained, both over all compared tokens of all ranks. The mean estimates KL(sampling
 *              policy || training policy): the estimator k1 of Schulman 2020, "Approximating KL
 *              divergence". The metric's name mismatch_kl is that of prime-rl. Collective. */
plumb_status plumb_mismatch_own_rollouts(const struct plumb_rollout_stage *r,
                                         const struct plumb_trainer *t, bool moved);
plumb_status plumb_mismatch_compare(struct plumb_mismatch *m, const struct plumb_align_inputs *in,
                                    const struct plumb_rollout *o, const float *logp);
plumb_status plumb_mismatch_rescore(struct plumb_mismatch *m, const struct plumb_align_inputs *in,
                                    struct plumb_work *w);
plumb_status plumb_mismatch_metrics(struct plumb_mismatch *m, plumb_comm *comm,
                                    struct plumb_metrics_row *row);

/* ---- evaluation and output ------------------------------------------------------------------- */

/* The prompts of data.eval, and the completions of those that this rank evaluates. Only evaluate.c
 * writes it. */
struct plumb_align_held_out {
    struct plumb_dataset *data;     /* NULL if data.eval is not set */
    struct plumb_rollouts rollouts; /* one completion for each record of this rank */
    struct plumb_scores scores;
    int64_t *record; /* (n_local,) records of this rank: rank + k * world_size */
    int64_t n_local; /* number of this rank's records */
    double *value;   /* (data->n, HELD_VALUES) results per record, summed over ranks */
};

/* evaluate.c: scores the policy's completions of data.eval. Does nothing if data.eval is not set.
 *     open: reads data.eval and allocates. PLUMB_ERR_CONFIG if no reward is configured. Not
 *           collective.
 *     run: sets the metrics eval_* and time/eval in row. Collective. */
plumb_status plumb_align_held_out_open(struct plumb_align_held_out *h, struct plumb_trainer *t);
void plumb_align_held_out_close(struct plumb_align_held_out *h);
plumb_status plumb_align_held_out_run(struct plumb_align_held_out *h, struct plumb_trainer *t,
                                      plumb_generator *generator, plumb_rewards *sources,
                                      struct plumb_metrics_row *row);

/* output.c: writes the rollout files, prints the sample table, writes report.html. Collective. */
plumb_status plumb_align_write_rollouts(const struct plumb_align_inputs *in,
                                        const struct plumb_reward_stage *reward,
                                        const struct plumb_decision *d);
plumb_status plumb_align_show_samples(const struct plumb_align_inputs *in,
                                      const struct plumb_reward_stage *reward);
plumb_status plumb_align_write_report(const struct plumb_align_context *c,
                                      const struct plumb_align_inputs *in,
                                      const struct plumb_reward_stage *reward);

#endif

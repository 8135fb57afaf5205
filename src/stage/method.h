/* method.h - the table of methods, and the functions that each adds to an iteration's stages.
 * Layer 5, above train/. Includes align/, stage/stages.h.
 *
 * A row of the table in methods.c is a struct plumb_method: a selector, a threshold rule and an
 * objective. plumb_method_adds returns the functions that a method adds to the stages. A stage
 * calls these functions where they are not NULL, and never tests which method runs. */
#ifndef PLUMB_STAGE_METHOD_H
#define PLUMB_STAGE_METHOD_H

#include "align/method.h"
#include "io/hdf5.h"
#include "stage/stages.h"
#include "train/cost.h"

/* Functions of a method, called at fixed points of the run. A function is NULL if the method does
 * nothing there. Structs that a function only reads are passed as const, those that it changes
 * without const. The method's own state is *own or in->own: `open_rollouts` or `open` allocates it,
 * `close` frees it. A function is not collective, unless its comment says so or it runs a frozen
 * model whose layers are sharded over the ranks. The passes of such a model are collective
 * (plumb_references_pass), so a rank calls the function even if it has no prompts. A long-running
 * function calls plumb_stop_noticed between its parts, and returns PLUMB_STOPPED if that returns
 * true. After the pause the stage calls the function again, which must skip the parts already done.
 */
struct plumb_method_stages {
    /* ---- once, at the start ---- */
    /* Allocates the rollouts that the method generates itself, if any, and adds their bytes of host
     * memory to *bytes. */
    plumb_status (*open_rollouts)(void **own, const struct plumb_align_context *c,
                                  const struct plumb_partition *part, int64_t *bytes);
    /* Opens the reference models that the method reads, besides the objective's reference. */
    plumb_status (*open_references)(void *own, const struct plumb_align_context *c,
                                    struct plumb_reference_stage *reference);
    /* Allocates the rest of the method's own state. Called after open_rollouts and
     * open_references. */
    plumb_status (*open)(void **own, const struct plumb_align_context *c,
                         const struct plumb_partition *part,
                         struct plumb_reference_stage *reference, const struct plumb_work *w);
    void (*close)(void *own); /* frees the method's own state; also called after a failed open */

    /* ---- rollout ---- */
    /* Returns how many of n prompts get new completions in an iteration after the first; the other
     * prompts keep their completions. If a method has this function, every iteration has the same
     * prompts. */
    int64_t (*fresh_prompts)(const struct plumb_config *cfg, int64_t n);
    /* Starts an iteration. Called after the rollouts and rewards were cleared. The function may
     * fill in completions of earlier iterations and their rewards; such completions are not
     * generated again. */
    plumb_status (*begin)(const struct plumb_align_inputs *in, struct plumb_rollout_stage *rollout,
                          struct plumb_reward_stage *reward);
    const char *rollout_phase; /* name of the phase in which `rollout` runs, in logs and heartbeats
                                */
    /* Generates the method's own rollouts, after the policy's rollouts. */
    plumb_status (*rollout)(const struct plumb_align_inputs *in);
    /* Returns the number of tokens that `rollout` generated for a local prompt. */
    int64_t (*rollout_tokens)(const struct plumb_align_inputs *in, int64_t local_prompt);

    /* ---- reward ---- */
    const char *preselect_phase; /* name of the phase in which `preselect` runs, in logs and
                                  * heartbeats */
    /* Sets reward->scores.dropped of the completions that must be neither scored nor trained on. */
    plumb_status (*preselect)(const struct plumb_align_inputs *in,
                              struct plumb_reward_stage *reward, struct plumb_work *w);
    /* Sets `reward` and `scored` in reward->scores for every completion. The configured reward is
     * then not computed. Called after the reference log-probs are computed. */
    plumb_status (*score)(const struct plumb_align_inputs *in, struct plumb_reward_stage *reward,
                          struct plumb_work *w);

    /* ---- decision: before and after each optimizer step ---- */
    /* Called before a step. May change the scoreboard's choices for the prompts of the step; the
     * choices must be the same on every rank. Collective. */
    plumb_status (*decide_step)(const struct plumb_align_inputs *in, struct plumb_decision *d,
                                const struct plumb_align_step *step, struct plumb_work *w);
    /* Called after a step. undo is true if a pause interrupted the step: decide_step will then be
     * called again for the same prompts. Otherwise the function may add to sums->pairs and
     * sums->smoothed. */
    void (*end_step)(const struct plumb_align_inputs *in, const struct plumb_decision *d,
                     struct plumb_range prompts, bool undo, struct plumb_align_sums *sums);

    /* ---- update ---- */
    /* Number of sequences that add_sequences packs per prompt with a term in the loss, each with
     * weight 1. */
    int64_t extra_sequences;
    /* Returns the number of completion tokens of the sequences that add_sequences packs for a local
     * prompt. Called once per iteration, after the choices are made. */
    int64_t (*extra_tokens)(const struct plumb_align_inputs *in, const struct plumb_decision *d,
                            int64_t local_prompt);
    /* Packs the method's sequences of a local prompt into the micro-batch. Called only for prompts
     * with a term in the loss. */
    plumb_status (*add_sequences)(const struct plumb_align_inputs *in,
                                  const struct plumb_decision *d, int64_t local_prompt,
                                  struct plumb_work *w);

    /* ---- pause file: size in bytes, write and read of the method's own data ---- */
    int64_t (*pause_bytes)(const void *own);
    plumb_status (*pause)(const void *own, plumb_h5 *f);
    plumb_status (*resume)(const struct plumb_align_inputs *in, const plumb_h5 *f, const char *dir);
};

extern const struct plumb_method_stages plumb_add_spa;    /* spa.c */
extern const struct plumb_method_stages plumb_add_real;   /* real.c */
extern const struct plumb_method_stages plumb_add_optune; /* optune.c */
extern const struct plumb_method_stages plumb_add_selm;   /* selm.c */
extern const struct plumb_method_stages plumb_add_dlma;   /* dlma.c */

/* What `plumb prefer` passes to the functions of plumb_method_given. */
struct plumb_given_inputs {
    struct plumb_trainer *t;
    const struct plumb_dataset *data; /* the pairs */
    struct plumb_pack *pack;          /* memory for forward passes over completions */
};

/* How `plumb prefer` trains a method on given pairs. A function is NULL if the method does nothing
 * at that point. Without `share` and `select`, all pairs are trained on; without `weight`, each
 * pair has weight 1. */
struct plumb_method_given {
    /* Returns how many of n pairs are trained on, from 1 to n. */
    int64_t (*share)(const struct plumb_config *cfg, int64_t n);
    /* Allocates the method's own state for `select`. Not collective. */
    plumb_status (*open)(void **own, const struct plumb_given_inputs *in,
                         plumb_references *references);
    /* Sets kept (share,) to the records of the pairs that are trained on. The array has as many
     * elements as there are pairs, so it can serve as scratch. The result must be the same on every
     * rank. Collective. */
    plumb_status (*select)(void *own, const struct plumb_given_inputs *in, int64_t *kept,
                           int64_t share);
    void (*close)(void *own); /* frees the method's own state; also called after a failed open */
    /* Returns the weight of a pair in the loss. margin: score of the chosen answer minus score of
     * the rejected answer; the record holds both scores. */
    double (*weight)(double margin, const struct plumb_align_param *p);
};
extern const struct plumb_method_given plumb_given_all;    /* methods.c: all pairs */
extern const struct plumb_method_given plumb_given_real;   /* real_given.c */
extern const struct plumb_method_given plumb_given_optune; /* optune.c */

/* Returns the functions that a method adds to the stages. The result is never NULL; if the method
 * adds none, all members are NULL or 0. */
const struct plumb_method_stages *plumb_method_adds(const struct plumb_method *m);
/* Returns true if the method computes rewards itself and does not use the configured reward. */
bool plumb_method_scores(const struct plumb_method *m);
/* Returns the largest number of sequences that one prompt can have in a micro-batch of the update:
 * the completions of its group that the method trains on, and the sequences that the method adds.
 */
int64_t plumb_method_sequences(const struct plumb_method *m, int64_t group_size);
/* Returns true if the method needs the configured reward. */
bool plumb_method_needs_reward(const struct plumb_method *m);

/* cost.c: counts the floating-point operations of an iteration on this rank, and the bytes that the
 * rank reads and sends. reward: the reward model, or NULL if the run has none. */
void plumb_align_cost(struct plumb_cost *out, const struct plumb_align_context *c,
                      const struct plumb_partition *part,
                      const struct plumb_reference_stage *reference, const plumb_model *reward);

/* Finds a method by its name. PLUMB_ERR_CONFIG, with a list of the known names, if there is none.
 */
plumb_status plumb_method_find(const struct plumb_method **out, const char *name);
/* Returns row i of the table of methods, or NULL if i is not below the number of rows. */
const struct plumb_method *plumb_method_at(int i);

#endif

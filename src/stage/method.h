/* method.h - the table of methods, and the functions that each adds to an iteration's stages.
 * Layer 5, above train/. Includes align/.
 *
 * A row of the table in methods.c is a struct plumb_method: a selector, a rule and an objective.
 * plumb_method_adds gives the functions that the method adds to the stages. The stages call those
 * that are not NULL. They never test which method runs. */
#ifndef PLUMB_STAGE_METHOD_H
#define PLUMB_STAGE_METHOD_H

#include "align/method.h"
#include "io/hdf5.h"

struct plumb_align_run;
struct plumb_range;

/* Functions of a method, called at fixed points of the run. A function is NULL if the method does
 * nothing there. The method keeps its own state in a->own: `open_rollouts` or `open` allocates it,
 * `close` frees it. None is collective, unless its comment says so. A long-running function calls
 * plumb_stop_noticed between its parts and returns PLUMB_STOPPED if that is true. The stage then
 * calls the function again, which must skip the parts already done. */
struct plumb_method_stages {
    /* ---- once, at the start ---- */
    /* Allocates rollouts of the method's own and adds their host bytes to *bytes. */
    plumb_status (*open_rollouts)(struct plumb_align_run *a, int64_t *bytes);
    /* Opens the reference models that the method reads, besides the objective's reference. */
    plumb_status (*open_references)(struct plumb_align_run *a);
    /* Allocates everything else. Called after open_rollouts and open_references. */
    plumb_status (*open)(struct plumb_align_run *a);
    void (*close)(struct plumb_align_run *a); /* frees a->own; also called after a failed open */

    /* ---- rollout ---- */
    /* Returns how many prompts get new completions in an iteration after the first; the others
     * keep their completions. With this function, every iteration has the same prompts. */
    int64_t (*fresh_prompts)(const struct plumb_align_run *a);
    /* Starts an iteration. Called after plumb_rollouts_begin has cleared the rollouts. */
    plumb_status (*begin)(struct plumb_align_run *a);
    const char *rollout_phase; /* phase name of `rollout` in logs and heartbeats */
    /* Generates the method's own rollouts, after the policy's rollouts. */
    plumb_status (*rollout)(struct plumb_align_run *a);
    /* Returns the number of tokens that `rollout` generated for a local prompt. */
    int64_t (*rollout_tokens)(const struct plumb_align_run *a, int64_t local_prompt);

    /* ---- reward ---- */
    const char *preselect_phase; /* phase name of `preselect` in logs and heartbeats */
    /* Sets `dropped` in the completions that shall be neither scored nor trained on. */
    plumb_status (*preselect)(struct plumb_align_run *a);
    /* Sets `reward` and `scored` of every completion, in place of the configured reward. Called
     * after the reference log-probs are computed. */
    plumb_status (*score)(struct plumb_align_run *a);

    /* ---- decision: before and after each optimizer step ---- */
    /* Changes the scoreboard's choices for the prompts [begin, end) of the step. The result must
     * be the same on every rank. Collective. */
    plumb_status (*decide_step)(struct plumb_align_run *a, struct plumb_range prompts);
    /* Called after a step. undo is true if a pause interrupted the step: decide_step will then be
     * called again for the same prompts. */
    void (*end_step)(struct plumb_align_run *a, struct plumb_range prompts, bool undo);

    /* ---- update ---- */
    /* Number of sequences that add_sequences packs per prompt with a term in the loss, each with
     * weight 1. */
    int64_t extra_sequences;
    /* Returns the completion tokens of the sequences that add_sequences packs for a local prompt.
     * Called once per iteration, after the rewards are known. */
    int64_t (*extra_tokens)(const struct plumb_align_run *a, int64_t local_prompt);
    /* Packs the method's sequences of a prompt with a term in the loss into the micro-batch. */
    plumb_status (*add_sequences)(struct plumb_align_run *a, int64_t local_prompt);

    /* ---- pause file: size in bytes, write and read of the method's own data ---- */
    int64_t (*pause_bytes)(const struct plumb_align_run *a);
    plumb_status (*pause)(const struct plumb_align_run *a, plumb_h5 *f);
    plumb_status (*resume)(struct plumb_align_run *a, const plumb_h5 *f, const char *dir);
};

extern const struct plumb_method_stages plumb_add_spa;    /* spa.c */
extern const struct plumb_method_stages plumb_add_real;   /* real.c */
extern const struct plumb_method_stages plumb_add_optune; /* optune.c */
extern const struct plumb_method_stages plumb_add_selm;   /* selm.c */
extern const struct plumb_method_stages plumb_add_dlma;   /* dlma.c */

/* Returns the stage functions of a method; never NULL. If it has none, all members are NULL or 0.
 */
const struct plumb_method_stages *plumb_method_adds(const struct plumb_method *m);
/* Returns true if the method computes rewards itself and does not use the configured reward. */
bool plumb_method_scores(const struct plumb_method *m);

/* Finds a method by its name. PLUMB_ERR_CONFIG, with a list of the known names, if there is none.
 */
plumb_status plumb_method_find(const struct plumb_method **out, const char *name);
/* Returns row i of the table of methods, or NULL if i is not below the number of rows. */
const struct plumb_method *plumb_method_at(int i);

#endif

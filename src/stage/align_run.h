/* align_run.h - an alignment run: all stages, their set-up and their pause file.
 * Layer 5, private to stage/: only align.c, setup.c and pause.c include it. Includes
 * stage/stages.h. */
#ifndef PLUMB_STAGE_ALIGN_RUN_H
#define PLUMB_STAGE_ALIGN_RUN_H

#include "stage/commands.h"
#include "stage/method.h"
#include "stage/stages.h"

struct plumb_align_run {
    struct plumb_trainer *t;
    struct plumb_dataset *data;
    struct plumb_align_context context; /* borrows t and data */
    void *own;                          /* the method's own state; NULL if it has none */
    bool in_progress; /* true if the resumed checkpoint holds an unfinished iteration */

    struct plumb_partition part;
    struct plumb_rollout_stage rollout;
    struct plumb_reward_stage reward;
    struct plumb_reference_stage reference;
    struct plumb_decision decision;
    struct plumb_update update;
    struct plumb_work work;
    struct plumb_align_held_out held_out;
};

/* Returns what the stages after the rollout read; valid as long as the run. */
static inline struct plumb_align_inputs plumb_align_inputs_of(const struct plumb_align_run *a)
{
    return (struct plumb_align_inputs){.t = a->t,
                                       .data = a->data,
                                       .add = a->context.add,
                                       .param = &a->context.param,
                                       .part = &a->part,
                                       .rollout = &a->rollout,
                                       .reference = &a->reference,
                                       .own = a->own};
}

/* setup.c: opens everything that a run needs, and frees it. Setup is Collective. */
plumb_status plumb_align_setup(struct plumb_align_run *a, const struct plumb_trainer_source *s);
void plumb_align_release(struct plumb_align_run *a);

/* pause.c: saves an unfinished iteration in a checkpoint folder and restores it.
 *     pause: if a pause is requested, saves a checkpoint with the completions and sums so far
 *            (plumb_trainer_pause). Collective.
 *     paused_in: returns true if the checkpoint folder holds an unfinished iteration. Not
 *                collective.
 *     resume: reads the completions, their rewards and log-probs, and the sums. Call
 *             plumb_rollout_stage_begin first. The run that saved them may have had another number
 *             of ranks. PLUMB_ERR_FORMAT if the files belong to another iteration or other weights.
 *             Not collective. */
plumb_status plumb_align_pause(struct plumb_align_run *a, bool *paused);
bool plumb_align_paused_in(const char *dir);
plumb_status plumb_align_resume(struct plumb_align_run *a, const char *dir);

#endif

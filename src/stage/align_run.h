/* align_run.h - struct plumb_align_run, the state of all stages of an alignment run, and the
 * functions that set it up, save it at a pause and restore it.
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

/* Returns the inputs of the stages after the rollout. The pointers in the result are valid as long
 * as the run *a is open. */
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

/* setup.c.
 *     setup: opens everything that the run needs. Collective.
 *     release: frees it. */
plumb_status plumb_align_setup(struct plumb_align_run *a, const struct plumb_trainer_source *s);
void plumb_align_release(struct plumb_align_run *a);

/* pause.c: saves an unfinished iteration in a checkpoint folder and restores it.
 *     pause: if any rank has a pause request, sets *paused to true and saves a checkpoint with the
 *            completions and sums so far. PLUMB_STOPPED on every rank if the run must end there.
 *            Collective.
 *     paused_in: returns true if the checkpoint folder holds an unfinished iteration. Not
 *                collective.
 *     resume: reads the completions, rewards, reference log-probs and sums that `pause` saved. Call
 *             plumb_rollout_stage_begin first. The run that saved them may have had another number
 *             of ranks. PLUMB_ERR_FORMAT if the files belong to another iteration or other weights.
 *             Not collective. */
plumb_status plumb_align_pause(struct plumb_align_run *a, bool *paused);
bool plumb_align_paused_in(const char *dir);
plumb_status plumb_align_resume(struct plumb_align_run *a, const char *dir);

#endif

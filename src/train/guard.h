/* guard.h - what an optimizer step does when a loss or a gradient is not finite: it names the
 * micro-batch, writes its replay file, and leaves the weights as they are.
 * Layer 5. Includes train/trainer.h. */
#ifndef PLUMB_TRAIN_GUARD_H
#define PLUMB_TRAIN_GUARD_H

#include "train/trainer.h"

/* Wraps the leaf function of one step. */
struct plumb_guard {
    struct plumb_trainer *t; /* t->micro holds the leaf that fn ran last */
    plumb_leaf_fn *fn;
    void *arg;
    int64_t failed; /* the leaf that was not finite on this rank, -1: none */
};

/* "STEP:LEAF" or "" of train.replay; -1 and -1 for none. PLUMB_ERR_CONFIG. */
plumb_status plumb_guard_parse(int64_t *step, int64_t *leaf, const char *text);

/* The leaf function of the step; arg is a struct plumb_guard. Writes the replay file of the leaf
 * that train.replay names. */
plumb_status plumb_guard_leaf(void *arg, int64_t leaf, float *grad,
                              double value[PLUMB_LEAF_VALUES]);

/* After plumb_gradient_run failed with st: the owner of the lowest leaf that was not finite writes
 * its replay file and says so. Returns st in every case. Collective, unless st is of the
 * communicator or a request to stop. */
plumb_status plumb_guard_leaf_failed(struct plumb_guard *g, plumb_status st);
/* After plumb_optim_step refused a gradient: every rank runs its leaves again, one by one, and the
 * lowest one whose own gradient is not finite is named with its records and the first tensor, and
 * written. Never PLUMB_OK; the message is the same on every rank. Collective. */
plumb_status plumb_guard_gradient_failed(struct plumb_guard *g, int64_t leaves);

#endif

/* non_finite.h - the non-finite check of an optimizer step: it names the micro-batch whose loss or
 * gradient is not finite, and writes a replay file of it. The weights do not change.
 * Layer 5. Includes train/trainer.h. */
#ifndef PLUMB_TRAIN_NON_FINITE_H
#define PLUMB_TRAIN_NON_FINITE_H

#include "train/trainer.h"

/* The state of the check in one step: the step's micro-batch function fn, and what the check
 * found. */
struct plumb_non_finite {
    struct plumb_trainer *t; /* t->micro holds the micro-batch that fn computed last */
    plumb_micro_batch_fn *fn;
    void *arg;
    int64_t failed; /* this rank's micro-batch with a non-finite loss or gradient; -1 if none */
    /* A folder with the current weights, for the replay file. If it is "", the rank that writes the
     * replay file finds or writes such a folder. */
    char weights[4096];
};

/* Call this function before plumb_gradient_run. If this is the step that train.replay names and the
 * masters are divided among the ranks, it sets g->weights, because one rank alone cannot write the
 * weights later. Collective. */
plumb_status plumb_non_finite_begin(struct plumb_non_finite *g);

/* The micro-batch function of the step; arg is a struct plumb_non_finite. It calls fn, and writes
 * the replay file of the micro-batch that train.replay names. */
plumb_status plumb_non_finite_micro(void *arg, int64_t micro_batch, float *grad,
                                    double value[PLUMB_MICRO_BATCH_VALUES]);

/* Reports that plumb_gradient_run failed with st. The rank that computed the first micro-batch with
 * a non-finite loss writes the replay file of this micro-batch; the error message of this rank has
 * the file's path. Returns st, or PLUMB_ERR_COMM if the ranks can no longer communicate.
 * Collective, unless st is PLUMB_ERR_COMM or PLUMB_STOPPED. */
plumb_status plumb_non_finite_micro_failed(struct plumb_non_finite *g, plumb_status st);
/* Reports that plumb_optim_step refused the gradient. Every rank computes its micro-batches again,
 * one by one. The message names the first micro-batch whose own gradient is not finite, its
 * records, and the first tensor with a non-finite element; the message is the same on every rank. A
 * replay file of that micro-batch is written. If the gradient of every micro-batch is finite and
 * only their sum is not, the message says so, and no file is written. Never returns PLUMB_OK.
 * Collective. */
plumb_status plumb_non_finite_gradient_failed(struct plumb_non_finite *g, int64_t micro_batches);

#endif

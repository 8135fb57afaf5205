/* non_finite.h - the non-finite check of an optimizer step: it names the micro-batch whose loss or
 * gradient is not finite, and writes a replay file of it. The weights do not change.
 * Layer 5. Includes train/trainer.h. */
#ifndef PLUMB_TRAIN_NON_FINITE_H
#define PLUMB_TRAIN_NON_FINITE_H

#include "train/trainer.h"

/* Wraps the micro-batch function of one step. */
struct plumb_non_finite {
    struct plumb_trainer *t; /* t->micro holds the micro-batch that fn computed last */
    plumb_micro_batch_fn *fn;
    void *arg;
    int64_t failed; /* this rank's micro-batch with a non-finite loss or gradient; -1 if none */
    /* A folder with the current weights, for the replay file; "" if the rank that writes the file
     * finds or writes one. */
    char weights[4096];
};

/* Call it before plumb_gradient_run. If the step has the micro-batch that train.replay names, and
 * the masters are shares of the ranks, it sets g->weights: a rank cannot write them alone later.
 * Collective. */
plumb_status plumb_non_finite_begin(struct plumb_non_finite *g);

/* The micro-batch function of the step; arg is a struct plumb_non_finite. It calls fn, and writes
 * the replay file of the micro-batch that train.replay names. */
plumb_status plumb_non_finite_micro(void *arg, int64_t micro_batch, float *grad,
                                    double value[PLUMB_MICRO_BATCH_VALUES]);

/* Reports that plumb_gradient_run failed with st. The rank that computed the lowest micro-batch
 * with a non-finite loss writes its replay file; its error message says where that is. Returns st,
 * or PLUMB_ERR_COMM if the ranks can no longer communicate. Collective, unless st is PLUMB_ERR_COMM
 * or PLUMB_STOPPED. */
plumb_status plumb_non_finite_micro_failed(struct plumb_non_finite *g, plumb_status st);
/* Reports that plumb_optim_step refused the gradient. Every rank computes its micro-batches again,
 * one by one. The message names the lowest micro-batch whose own gradient is not finite, with its
 * records and the first such tensor; the message is the same on every rank. A replay file of that
 * micro-batch is written. If each gradient by itself is finite, the message says so, and no file is
 * written. Never returns PLUMB_OK. Collective. */
plumb_status plumb_non_finite_gradient_failed(struct plumb_non_finite *g, int64_t micro_batches);

#endif

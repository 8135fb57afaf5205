/* split.h - divides one pass over the items of a run into optimizer steps and micro-batches.
 * Layer 5. Includes comm/comm.h.
 *
 * An item is what a loss needs whole: a record, a pair, or a prompt with its completions. The split
 * depends on the items and the options only, never on the number of ranks, so the gradient's sum
 * can have the same bits on any number of ranks (train/gradient.h). */
#ifndef PLUMB_TRAIN_SPLIT_H
#define PLUMB_TRAIN_SPLIT_H

#include "comm/comm.h"

/* The sizes that split one pass over `items` items into optimizer steps and micro-batches:
 * global_batch items per step, micro_batch items per micro-batch. */
struct plumb_batch_split {
    int64_t items, global_batch, micro_batch; /* all > 0 */
};
int64_t plumb_split_steps(const struct plumb_batch_split *c);
/* Return the range of items of optimizer step `step`, its number of micro-batches, and the range of
 * items of one micro-batch. */
struct plumb_range plumb_split_step(const struct plumb_batch_split *c, int64_t step);
int64_t plumb_split_micro_batches(const struct plumb_batch_split *c, int64_t step);
struct plumb_range plumb_split_micro_batch(const struct plumb_batch_split *c, int64_t step,
                                           int64_t micro_batch);

#endif

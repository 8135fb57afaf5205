/* split.h - divides one pass over the items of a run into optimizer steps and micro-batches.
 * Layer 5. Includes comm/comm.h.
 *
 * An item is a record, a pair, or a prompt with its completions. It is never divided, because the
 * loss needs all of it. The split depends on the items and the options only, never on the number of
 * ranks, so the gradient's sum can have the same bits on any number of ranks (train/gradient.h).
 *
 * The items keep their order. A micro-batch ends at the end of its step, or before an item with
 * which it would have more than micro_batch items or more than `tokens` tokens. Example with
 * global_batch = 5, micro_batch = 3 and tokens = 10:
 *
 *     item          0   1   2   3   4 | 5   6   7   8   9        the bar: a new step
 *     its tokens    4   3   3   2   9 | 1   1   1   1   7
 *     micro-batch   0   0   0   1   2 | 0   0   0   1   1
 *                   `--10---'   2   9   `---3---'   `-8-' */
#ifndef PLUMB_TRAIN_SPLIT_H
#define PLUMB_TRAIN_SPLIT_H

#include "comm/comm.h"

/* The sizes that split one pass over `items` items into optimizer steps and micro-batches. Without
 * a limit of tokens only the first three fields need to be set, and the others are 0. */
struct plumb_batch_split {
    int64_t items, global_batch; /* > 0; global_batch: items of a step */
    int64_t micro_batch;         /* most items of a micro-batch; 0: no limit; > 0 if tokens is 0 */
    int64_t tokens;              /* most tokens of a micro-batch; 0: no limit */
    /* The two arrays exist if tokens > 0. plumb_split_init allocates them, and plumb_split_cut sets
     * their values. */
    int64_t *border; /* (items + 1,) first item of each micro-batch of the pass; then `items` */
    int64_t *before; /* (steps + 1,) number of micro-batches of the pass before each step */
};

/* Sets the fields, with global_batch lowered to `items`, and allocates the arrays. Afterwards the
 * caller may lower c->items, and c->global_batch with it, before plumb_split_cut. PLUMB_ERR_NOMEM.
 */
plumb_status plumb_split_init(struct plumb_batch_split *c, int64_t items, int64_t global_batch,
                              int64_t micro_batch, int64_t tokens);
void plumb_split_fini(struct plumb_batch_split *c);
/* Cuts the steps into micro-batches. length (items,): the tokens of each item, in the order of the
 * pass; none may exceed c->tokens. Does nothing without a limit of tokens. */
void plumb_split_cut(struct plumb_batch_split *c, const int64_t *length);

int64_t plumb_split_steps(const struct plumb_batch_split *c);
/* Return the range of items of optimizer step `step`, its number of micro-batches, and the range of
 * items of one micro-batch. */
struct plumb_range plumb_split_step(const struct plumb_batch_split *c, int64_t step);
int64_t plumb_split_micro_batches(const struct plumb_batch_split *c, int64_t step);
struct plumb_range plumb_split_micro_batch(const struct plumb_batch_split *c, int64_t step,
                                           int64_t micro_batch);

/* The largest sizes in a run, from which the run allocates its memory. */
struct plumb_split_most {
    int64_t micro_batches; /* the most micro-batches of a step */
    int64_t items, tokens; /* the most items and the most tokens of a micro-batch */
};
/* Raises each field of *most to the largest value in the split c, if that is larger. Call this
 * function after plumb_split_cut, with the same length. */
void plumb_split_raise(struct plumb_split_most *most, const struct plumb_batch_split *c,
                       const int64_t *length);
/* Raises each field of *most to an upper bound for a pass over any choice of c->items items out of
 * n, in any order, if the bound is larger. c must have a limit of tokens. length (n,): the tokens
 * of all n items; the function sorts it. */
void plumb_split_bound(struct plumb_split_most *most, const struct plumb_batch_split *c,
                       int64_t *length, int64_t n);

#endif

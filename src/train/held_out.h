/* held_out.h - evaluation on data.eval between the steps of sft, reward and prefer.
 * Layer 5. Includes data/, train/.
 *
 * The records are cut into blocks of micro_batch_size in file order, whatever the rank count. A
 * block's figures are computed by one rank, in double; every rank then adds the blocks in order. So
 * the figures are the same bits on any number of ranks. */
#ifndef PLUMB_TRAIN_HELD_OUT_H
#define PLUMB_TRAIN_HELD_OUT_H

#include "align/objective.h"
#include "data/dataset.h"
#include "train/trainer.h"

enum {
    PLUMB_HELD_OUT_LOSS,  /* sum of losses: of tokens (sft) or of pairs */
    PLUMB_HELD_OUT_TERMS, /* of how many */
    PLUMB_HELD_OUT_CHOSEN,
    PLUMB_HELD_OUT_REJECTED,
    PLUMB_HELD_OUT_ACCURATE,
    PLUMB_HELD_OUT_VALUES
};

struct plumb_held_out {
    struct plumb_dataset *data; /* NULL: data.eval is not set */
    int64_t blocks;
    double *value; /* (blocks, PLUMB_HELD_OUT_VALUES) */
};

/* Reads data.eval, if it is set, as records of this kind; skip and limit are of data.train alone.
 * Not collective. PLUMB_ERR_CONFIG for train.eval_every without data.eval; the data set's own. */
plumb_status plumb_held_out_open(struct plumb_held_out *h, const struct plumb_trainer *t,
                                 enum plumb_data_kind kind);
void plumb_held_out_close(struct plumb_held_out *h);

/* *tokens = the larger of it and the longest block, as plumb_longest_batch counts it. */
plumb_status plumb_held_out_longest(int64_t *tokens, const struct plumb_held_out *h,
                                    int completions, int64_t micro_batch);

/* Figures of the records [begin, end) into value (PLUMB_HELD_OUT_VALUES), which is all 0. */
typedef plumb_status plumb_held_out_fn(void *arg, struct plumb_range records, double *value);

/* Runs fn over all blocks and fills row:
 *     eval_loss = sum of losses / terms
 *     pairs: eval_rewards/chosen, /rejected, /margins, /accuracies, means over the pairs
 * and time/eval. Collective. PLUMB_ERR_NUMERIC for a loss that is not finite. */
plumb_status plumb_held_out_run(struct plumb_held_out *h, struct plumb_trainer *t, bool pairs,
                                plumb_held_out_fn *fn, void *arg, struct plumb_metrics_row *row);

#endif

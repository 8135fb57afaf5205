/* held_out.h - evaluation on data.eval between the steps of sft, reward and prefer.
 * Layer 5. Includes data/, train/.
 *
 * The records are split into blocks, in file order, with the limits of a step's micro-batches
 * (train/split.h). The blocks do not depend on the number of ranks. One rank computes the sums of a
 * block, in double. Every rank then adds the sums of all blocks in order, so the metrics have the
 * same bits on any number of ranks. */
#ifndef PLUMB_TRAIN_HELD_OUT_H
#define PLUMB_TRAIN_HELD_OUT_H

#include "align/objective.h"
#include "data/dataset.h"
#include "train/record_split.h"
#include "train/trainer.h"

/* The sums that are computed for each block of held-out records. */
enum {
    PLUMB_HELD_OUT_LOSS,     /* sum of the losses of tokens (sft) or pairs */
    PLUMB_HELD_OUT_TERMS,    /* number of tokens (sft) or pairs */
    PLUMB_HELD_OUT_CHOSEN,   /* pairs: sum of the rewards of the chosen answers */
    PLUMB_HELD_OUT_REJECTED, /* pairs: sum of the rewards of the rejected answers */
    PLUMB_HELD_OUT_ACCURATE, /* pairs: number with the chosen reward above the rejected */
    PLUMB_HELD_OUT_VALUES
};

struct plumb_held_out {
    /* NULL if data.eval is not set, or if this is a memory plan and the file does not exist */
    struct plumb_dataset *data;
    /* a split of all records as one step; its micro-batches are the blocks */
    struct plumb_batch_split split;
    struct plumb_split_most most; /* the largest block */
    int64_t blocks;
    double *value; /* (blocks, PLUMB_HELD_OUT_VALUES) */
    /* NULL, unless the passes of the blocks are collective (plumb_lockstep in train/frozen.h). Then
     * each rank calls this function after its last block, also after a failure. local: the status
     * of this rank. Returns the failure of any rank, or PLUMB_OK. Collective. */
    plumb_status (*end)(void *arg, plumb_status local);
};

/* Reads data.eval, if it is set, as records of the given kind. data.skip and data.limit do not
 * apply to data.eval. In a memory plan, does nothing if there is no tokenizer or the file does not
 * exist. Not collective. Errors: those of plumb_file_check_input, plumb_dataset_open and
 * plumb_record_split. */
plumb_status plumb_held_out_open(struct plumb_held_out *h, const struct plumb_trainer *t,
                                 enum plumb_data_kind kind);
/* Warns if data.eval is the same file as path, the value of option `key`: the run is then evaluated
 * on its training data. */
void plumb_held_out_same(const struct plumb_trainer *t, const char *path, const char *key);
void plumb_held_out_close(struct plumb_held_out *h);

/* Raises most->items and most->tokens to the items and tokens of the largest block of data.eval, if
 * the block has more. Does nothing without data.eval. */
void plumb_held_out_raise(struct plumb_split_most *most, const struct plumb_held_out *h);

/* Adds the sums (PLUMB_HELD_OUT_*) over the given records to value (PLUMB_HELD_OUT_VALUES,), which
 * is zero on entry. */
typedef plumb_status plumb_held_out_fn(void *arg, struct plumb_range records, double *value);

/* Calls fn for all blocks, then h->end if it is set, both with arg, and sets in row:
 *     eval_loss = sum of losses / number of tokens (sft) or pairs
 *     pairs: eval_rewards/chosen, /rejected, /margins, /accuracies, means over the pairs
 *     time/eval: seconds that the evaluation took
 * Collective. PLUMB_ERR_NUMERIC for a loss that is not finite. */
plumb_status plumb_held_out_run(struct plumb_held_out *h, struct plumb_trainer *t, bool pairs,
                                plumb_held_out_fn *fn, void *arg, struct plumb_metrics_row *row);

#endif

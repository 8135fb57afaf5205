/* loops.h - supervised fine-tuning, and the loop over fixed records that sft, reward and prefer
 * share.
 * Layer 5. Includes align/method.h, data/dataset.h, train/. */
#ifndef PLUMB_TRAIN_LOOPS_H
#define PLUMB_TRAIN_LOOPS_H

#include "align/method.h"
#include "data/dataset.h"
#include "train/pack.h"
#include "train/record_split.h"
#include "train/trainer.h"

/* Runs supervised fine-tuning on data.train.
 *     L = - (1/T) sum over the global batch's trained tokens of log p     T = their number
 * Writes metrics and checkpoints to output_dir and returns after the last checkpoint is complete.
 * Collective; every rank passes the same source. */
plumb_status plumb_train_sft(const struct plumb_trainer_source *s);

/* Returns the options for reading a data file of the given kind for t's model: prompt template, end
 * token and length limits. */
struct plumb_data_options plumb_data_options_of(const struct plumb_config *cfg,
                                                const struct plumb_trainer *t,
                                                enum plumb_data_kind kind);

/* The state of training on fixed records for several epochs: each epoch in a new order if
 * data.shuffle is set, else in file order. The commands sft, reward and prefer use it. */
struct plumb_epochs {
    const struct plumb_config *cfg;
    struct plumb_batch_split split;
    int64_t steps;  /* optimizer steps of the whole run */
    int64_t *order; /* (items,) order of the items in epoch `epoch` */
    bool entropy;   /* the pass also computes entropies (plumb_pass_entropy) */
    int64_t epoch;  /* the epoch whose order is stored, from 0; -1 if none is stored yet */
    /* the largest sizes in the whole run; plumb_epochs_measure sets them */
    struct plumb_split_most most;
    /* The next three fields are set only with train.micro_batch_tokens. */
    const int64_t *kept; /* (items,) the record of each item; borrowed. NULL: item i is record i */
    int64_t *length;     /* (records,) tokens of each record (plumb_record_lengths) */
    int64_t *in_order;   /* (items,) tokens of the items in the order of the epoch */
};
plumb_status plumb_epochs_init(struct plumb_epochs *e, const struct plumb_config *cfg,
                               int64_t items);
void plumb_epochs_fini(struct plumb_epochs *e);
/* Sets e->most: the most items and tokens of a micro-batch and the most micro-batches of a step in
 * the whole run. Sets e->kept to kept. chosen_later: true if the contents of kept change after the
 * set-up; e->most is then an upper bound for every possible choice of records. Errors: those of
 * plumb_record_lengths. */
plumb_status plumb_epochs_measure(struct plumb_epochs *e, const struct plumb_dataset *data,
                                  int completions, const int64_t *kept, bool chosen_later);
/* Sets e->order to the order of the epoch that has optimizer step `step` of the run (from 0), and
 * e->split to the micro-batches of that order. Sets *in_epoch to the number of that step in the
 * epoch (from 0). */
void plumb_epochs_at(struct plumb_epochs *e, int64_t step, int64_t *in_epoch);

/* The functions that a run over epochs calls, each with arg. */
struct plumb_epochs_task {
    const char *what; /* name of the task in the progress line */
    /* Computes one micro-batch; value is indexed by PLUMB_EPOCHS_*. */
    plumb_micro_batch_fn *micro_batch;
    /* Called before step number in_epoch of an epoch. The step's items are order[records.begin] ..
     * order[records.end - 1] of struct plumb_epochs. */
    void (*begin)(void *arg, int64_t in_epoch, struct plumb_range records);
    /* NULL, or a function for collective work, called after `begin` and before the micro-batches.
     * micro_batches: the number of micro-batches of this step. If a rank stops on a pause request,
     * *paused becomes true on every rank, no micro-batch runs, and the function is called again for
     * this step. Collective. */
    plumb_status (*prepare)(void *arg, int64_t micro_batches, bool *paused);
    /* Sets the task's own metrics in row. value: the sums over all micro-batches of all ranks in
     * the last step. */
    void (*report)(void *arg, const double value[PLUMB_MICRO_BATCH_VALUES],
                   struct plumb_metrics_row *row);
    /* Sets the metrics of data.eval under the current weights; NULL if data.eval is not set.
     * Collective. */
    plumb_status (*evaluate)(void *arg, struct plumb_metrics_row *row);
    void *arg;
};
/* Indices of the values of a micro-batch. LOSS: its part of the global batch's mean loss; TOKENS:
 * its number of tokens, prompts included; OWN: the first index that the task may use itself. */
enum { PLUMB_EPOCHS_LOSS, PLUMB_EPOCHS_TOKENS, PLUMB_EPOCHS_OWN };
/* Prepares the trainer for batches of the size of pack (plumb_trainer_prepare), which loads the
 * state if the run is resumed. Collective. */
plumb_status plumb_epochs_prepare(struct plumb_epochs *e, struct plumb_trainer *t,
                                  const struct plumb_pack *pack);
/* Warns, on rank 0, if train.global_batch_size was given and is larger than the number of items. */
void plumb_say_small(const struct plumb_trainer *t, int64_t items, const char *what);
/* Takes the remaining optimizer steps. Logs metrics, evaluates data.eval, saves checkpoints, and
 * writes report.html at the end. Returns PLUMB_STOPPED if a request (train/stop.h) ends the run
 * early. Collective. */
plumb_status plumb_epochs_run(struct plumb_epochs *e, struct plumb_trainer *t,
                              const struct plumb_epochs_task *task);
#endif

/* loops.h - the training commands on fixed records, and the loop that they share.
 * Layer 5. Includes train/trainer.h.
 *
 * All are Collective; every rank calls with the same source. Each leaves in output_dir what
 * DESIGN section 8 lists and returns after the last checkpoint is in place. */
#ifndef PLUMB_TRAIN_LOOPS_H
#define PLUMB_TRAIN_LOOPS_H

#include "align/method.h"
#include "data/dataset.h"
#include "train/pack.h"
#include "train/trainer.h"

/* Supervised fine-tuning on data.train.
 *     L = - (1/T) sum over the global batch's trained tokens of log p     T = their number */
plumb_status plumb_train_sft(const struct plumb_trainer_source *s);

/* The options for reading a data file for a model with max_pos positions: template, end token,
 * limits. */
struct plumb_data_options plumb_data_options_of(const struct plumb_config *cfg,
                                                const struct plumb_trainer *t,
                                                enum plumb_data_kind kind);

/* Passes over fixed records, each epoch in a shuffled order. SFT and reward training share this. */
struct plumb_epochs {
    const struct plumb_config *cfg;
    struct plumb_batch_cut cut;
    int64_t steps;  /* of the whole run */
    int64_t *order; /* (items,) of the current epoch */
    int64_t epoch;  /* that order holds, -1 = none yet */
};
plumb_status plumb_epochs_init(struct plumb_epochs *e, const struct plumb_config *cfg,
                               int64_t items);
void plumb_epochs_fini(struct plumb_epochs *e);
/* Makes order the one of optimizer step `step` (of the run); *in_epoch = its step there. */
void plumb_epochs_at(struct plumb_epochs *e, int64_t step, int64_t *in_epoch);

/* The functions that a run over epochs calls, each with arg. */
struct plumb_epochs_task {
    const char *what;    /* for the progress line */
    plumb_leaf_fn *leaf; /* value[0] = share of the loss, value[1] = tokens seen */
    /* Before a step whose records are order[records] of in-epoch step in_epoch. */
    void (*begin)(void *arg, int64_t in_epoch, struct plumb_range records);
    /* Adds the task's own figures of the step just taken. */
    void (*report)(void *arg, const double value[PLUMB_LEAF_VALUES], struct plumb_metrics_row *row);
    /* Adds the figures of data.eval under the weights of now; NULL: it is not set. Collective. */
    plumb_status (*evaluate)(void *arg, struct plumb_metrics_row *row);
    void *arg;
};
enum { PLUMB_EPOCHS_LOSS, PLUMB_EPOCHS_TOKENS, PLUMB_EPOCHS_OWN };
/* Allocates for batches of pack and resumes where asked. Collective. */
plumb_status plumb_epochs_prepare(struct plumb_epochs *e, struct plumb_trainer *t,
                                  const struct plumb_pack *pack);
/* Warns, on rank 0, if train.global_batch_size was given and is larger than the number of items. */
void plumb_say_small(const struct plumb_trainer *t, int64_t items, const char *what);
/* Takes the remaining steps: log lines, checkpoints, requests to leave. Collective. */
plumb_status plumb_epochs_run(struct plumb_epochs *e, struct plumb_trainer *t,
                              const struct plumb_epochs_task *task);
/* An upper bound on the tokens of any micro-batch: the micro_batch longest records, each prompt
 * taken once per completion (1: SFT, 2: pairs). PLUMB_ERR_NOMEM. */
plumb_status plumb_longest_batch(int64_t *out, const struct plumb_dataset *data, int completions,
                                 int64_t micro_batch);

#endif

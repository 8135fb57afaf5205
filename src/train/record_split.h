/* record_split.h - counts the tokens that records have in a micro-batch, and splits a whole file of
 * records into micro-batches.
 * Layer 5. Includes config/, data/dataset.h, train/split.h. */
#ifndef PLUMB_TRAIN_RECORD_SPLIT_H
#define PLUMB_TRAIN_RECORD_SPLIT_H

#include "config/config.h"
#include "data/dataset.h"
#include "train/split.h"

/* Writes the place of a record of the file `path` to out (size bytes): "FILE:LINE: ". Writes "" for
 * a record that does not come from a file (plumb_dataset_blank). */
void plumb_record_place(char *out, int64_t size, const struct plumb_record *rec, const char *path);

/* Sets *length to a new array (data->n,) with the tokens that each record has in a micro-batch: its
 * completions, and its prompt once for each completion. The caller frees it. completions: 1 for
 * SFT, 2 for pairs; path: the file of the records, for messages. PLUMB_ERR_ARG if a record alone
 * has more tokens than train.micro_batch_tokens, if that is set; PLUMB_ERR_NOMEM. */
plumb_status plumb_record_lengths(int64_t **length, const struct plumb_dataset *data,
                                  int completions, const struct plumb_config *cfg,
                                  const char *path);

/* Sets *out to an upper bound on the tokens of any micro-batch: the sum of the micro_batch longest
 * records, with each prompt counted once per completion. completions: 1 for SFT, 2 for pairs.
 * PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_longest_batch(int64_t *out, const struct plumb_dataset *data, int completions,
                                 int64_t micro_batch);

/* Splits all records of data, in the order of the file, as one step, with the limits
 * train.micro_batch_size and train.micro_batch_tokens. The caller calls plumb_split_fini. Sets
 * *most to the number of micro-batches and the sizes of the largest one; without a limit of tokens
 * these sizes are upper bounds. Errors: those of plumb_record_lengths. */
plumb_status plumb_record_split(struct plumb_batch_split *c, struct plumb_split_most *most,
                                const struct plumb_dataset *data, int completions,
                                const struct plumb_config *cfg, const char *path);

#endif

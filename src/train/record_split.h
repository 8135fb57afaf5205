/* record_split.h - the tokens of records in a micro-batch, and the split of a whole file of records
 * into micro-batches.
 * Layer 5. Includes config/, data/dataset.h, train/split.h. */
#ifndef PLUMB_TRAIN_RECORD_SPLIT_H
#define PLUMB_TRAIN_RECORD_SPLIT_H

#include "config/config.h"
#include "data/dataset.h"
#include "train/split.h"

/* Writes to out (size bytes) where a record of the file `path` is, "FILE:LINE: "; nothing for a
 * record that a memory plan assumes in place of a file. */
void plumb_record_place(char *out, int64_t size, const struct plumb_record *rec, const char *path);

/* Sets *length to a new array (data->n,) with the tokens that each record has in a micro-batch: its
 * completions, and its prompt once for each of them. The caller frees it. completions: 1 for SFT, 2
 * for pairs; path: the file of the records, for messages. PLUMB_ERR_ARG if a record alone has more
 * tokens than train.micro_batch_tokens, if that is set; PLUMB_ERR_NOMEM. */
plumb_status plumb_record_lengths(int64_t **length, const struct plumb_dataset *data,
                                  int completions, const struct plumb_config *cfg,
                                  const char *path);

/* Sets *out to an upper bound on the tokens of any micro-batch: the sum of the micro_batch longest
 * records, with each prompt counted once per completion. completions: 1 for SFT, 2 for pairs.
 * PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_longest_batch(int64_t *out, const struct plumb_dataset *data, int completions,
                                 int64_t micro_batch);

/* Splits all records of data, in the order of the file, as one step, with the limits of the section
 * train. The caller calls plumb_split_fini. *most: what the memory must hold; without a limit of
 * tokens an upper bound. Errors: those of plumb_record_lengths. */
plumb_status plumb_record_split(struct plumb_batch_split *c, struct plumb_split_most *most,
                                const struct plumb_dataset *data, int completions,
                                const struct plumb_config *cfg, const char *path);

#endif

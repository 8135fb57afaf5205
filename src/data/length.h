/* length.h - lengths of sequences, and warnings about limits that they exceed.
 * Layer 4. Includes base/, config/. */
#ifndef PLUMB_DATA_LENGTH_H
#define PLUMB_DATA_LENGTH_H

#include "config/config.h"
#include "data/dataset.h"

/* Returns the largest number of tokens of any record: its longest prompt (with or without a
 * principle) plus its longest completion. */
int64_t plumb_length_longest(const struct plumb_dataset *d);

/* Warns on rank 0 if sequences of `longest` tokens exceed model_max_length in the
 * tokenizer_config.json of cfg->tokenizer. `longest` may exceed data.max_tokens and the
 * max_position_embeddings of cfg->model; the function lowers it to these limits first. If
 * model_max_length cannot be read, there is no warning. Other functions report a missing or
 * unreadable file. Not collective. */
void plumb_length_note(const struct plumb_config *cfg, int64_t longest);

/* Returns the most tokens of a generated sequence, whose prompt has at most `longest` tokens: with
 * generate.max_new_tokens more, but at most data.max_tokens and `context`, the model's context
 * length. Warns on rank 0 if these limits cut completions before generate.max_new_tokens does. Not
 * collective. */
int64_t plumb_length_generated(const struct plumb_config *cfg, int64_t longest, int64_t context);

#endif

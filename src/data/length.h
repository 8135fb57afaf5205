/* length.h - whether sequences are longer than a tokenizer's folder says they may be.
 * Layer 4. Includes base/, config/. */
#ifndef PLUMB_DATA_LENGTH_H
#define PLUMB_DATA_LENGTH_H

#include "config/config.h"
#include "data/dataset.h"

/* Tokens of the longest record: its longest prompt, also under a principle, with its longest
 * completion. */
int64_t plumb_length_longest(const struct plumb_dataset *d);

/* Warns, on rank 0, when sequences of `longest` tokens are longer than model_max_length of
 * tokenizer_config.json in cfg->tokenizer. No sequence is longer than data.max_tokens and the
 * max_position_embeddings of cfg->model, and longest may be larger than these. Files that are not
 * there, or cannot be read, say nothing: others report them. Not collective. */
void plumb_length_note(const struct plumb_config *cfg, int64_t longest);

#endif

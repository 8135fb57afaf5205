/* encoding.h - how a reward model reads records: a file in its folder that reward training writes
 * and scoring obeys. transformers ignores it.
 * Layer 4. Includes base/, config/, io/, text/.
 *
 * PLUMB_ENCODING_NAME, one JSON object:
 *     {"prompt_template": "{prompt}", "append_eos": true, "begin_ids": [1], "end_id": 2,
 *      "max_tokens": 512}
 * begin_ids are what the tokenizer puts before a text, end_id is its end token (-1: it has none),
 * max_tokens is the longest prompt and completion that training took. */
#ifndef PLUMB_DATA_ENCODING_H
#define PLUMB_DATA_ENCODING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "text/tokenizer.h"

#define PLUMB_ENCODING_NAME "plumb_encoding.json"

/* Zero-initialise; release with plumb_encoding_fini. */
struct plumb_encoding {
    bool append_eos;
    int64_t max_tokens;          /* 0: not known */
    const char *prompt_template; /* borrowed; NULL: not known */
    char *owned;                 /* the same where it was read */
};
void plumb_encoding_fini(struct plumb_encoding *e);

/* Writes the file into a folder that is there. PLUMB_ERR_IO. */
plumb_status plumb_encoding_write(const char *dir, const struct plumb_encoding *e,
                                  const plumb_tokenizer *t);

/* How the reward model in `dir` reads with this tokenizer: as it was trained, or as
 * reward.append_eos says. A difference between the two is a warning that names both. A folder
 * without the file reads with the end token, if the tokenizer has one (what TRL's RewardTrainer
 * does), and that is said.
 * t NULL: what the folder says, for a plan.
 * Errors: PLUMB_ERR_FORMAT for a malformed file, or when the tokenizer puts other ids before a text
 * or has another end token than in training: found and expected ids. */
plumb_status plumb_encoding_of(struct plumb_encoding *out, const struct plumb_config *cfg,
                               const char *dir, const plumb_tokenizer *t);

/* *out = the template that `dir` names, or NULL; the caller's to free. PLUMB_ERR_FORMAT. */
plumb_status plumb_encoding_template(char **out, const char *dir);
/* The template for records that only the reward model reads: `trained` (NULL: not known) where
 * `given` is the default, else `given`, with a warning where both differ. */
const char *plumb_encoding_choose(const char *dir, const char *given, const char *trained);
/* Warns that texts are rendered with `given` for a model that was trained with `trained`. */
void plumb_encoding_differs(const char *dir, const char *given, const char *trained);

#endif

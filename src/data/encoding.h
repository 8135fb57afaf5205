/* encoding.h - a file in a reward model's folder that describes how the model reads records. Reward
 * training writes it, and scoring follows it. transformers ignores it.
 * Layer 4. Includes base/, config/, io/, text/.
 *
 * PLUMB_ENCODING_NAME contains one JSON object:
 *   {"prompt_template": "{prompt}", "append_eos": true, "begin_ids": [1], "end_id": 2,
 *    "max_tokens": 512}
 * begin_ids are the tokens that the tokenizer adds before a text, end_id is its end token (-1 if it
 * has none), max_tokens is the length limit of prompt and completion in training. */
#ifndef PLUMB_DATA_ENCODING_H
#define PLUMB_DATA_ENCODING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "text/tokenizer.h"

#define PLUMB_ENCODING_NAME "plumb_encoding.json"

/* How a reward model reads records: what PLUMB_ENCODING_NAME in its folder states, after
 * reward.append_eos is applied. Initialise with zeros; release with plumb_encoding_fini. */
struct plumb_encoding {
    bool append_eos;
    int64_t max_tokens;          /* limit for prompt plus completion, in tokens; 0 if unknown */
    const char *prompt_template; /* template for prompts; borrowed; NULL if unknown */
    char *owned;                 /* memory of prompt_template if it was read from the file */
};
void plumb_encoding_fini(struct plumb_encoding *e);

/* Writes PLUMB_ENCODING_NAME with the settings *e and the special tokens of t into the existing
 * folder `dir`. PLUMB_ERR_IO if the file cannot be written. */
plumb_status plumb_encoding_write(const char *dir, const struct plumb_encoding *e,
                                  const plumb_tokenizer *t);

/* Determines how the reward model in `dir` reads records with this tokenizer: as in training, or as
 * reward.append_eos demands. If the two differ, a warning names both. For a folder without the
 * file, the end token is added if the tokenizer has one (like TRL's RewardTrainer), and this is
 * logged. If t is NULL, only the content of the file is returned, to plan memory. Returns
 * PLUMB_ERR_FORMAT if the file is malformed, or if the tokenizer adds other ids before a text or
 * has another end token than in training; the message has the found and the expected ids. */
plumb_status plumb_encoding_of(struct plumb_encoding *out, const struct plumb_config *cfg,
                               const char *dir, const plumb_tokenizer *t);

/* Sets *out to the prompt template in PLUMB_ENCODING_NAME of `dir`, or to NULL if `dir` has no such
 * file; the caller frees *out. PLUMB_ERR_FORMAT if the file is malformed. */
plumb_status plumb_encoding_template(char **out, const char *dir);
/* Chooses the prompt template for records that only the reward model reads. given: the template of
 * the configuration; trained: the template in the reward model's training, NULL if unknown. Returns
 * `trained` if it is known and `given` is the default template. Otherwise returns `given`, with a
 * warning if `trained` is known and differs. */
const char *plumb_encoding_choose(const char *dir, const char *given, const char *trained);
/* Warns that texts are rendered with the template `given` although the model in `dir` was trained
 * with the template `trained`. */
void plumb_encoding_differs(const char *dir, const char *given, const char *trained);

#endif

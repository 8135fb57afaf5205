/* completion.h - the JSON line of one completion, as generate and eval write it.
 * Layer 6. Includes base/, model/generate.h. */
#ifndef PLUMB_APP_COMPLETION_H
#define PLUMB_APP_COMPLETION_H

#include "base/buf.h"
#include "model/generate.h"

/* out += one line: prompt_id, sample, prompt_ids, completion_ids, logprobs (raw, nats; they read
 * back to the same bits), text, stop_reason. prompt: ids of the prompt, (n_prompt,). */
plumb_status plumb_completion_put(struct plumb_buf *out, int64_t prompt_id, const int32_t *prompt,
                                  int64_t n_prompt, const struct plumb_completion *c,
                                  const struct plumb_buf *text);

/* Reads such a line back but for prompt and text. c->ids, c->logp and c->logp_sampled point to
 * `ids` and `logp` (room for max tokens), which are filled; logp_sampled is not in the line and
 * stands for nothing. Errors: PLUMB_ERR_FORMAT naming `where`. */
plumb_status plumb_completion_read(struct plumb_completion *c, int32_t *ids, float *logp,
                                   int64_t max, const char *line, int64_t len, const char *where);

#endif

/* completion.h - writes and reads the JSON line of one completion, for generate and eval.
 * Layer 6. Includes base/, model/generate.h. */
#ifndef PLUMB_APP_COMPLETION_H
#define PLUMB_APP_COMPLETION_H

#include "base/buf.h"
#include "model/generate.h"

/* out += one line: prompt_id, id (JSON text, if not NULL), sample, prompt_ids, completion_ids,
 * logprobs (raw, nats; they read back to the same bits), text, stop_reason. prompt: ids of the
 * prompt, (n_prompt,). */
plumb_status plumb_completion_put(struct plumb_buf *out, int64_t prompt_id, const char *id,
                                  const int32_t *prompt, int64_t n_prompt,
                                  const struct plumb_completion *c, const struct plumb_buf *text);

/* Reads such a line, without prompt and text. ids and logp have room for max tokens and are filled;
 * c->ids, c->logp and c->logp_sampled point to them. logp_sampled is not in the line, so its values
 * are meaningless. Errors: PLUMB_ERR_FORMAT naming `where`. */
plumb_status plumb_completion_read(struct plumb_completion *c, int32_t *ids, float *logp,
                                   int64_t max, const char *line, int64_t len, const char *where);

#endif

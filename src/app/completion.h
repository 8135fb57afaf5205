/* completion.h - writes and reads the JSON line of one completion, for generate and eval.
 * Layer 6. Includes base/, data/dataset.h, model/generate.h. */
#ifndef PLUMB_APP_COMPLETION_H
#define PLUMB_APP_COMPLETION_H

#include "base/buf.h"
#include "data/dataset.h"
#include "model/generate.h"

/* Appends the JSON line of one completion to out: prompt_id, id (if the record has one), sample,
 * prompt_ids, completion_ids, logprobs (under the raw logits, in nats; they read back to the same
 * bits), text, stop_reason. The other members of the record, except prompt_ids, follow under their
 * own names, unchanged. A member with another of the names above, or that the data reader would
 * take for the answer (completion, messages, chosen, ids, ...), is written inside of an object
 * "record". */
plumb_status plumb_completion_put(struct plumb_buf *out, int64_t prompt_id,
                                  const struct plumb_record *r, const struct plumb_completion *c,
                                  const struct plumb_buf *text);

/* Reads a line that plumb_completion_put has written, except for the prompt and the text. ids and
 * logp are arrays (max,); c->ids points to ids; c->logp and c->logp_sampled point to logp. The line
 * has no logp_sampled, so the values of c->logp_sampled are meaningless. Returns PLUMB_ERR_FORMAT,
 * with `where` in the message. */
plumb_status plumb_completion_read(struct plumb_completion *c, int32_t *ids, float *logp,
                                   int64_t max, const char *line, int64_t len, const char *where);

#endif

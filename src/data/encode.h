/* encode.h - one record to token ids, and ids back to the texts of a record. Every command, method,
 * reward model, judge and reference encodes here and nowhere else.
 * Layer 4. Includes base/, text/.
 *
 * Prompt and completion are encoded as one text wherever a model reads them together, as TRL 1.x
 * and transformers do. Tokens may join the end of the prompt and the beginning of the completion:
 *
 *     prompt      "ask the"        ids  <s> ask _the
 *     completion  "m: why?"        ids  <s> ask _them : _why ?  </s>
 *                                               |__ the completion begins here
 *
 * The completion begins where the ids of the whole text and the ids of the prompt alone part
 * (common_prefix_length of TRL's data_utils), at the second id at the earliest, because nothing
 * predicts the first one.
 *
 * BOS rule: what the tokenizer's post-processor puts before a text stands at the beginning once,
 * whether or not the text begins with it. End-token rule: append_eos puts the end token behind the
 * last part unless that part ends with it; what the post-processor puts behind a text does not
 * count, so that a prompt that a model goes on from never ends with it and an end is never doubled.
 */
#ifndef PLUMB_DATA_ENCODE_H
#define PLUMB_DATA_ENCODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "text/tokenizer.h"

/* One of the texts that a record consists of, in reading order: a prompt, then a completion; or the
 * turns of a chat. Borrowed. */
struct plumb_part {
    const char *text;
    int64_t len;
};

/* How texts are encoded, and scratch memory. Zero-initialise, set the first four members, release
 * with plumb_encoder_fini. Not shared by threads. */
struct plumb_encoder {
    const plumb_tokenizer *tokenizer; /* borrowed */
    bool no_special;                  /* without what the tokenizer puts before a text (BOS) */
    bool append_eos;                  /* the end-token rule above */
    const char *where;                /* for messages: "FILE:LINE" or an option; borrowed */
    /* private */
    struct plumb_buf text, head_text; /* all parts; the first part of the last call, */
    struct plumb_ids head, other;     /* and its ids */
};
void plumb_encoder_fini(struct plumb_encoder *e);

/* ids = what a model reads that goes on from this text: nothing stands behind it. */
plumb_status plumb_encode_prompt(struct plumb_encoder *e, struct plumb_ids *ids, const char *text,
                                 int64_t len);

/* ids = what a model reads when it reads n >= 1 parts as one text, the end token included.
 *   out  begin  (n+1,)   part k is ids[begin[k], begin[k+1]); begin[n] = ids->n
 *        cut             *cut: whether part 0 alone has tokens that the whole does not begin with;
 *                        NULL is allowed
 * Errors: PLUMB_ERR_ARG when append_eos is set and the tokenizer has no end token. */
plumb_status plumb_encode(struct plumb_encoder *e, struct plumb_ids *ids, int64_t *begin, bool *cut,
                          const struct plumb_part *part, int64_t n);

/* ids = the text with all that the tokenizer file puts around it, as the tokenizer of transformers
 * encodes it; BOS is not doubled here either. */
plumb_status plumb_encode_text(struct plumb_encoder *e, struct plumb_ids *ids, const char *text,
                               int64_t len);

/* out += the text of a completion that was sampled behind `prompt`, without special tokens. The
 * prompt's text followed by this text is the text that the model saw. */
plumb_status plumb_decode_completion(const plumb_tokenizer *t, struct plumb_buf *out,
                                     const int32_t *prompt, int64_t n_prompt, const int32_t *ids,
                                     int64_t n);
/* out += the text of a prompt that was given as ids: plumb_encode_prompt puts BOS back. */
plumb_status plumb_decode_prompt(const plumb_tokenizer *t, struct plumb_buf *out,
                                 const int32_t *ids, int64_t n);

#endif

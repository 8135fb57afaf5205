/* encode.h - encodes a record to token ids, and decodes ids to the texts of a record. Every
 * command, method, reward model, judge and reference encodes with these functions only.
 * Layer 4. Includes base/, text/.
 *
 * If a model reads prompt and completion together, they are encoded as one text, as in TRL 1.x and
 * transformers. A token may then cover the end of the prompt and the beginning of the completion:
 *
 *       prompt      "ask the"        ids  <s> ask _the
 *       completion  "m: why?"        ids  <s> ask _them : _why ?  </s>
 *                                                 |__ the completion begins here
 *
 * The completion begins at the first id in which the whole text and the prompt alone differ
 * (common_prefix_length of TRL's data_utils), but not before the second id, because no token
 * predicts the first one.
 *
 * BOS rule: the tokens that the tokenizer's post-processor adds before a text are at the beginning
 * exactly once, even if the text begins with them itself; with no_special, none is added. End-token
 * rule: with append_eos, the end token follows the last part unless that part ends with it. The
 * tokens that the post-processor adds after a text are used only by plumb_encode_text, so that a
 * prompt which a model continues never ends with an end token, and an end token is never
 * doubled. */
#ifndef PLUMB_DATA_ENCODE_H
#define PLUMB_DATA_ENCODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "text/tokenizer.h"

/* One of the texts of a record that a model reads one after the other: the prompt and the
 * completion, or the turns of a chat. The text is borrowed. */
struct plumb_part {
    const char *text;
    int64_t len;
};

/* Options of the encoding, and scratch memory. Initialise with zeros, set the first four members,
 * release with plumb_encoder_fini. Only one thread at a time may use it. */
struct plumb_encoder {
    const plumb_tokenizer *tokenizer; /* borrowed */
    bool no_special;   /* omit the tokens that the tokenizer adds before a text (BOS) */
    bool append_eos;   /* apply the end-token rule of the file head */
    const char *where; /* "FILE:LINE" or an option, for messages; borrowed */
    /* private members */
    struct plumb_buf text, head_text; /* text: all parts joined; head_text: the first part of the
                                       * last call */
    struct plumb_ids head, other;     /* head: token ids of head_text; other: scratch */
};
void plumb_encoder_fini(struct plumb_encoder *e);

/* Sets ids to the tokens of a prompt that a model continues, so no special token follows the text.
 */
plumb_status plumb_encode_prompt(struct plumb_encoder *e, struct plumb_ids *ids, const char *text,
                                 int64_t len);

/* Sets ids to the tokens of n >= 1 parts that a model reads as one text, with the end token if
 * append_eos is true.
 *   out  begin  (n+1,)   part k is ids[begin[k], begin[k+1]); begin[n] = ids->n
 *        cut             true if the ids do not begin with all ids of part 0 encoded alone, because
 *                        the tokenizer merges its end with part 1; may be NULL
 * Returns PLUMB_ERR_ARG if append_eos is true and the tokenizer has no end token. */
plumb_status plumb_encode(struct plumb_encoder *e, struct plumb_ids *ids, int64_t *begin, bool *cut,
                          const struct plumb_part *part, int64_t n);

/* Sets ids to the tokens of `whole`, a text that a chat template wrote (prompt and completion).
 * e->no_special must be true, because the template writes BOS and end token itself; no end token is
 * added. `prompt` is the rendered prompt alone. *begin becomes the index at which the completion
 * begins: the first id in which `whole` and `prompt` differ, but at least 1. *cut becomes true if
 * the ids of `whole` do not begin with all ids of `prompt`, because the tokenizer merges the end of
 * the prompt with the completion. */
plumb_status plumb_encode_rendered(struct plumb_encoder *e, struct plumb_ids *ids, int64_t *begin,
                                   bool *cut, struct plumb_part prompt, struct plumb_part whole);

struct plumb_jinja_span; /* defined in text/jinja/jinja.h */
/* Sets mask (ids->n,) to 1 for every token that overlaps one of the n byte ranges of the text, else
 * to 0. The ranges are in increasing order. ids are the tokens of the text without special
 * tokens. */
plumb_status plumb_encode_mask(struct plumb_encoder *e, unsigned char *mask,
                               const struct plumb_ids *ids, struct plumb_part text,
                               const struct plumb_jinja_span *span, int64_t n);

/* Sets ids to the tokens of a text with all tokens that the post-processor adds before and after
 * it, like the tokenizer of transformers; a BOS in the text itself is not doubled. */
plumb_status plumb_encode_text(struct plumb_encoder *e, struct plumb_ids *ids, const char *text,
                               int64_t len);

/* Appends the text of a completion that was sampled after `prompt`, without special tokens. The
 * prompt's text followed by this text is the text that the model saw. */
plumb_status plumb_decode_completion(const plumb_tokenizer *t, struct plumb_buf *out,
                                     const int32_t *prompt, int64_t n_prompt, const int32_t *ids,
                                     int64_t n);
/* Appends the text of a prompt that was given as token ids, without BOS; plumb_encode_prompt adds
 * BOS again. */
plumb_status plumb_decode_prompt(const plumb_tokenizer *t, struct plumb_buf *out,
                                 const int32_t *ids, int64_t n);

#endif

/* record.h - reads the texts of one JSON record according to its shape. Used only inside data/.
 * Layer 4. Includes base/, io/, text/. */
#ifndef PLUMB_DATA_RECORD_H
#define PLUMB_DATA_RECORD_H

#include "base/buf.h"
#include "data/chat.h"
#include "data/dataset.h"
#include "data/fields.h"
#include "data/misspelt.h"
#include "io/json.h"

/* The contents of one record, rendered but not yet tokenised. It is reused for each line.
 *
 * If by_template is true, a chat template wrote the texts: `whole` is the prompt with each
 * completion, `prompt` is the prompt alone, and `completion` holds the contents of the answers.
 * Otherwise the whole is the prompt followed by a completion. */
struct plumb_draft {
    struct plumb_buf prompt, principled, contrary, completion[2];
    int completions; /* 0, 1 or 2 */
    bool by_ids;     /* the record gave token ids; the texts are empty */
    bool by_template;
    struct plumb_buf whole[2];
    bool earlier; /* without a template: the prompt has messages of the assistant */
    bool all;     /* the loss covers the whole text */
    /* Byte ranges of whole[0] that the loss covers; if there are none, it covers the completion. */
    struct plumb_jinja_spans spans;
    struct plumb_turns turns;
    struct plumb_ids ids; /* ids of prompt and completion */
    int64_t prompt_tokens;
    struct plumb_buf id, solution, asked;
    bool has_id, has_solution;
    /* The line; borrowed. The caller sets it before plumb_record_read. */
    struct plumb_columns json;
    double score[2]; /* NaN if not given */
    /* Fields that warnings have named, for the whole file. */
    struct plumb_fields_named named;
    /* Members whose names are almost those of members that are read, for the whole file. */
    struct plumb_misspelt misspelt;
};
void plumb_draft_clear(struct plumb_draft *d);
void plumb_draft_fini(struct plumb_draft *d);

/* Checks the templates in the options. Returns PLUMB_ERR_CONFIG. */
plumb_status plumb_record_check(const struct plumb_data_options *o);

/* Fills *d from a parsed line; `where` is "file:line". Returns PLUMB_ERR_FORMAT. */
plumb_status plumb_record_read(struct plumb_draft *d, const plumb_json *line,
                               const struct plumb_data_options *o, const char *where);

/* *out = the record in a shape of plumb's, or NULL where it has one:
 *   {"conversations"}, and messages of "from" and "value" (sharegpt), as "messages" of "role" and
 *   "content", human and gpt as user and assistant; {"instruction", "input", "output"} (alpaca) as
 *   prompt (a user's message with chat) and completion; without chat, contents that are lists of
 *   text parts as one text. *out is owned by the caller.
 * Errors: PLUMB_ERR_UNSUPPORTED for parts that are no text; PLUMB_ERR_FORMAT. */
plumb_status plumb_shape_read(plumb_json **out, const plumb_json *line, bool chat,
                              const char *where);

/* Whether a chat template reads this record: o has one, and a field is a list of messages. */
bool plumb_record_is_chat(const plumb_json *line, const struct plumb_data_options *o);
/* Fills the texts of *d by the chat template. Errors: those of data/chat.h. */
plumb_status plumb_record_read_chat(struct plumb_draft *d, const plumb_json *line,
                                    const struct plumb_data_options *o, const char *where);

#endif

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

/* The contents of one record, rendered but not yet tokenised. The struct is reused for each line.
 *
 * If by_template is true, a chat template wrote the texts: whole[i] is the prompt followed by
 * completion i, `prompt` is the prompt alone, and completion[i] is the content of the last message
 * of answer i. Otherwise `whole` is not set, and the full text is `prompt` followed by a
 * completion. */
struct plumb_draft {
    struct plumb_buf prompt, principled, contrary, completion[2];
    int completions; /* number of used elements of completion and whole: 0, 1 or 2 */
    bool by_ids;     /* the record gave token ids; the texts are empty */
    bool by_template;
    struct plumb_buf whole[2];
    bool earlier; /* without a template: the prompt has messages of the assistant */
    bool all;     /* the loss covers all tokens of the record, including the prompt */
    /* Byte ranges of whole[0] that the loss covers; if the list is empty, the loss covers the
     * completion. */
    struct plumb_jinja_spans spans;
    struct plumb_turns turns;
    /* Token ids of the prompt followed by the completion; filled only if by_ids is true. */
    struct plumb_ids ids;
    int64_t prompt_tokens;
    struct plumb_buf id, solution, asked;
    bool has_id, has_solution;
    /* JSON text of the record; borrowed. The caller sets it before plumb_record_read. */
    struct plumb_columns json;
    double score[2]; /* score_chosen and score_rejected of the record; NaN if not given */
    /* Fields that warnings have named, for the whole file. */
    struct plumb_fields_named named;
    /* Misspelt names of members, for the whole file. */
    struct plumb_misspelt misspelt;
};
void plumb_draft_clear(struct plumb_draft *d);
void plumb_draft_fini(struct plumb_draft *d);

/* Returns PLUMB_ERR_CONFIG if a template in the options is malformed. */
plumb_status plumb_record_check(const struct plumb_data_options *o);

/* Fills *d from a parsed line; `where` is "file:line". PLUMB_ERR_FORMAT if the record does not have
 * one of the shapes of its kind; PLUMB_ERR_UNSUPPORTED for members whose effect plumb does not
 * support (data/fields.h). */
plumb_status plumb_record_read(struct plumb_draft *d, const plumb_json *line,
                               const struct plumb_data_options *o, const char *where);

/* Converts a record in the shape of another program. chat: true if the run has a chat template.
 * Sets *out to the record in one of plumb's shapes, or to NULL if it already has one. The caller
 * owns *out. These records are converted:
 *   - sharegpt: "conversations" becomes "messages"; in messages, "from" and "value" become "role"
 *     and "content", human becomes user and gpt becomes assistant.
 *   - alpaca: {"instruction", "input", "output"} becomes prompt and completion, and {"instruction",
 *     "input", "chosen", "rejected"} becomes prompt, chosen and rejected. If chat is true, the
 *     prompt is a list with one user message.
 *   - If chat is false, a content that is a list of text parts becomes one text.
 * Returns PLUMB_ERR_UNSUPPORTED for a content part that is not text; PLUMB_ERR_FORMAT if a member
 * has another type than its shape requires. */
plumb_status plumb_shape_read(plumb_json **out, const plumb_json *line, bool chat,
                              const char *where);

/* Writes a hint to out (size bytes) for the error message about a record that cannot be read as
 * this kind: which shape the record has and which commands read that shape, or the names of its
 * members if it has none of those that plumb reads. Writes "" if this kind can have the shape. */
void plumb_shape_hint(char *out, int64_t size, const plumb_json *line, enum plumb_data_kind kind);

/* Returns true if a chat template renders this record: the options have a template, and a text
 * field of the record is a list of messages. */
bool plumb_record_is_chat(const plumb_json *line, const struct plumb_data_options *o);
/* Fills the texts of *d by rendering the record with the chat template. Returns the errors of the
 * functions in data/chat.h. */
plumb_status plumb_record_read_chat(struct plumb_draft *d, const plumb_json *line,
                                    const struct plumb_data_options *o, const char *where);

#endif

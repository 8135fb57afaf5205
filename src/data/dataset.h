/* dataset.h - reads JSONL data sets with the record shapes of TRL, renders and tokenises them.
 * Layer 4. Includes base/, text/, data/record_parts.h. */
#ifndef PLUMB_DATA_DATASET_H
#define PLUMB_DATA_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/record_parts.h"
#include "text/tokenizer.h"

/* Kind of records in a file, and the record shapes that each kind accepts. TEXT is a plain string,
 * CHAT a list of {"role","content"} messages. The members completion, chosen and rejected are
 * answers. In a chat, a TEXT stands for one message: of the user if it is a prompt, of the
 * assistant if it is an answer. An answer that is a CHAT has one message, of the assistant. With a
 * chat template it may have several messages, of which the last is the assistant's. An answer may
 * begin with a copy of the prompt's messages. For the shapes of other programs see plumb_shape_read
 * in data/record.h.
 *   PROMPTS    {"prompt": TEXT|CHAT} or {"prompt_ids": [..]}
 *   SFT        {"messages": CHAT} (with a chat template, all messages of the assistant are trained
 *              on; otherwise the last message, which is the assistant's), {"prompt","completion"},
 *              {"text": TEXT} (all tokens are trained on), {"ids": [..], "prompt_tokens": n}, or
 *              {"prompt_ids": [..], "completion_ids": [..]} as plumb generate writes them
 *   PAIRS      {"prompt","chosen","rejected"}, or {"chosen","rejected"} with a common beginning
 *   TEXTS      {"text": TEXT} or {"messages": CHAT}; all of it is the prompt
 *   ANY        each line as SFT, TEXTS or PROMPTS accept it; used for records that are only scored
 * PAIRS may have "score_chosen" and "score_rejected", two numbers, both or none. Every kind may
 * have "id" (text or number, stored as text) and "solution" or "answer" (stored if it is a text or
 * a number). For other members see data/fields.h and data/columns.h. */
enum plumb_data_kind {
    PLUMB_DATA_PROMPTS,
    PLUMB_DATA_SFT,
    PLUMB_DATA_PAIRS,
    PLUMB_DATA_TEXTS,
    PLUMB_DATA_ANY
};

struct plumb_chat_setting; /* defined in data/chat.h */

/* What happens to a record that exceeds max_prompt_tokens or max_tokens. */
enum plumb_overlong {
    PLUMB_OVERLONG_ERROR,
    /* The first tokens of the prompt are removed until prompt and completion fit. At least one
     * prompt token stays; if the completion is still too long, its last tokens are removed. */
    PLUMB_OVERLONG_TRUNCATE_LEFT,
    /* The last tokens of the prompt are removed until it fits max_prompt_tokens. Then the last
     * tokens of each completion are removed until it fits max_tokens together with the prompt. A
     * prompt without completions is also shortened to max_tokens. */
    PLUMB_OVERLONG_TRUNCATE_RIGHT,
    PLUMB_OVERLONG_DROP /* the record is left out and counted in `skipped` */
};

/* Options for reading a data set. Zero is a valid value of every field. */
struct plumb_data_options {
    enum plumb_data_kind kind;
    /* Tokenizes the texts; used only during open. NULL if only the texts are read. */
    const plumb_tokenizer *tokenizer;
    /* Token ids in a record must be smaller than this; 0 stands for the size of the tokenizer's
     * vocabulary. */
    int64_t vocab;
    /* Template for prompts, see text/template.h; NULL stands for the default template. */
    const char *prompt_template;
    /* PROMPTS only: the text of the principle that is inserted into each prompt; white space at its
     * end is left out. NULL if there is none. */
    const char *principle;
    /* PROMPTS only: text of the contrary principle, inserted like the principle. NULL if there is
     * none. */
    const char *contrary;
    /* Template with {principle} and {prompt}, where {prompt} stands for the last message of the
     * prompt (with a chat template: of the user). The result replaces that message. NULL stands for
     * "{principle}\n{prompt}". Not used if the principle goes into the system message. */
    const char *principle_template;
    /* Chat settings that turn messages into text. If NULL, or if it has no template,
     * prompt_template is used. Needed only during open. */
    const struct plumb_chat_setting *chat;
    /* If true and `chat` has a template, the principle is inserted into the system message instead
     * of the user's message. */
    bool principle_in_system;
    /* For SFT records with "messages": if true, the loss covers all tokens of the conversation, not
     * only those of the assistant. */
    bool all_tokens;
    /* PROMPTS only: if true, the "completion" of a record is read and encoded as for SFT; otherwise
     * it is not read. */
    bool references;
    /* If true, texts are encoded without the special tokens that the tokenizer's post-processor
     * adds before them (BOS) or after them. */
    bool no_special;
    /* If true, a completion ends with the end token (rule: data/encode.h). TEXTS and prompts that a
     * model continues get none. */
    bool append_eos;
    /* Largest number of tokens of a record's prompt, plain or with a principle (`principled`,
     * `contrary`). 0 means that there is no limit. */
    int64_t max_prompt_tokens;
    /* Largest number of tokens of a prompt together with one of its completions. 0 means that there
     * is no limit. */
    int64_t max_tokens;
    int64_t skip;  /* number of lines at the beginning of the file that are left out and not checked
                    */
    int64_t limit; /* largest number of records to read after the skipped ones; 0 means all */
    bool whole;    /* if true, sets `json` and `asked` of each record, and the texts of records that
                    * give token ids */
    enum plumb_overlong overlong; /* what happens to records that exceed max_prompt_tokens or
                                   * max_tokens */
    /* If true, blank lines are allowed anywhere; otherwise only at the end of the file. */
    bool blank_lines;
};

/* An opened data set. It does not change after it is opened. */
struct plumb_dataset {
    struct plumb_record *record;
    int64_t n;
    /* Number of records that were left out because they were too long or had no trained token left;
     * skipped_line is the line of the first. */
    int64_t skipped;
    int64_t skipped_line;
    /* Number of records that lost tokens; truncated_line is the line of the first such record. */
    int64_t truncated;
    int64_t truncated_line;
    /* Number of records with several messages of the assistant of which the loss covers only the
     * last one, because no chat template is used. */
    int64_t last_turns;
    /* Number of records in which a token covers the end of the prompt and the beginning of the
     * completion; such a token counts as a token of the completion. cut_line is the line of the
     * first such record. */
    int64_t cut;
    int64_t cut_line;
    struct plumb_data_block *blocks; /* memory of all texts and token ids */
};

/* Reads a whole file, or standard input for "-": UTF-8 with or without a byte order mark, lines
 * ended by \n or \r\n. The caller owns *out.
 *
 * Tokens: PROMPTS are encoded by plumb_encode_prompt, TEXTS by plumb_encode_text, and all others by
 * plumb_encode: prompt and completion together, with the end-token rule (data/encode.h). A text
 * that a chat template wrote is encoded without additional special tokens (plumb_encode_rendered,
 * plumb_encode_mask). A record of token ids is used unchanged.
 *
 * Errors name the file, line and field: PLUMB_ERR_IO if the file cannot be read; PLUMB_ERR_FORMAT
 * for a line that is not a JSON object, a missing field, a field of another type (with the found
 * and the expected type), an empty prompt, or a file without records; PLUMB_ERR_UNSUPPORTED for a
 * member that would change the text or the loss (data/fields.h); PLUMB_ERR_ARG for a record that is
 * too long with PLUMB_OVERLONG_ERROR, or if all records are too long; PLUMB_ERR_CONFIG for a
 * malformed template. */
plumb_status plumb_dataset_open(struct plumb_dataset **out, const char *path,
                                const struct plumb_data_options *options);
/* Reads a data set from len bytes in memory, like plumb_dataset_open. `name` stands for the file in
 * messages. */
plumb_status plumb_dataset_parse(struct plumb_dataset **out, const char *text, int64_t len,
                                 const char *name, const struct plumb_data_options *options);
/* Creates n records with these numbers of tokens and no content, to plan the memory of a run.
 * PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_dataset_blank(struct plumb_dataset **out, int64_t n, int64_t prompt_tokens,
                                 int64_t completion_tokens);
/* Returns the number of tokens of the longest plain prompt. Prompts into which a principle was
 * inserted (`principled`, `contrary`) do not count. */
int64_t plumb_dataset_longest(const struct plumb_dataset *d);
void plumb_dataset_close(struct plumb_dataset **d); /* does nothing if *d is NULL */

#endif

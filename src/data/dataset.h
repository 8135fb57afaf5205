/* dataset.h - JSONL data sets in TRL's record shapes, rendered and tokenised.
 * Layer 4. Includes base/, io/, text/. */
#ifndef PLUMB_DATA_DATASET_H
#define PLUMB_DATA_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/columns.h"
#include "text/tokenizer.h"

/* What a file is read as, and the record shapes that are accepted. TEXT is a string, CHAT a list
 * of {"role","content"} messages; a TEXT counts as a chat of one message, of the user in a prompt
 * and of the assistant in an answer. An answer is one message.
 *   PROMPTS    {"prompt": TEXT|CHAT} or {"prompt_ids": [..]}
 *   SFT        {"messages": CHAT} (trained on the last message, which is the assistant's),
 *              {"prompt","completion"}, or {"ids": [..], "prompt_tokens": n}
 *   PAIRS      {"prompt","chosen","rejected"}, or {"chosen","rejected"} with a common beginning
 *   TEXTS      {"text": TEXT} or {"messages": CHAT}: the whole of it is the prompt
 *   ANY        line by line what SFT, TEXTS or PROMPTS accept: something to score
 * Optional in PAIRS: "score_chosen" and "score_rejected", numbers, both or none.
 * Optional in each: "id" (text or integer, kept), "solution" or "answer" (kept where it
 * is a text or a number). For other members see data/fields.h and data/columns.h. */
enum plumb_data_kind {
    PLUMB_DATA_PROMPTS,
    PLUMB_DATA_SFT,
    PLUMB_DATA_PAIRS,
    PLUMB_DATA_TEXTS,
    PLUMB_DATA_ANY
};

/* A text and its tokens; borrowed from the data set. text is NULL where the record gave ids, but
 * for PROMPTS that are read with a tokenizer: then it is the ids' text. */
struct plumb_piece {
    const char *text; /* NUL-terminated; may contain NUL */
    int64_t len;
    const int32_t *ids; /* NULL without a tokenizer */
    int64_t n;
};

enum { PLUMB_COMPLETION = 0, PLUMB_CHOSEN = 0, PLUMB_REJECTED = 1 };

struct plumb_record {
    int64_t line;         /* in the file, from 1 */
    const char *id;       /* "id" of the record as text, or NULL */
    const char *solution; /* "solution", or else "answer", if it is a text or a number; or NULL */
    int64_t solution_len;
    struct plumb_columns json; /* the record as the file has it; with options.whole */
    const char *asked;         /* text of the last message of its prompt; with options.whole; NULL
                                * where the record gave ids */
    /* PROMPTS: all of the prompt, which a model goes on from. Otherwise the ids before the
     * completions, or all ids where there is none; the text is always all of the prompt. */
    struct plumb_piece prompt;
    struct plumb_piece context;       /* the ids before the completions, in every kind; no text */
    struct plumb_piece principled;    /* the prompt under the principle; empty without one */
    struct plumb_piece contrary;      /* the prompt under its contrary; empty without one */
    struct plumb_piece completion[2]; /* SFT: [0]; PAIRS: chosen, rejected */
    double score[2];                  /* PAIRS: of chosen and rejected; NaN = not given */
};

/* Zero is a valid value of every field. */
struct plumb_data_options {
    enum plumb_data_kind kind;
    const plumb_tokenizer *tokenizer; /* borrowed during open; NULL: texts only */
    int64_t vocab; /* ids given in a record are below it; 0: the tokenizer's vocabulary */
    const char *prompt_template;    /* prompt to text, see text/template.h; NULL: its default */
    const char *principle;          /* NULL: none; for PROMPTS. White space at its end is cut */
    const char *contrary;           /* NULL: none; joined as the principle is */
    const char *principle_template; /* {principle} and {prompt}, which stands for the last message
                                     * of the prompt and is replaced by the whole; NULL: with a
                                     * line break between them */
    bool references;                /* for PROMPTS: a record's "completion", where there is one, is
                                     * read as for SFT */
    bool no_special;                /* prompts without what the tokenizer adds (BOS) */
    bool append_eos;                /* the end-token rule of data/encode.h; not for TEXTS, nor for
                                     * prompts that a model goes on from */
    int64_t max_prompt_tokens;      /* 0: no limit; counts the longer of prompt and principled */
    int64_t max_tokens;             /* of a prompt with one of its completions; 0: no limit */
    int64_t skip;                   /* records that are left out first, unread */
    int64_t limit;                  /* only the first records behind them; 0: all */
    bool whole;                     /* keep the JSON text of every record */
    bool skip_long;                 /* longer records are left out and counted, not an error */
    bool blank_lines;               /* blank lines are allowed anywhere, not only at the end */
};

/* Immutable after open. */
struct plumb_dataset {
    struct plumb_record *record;
    int64_t n;
    int64_t skipped; /* too long; of them the first: */
    int64_t skipped_line;
    int64_t cut; /* records whose prompt alone has other last tokens; of them the first: */
    int64_t cut_line;
    struct plumb_data_block *blocks; /* owns every text and id above */
};

/* Reads a whole file ("-" is standard input); UTF-8, with or without BOM, lines ended by \n or
 * \r\n. *out is owned by the caller.
 *
 * Tokens: data/encode.h has the rules. PROMPTS are encoded by plumb_encode_prompt, TEXTS by
 * plumb_encode_text, all others by plumb_encode: prompt and completion together, with the end-token
 * rule. A record of ids is read as it is.
 *
 * Errors, all naming file, line and field: PLUMB_ERR_IO; PLUMB_ERR_FORMAT for a line that is no
 * JSON object, a missing or mistyped field (what was found, what was expected), an empty prompt,
 * a file without records; PLUMB_ERR_ARG for a record that is too long;
 * PLUMB_ERR_CONFIG for a malformed template. */
plumb_status plumb_dataset_open(struct plumb_dataset **out, const char *path,
                                const struct plumb_data_options *options);
/* The same from len bytes in memory; name stands for the file in messages. */
plumb_status plumb_dataset_parse(struct plumb_dataset **out, const char *text, int64_t len,
                                 const char *name, const struct plumb_data_options *options);
/* n records of these token counts and without content, for a plan of memory. PLUMB_ERR_NOMEM. */
plumb_status plumb_dataset_blank(struct plumb_dataset **out, int64_t n, int64_t prompt_tokens,
                                 int64_t completion_tokens);
/* Tokens of the longest prompt, principles left out. */
int64_t plumb_dataset_longest(const struct plumb_dataset *d);
void plumb_dataset_close(struct plumb_dataset **d); /* NULL is allowed */

#endif

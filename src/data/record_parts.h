/* record_parts.h - a record of a data set: its texts, its tokens, and which of them are trained on.
 * Layer 4. Includes data/columns.h. */
#ifndef PLUMB_DATA_RECORD_PARTS_H
#define PLUMB_DATA_RECORD_PARTS_H

#include <stdint.h>

#include "data/columns.h"

/* A text and its tokens, borrowed from the data set. If the record gave token ids instead of a
 * text, `text` is NULL, with one exception: if the data set was read with a tokenizer, and its kind
 * is PROMPTS or options.whole is set, `text` is the decoded ids. */
struct plumb_piece {
    const char *text; /* ends with a NUL, but may contain other NUL bytes */
    int64_t len;
    const int32_t *ids; /* token ids (n,); NULL if the data set was read without a tokenizer */
    int64_t n;
};

enum { PLUMB_COMPLETION = 0, PLUMB_CHOSEN = 0, PLUMB_REJECTED = 1 };

struct plumb_record {
    int64_t line;   /* line number in the data file, from 1 */
    const char *id; /* the record's "id" as JSON text; NULL if it has none */
    /* "solution" of the record, or else its "answer", if that is a text or a number; otherwise
     * NULL. */
    const char *solution;
    int64_t solution_len;
    /* The record as written in the file; set only with options.whole. */
    struct plumb_columns json;
    /* Text of the last message of the prompt; set only with options.whole. NULL if the record gave
     * token ids or "text" instead of messages, or if this text is empty. */
    const char *asked;
    /* For PROMPTS, the tokens of the whole prompt, which a model continues. Otherwise the tokens
     * before the completions, or all tokens if there is no completion. prompt.text is the text of
     * the whole prompt, or of the whole record for an SFT record whose loss covers several messages
     * or all tokens. */
    struct plumb_piece prompt;
    /* The tokens before the completions, if prompt and completion are encoded together;
     * context.text is NULL. The list may be empty if the record has no completion. */
    struct plumb_piece context;
    struct plumb_piece principled; /* prompt with the principle; empty if there is none */
    struct plumb_piece contrary;   /* prompt with the contrary principle; empty if there is none */
    struct plumb_piece completion[2]; /* SFT uses [0]; PAIRS has the chosen one in [0] and the
                                         rejected one in [1] */
    double score[2];                  /* PAIRS: scores of chosen and rejected; NaN if not given */
    /* SFT: (completion[0].n,) 1 for each completion token that the loss covers, else 0; NULL if the
     * loss covers all. If the loss covers several messages, the completion begins at the first
     * token of the first of these messages. */
    const unsigned char *trained;
    int64_t n_trained; /* number of ones in `trained` */
};

/* Returns the number of completion tokens of an SFT record that the loss covers. */
static inline int64_t plumb_record_trained(const struct plumb_record *r)
{
    return r->trained ? r->n_trained : r->completion[0].n;
}

#endif

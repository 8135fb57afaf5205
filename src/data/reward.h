/* reward.h - what a reward source is asked, and how missing scores are counted.
 * Layer 4. Includes data/columns.h. A missing score is NaN, never 0. */
#ifndef PLUMB_DATA_REWARD_H
#define PLUMB_DATA_REWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "data/columns.h"

/* One completion to score. Texts are borrowed; the prompt is the plain one, whatever the
 * completion was sampled from. */
struct plumb_reward_item {
    const char *prompt, *completion;
    int64_t prompt_len, completion_len;
    bool alone;           /* the record is one text, the prompt's; the completion is empty */
    const char *solution; /* of the record, a text or a number as text; or NULL */
    int64_t solution_len;
    struct plumb_columns record; /* all of it; text NULL: there is none */
    bool given;                  /* the completion is the record's own member of that name */
    int64_t tokens;              /* of the completion, end token included */
    int64_t prompt_id;
    int32_t sample;
};

#define PLUMB_MISSING_LIST(X)                                                                      \
    X(PLUMB_MISSING_FORMAT, "not a JSON line with a score")                                        \
    X(PLUMB_MISSING_NULL, "the score is null")                                                     \
    X(PLUMB_MISSING_NUMBER, "the score is not a finite number")                                    \
    X(PLUMB_MISSING_TIMEOUT, "no answer in time")                                                  \
    X(PLUMB_MISSING_DIED, "the command died on it")                                                \
    X(PLUMB_MISSING_SOLUTION, "the record has no solution that is a text or a number")             \
    X(PLUMB_MISSING_FIELD, "the record has no such field, or nothing usable in it")                \
    X(PLUMB_MISSING_SEARCH, "the search for the pattern was given up")                             \
    X(PLUMB_MISSING_LONG, "longer than the reward model reads (reward.context)")

enum plumb_missing {
#define X(name, text) name,
    PLUMB_MISSING_LIST(X)
#undef X
        PLUMB_MISSING_COUNT
};

/* Scores that are missing, by reason. Zero-initialise; callers add up over calls. */
struct plumb_reward_missing {
    int64_t count[PLUMB_MISSING_COUNT];
    char example[160]; /* what was found the first time, "" when none */
};
const char *plumb_missing_text(enum plumb_missing m);

#endif

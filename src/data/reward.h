/* reward.h - the input of a reward source, and the counts of missing scores.
 * Layer 4. Includes data/columns.h. A missing score is NaN, never 0. */
#ifndef PLUMB_DATA_REWARD_H
#define PLUMB_DATA_REWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "data/columns.h"

/* One completion to score. Texts are borrowed. prompt is the plain prompt, even if the completion
 * was sampled with a principle in the prompt. */
struct plumb_reward_item {
    const char *prompt, *completion;
    int64_t prompt_len, completion_len;
    /* True for a record that is one text without a completion: prompt has the text, and completion
     * is empty. */
    bool alone;
    /* Solution of the record, a text or a number as text; NULL if there is none. */
    const char *solution;
    int64_t solution_len;
    /* The whole record; its text is NULL if there is none. */
    struct plumb_columns record;
    /* True if the completion is the record's own member "completion", i.e. no model sampled it. */
    bool given;
    int64_t tokens; /* number of tokens of the completion, including the end token */
    int64_t prompt_id;
    int32_t sample;
};

#define PLUMB_MISSING_LIST(X)                                                                      \
    X(PLUMB_MISSING_FORMAT, "not a JSON line with a score")                                        \
    X(PLUMB_MISSING_NULL, "the score is null")                                                     \
    X(PLUMB_MISSING_NUMBER, "the score is not a finite number")                                    \
    X(PLUMB_MISSING_TIMEOUT, "no answer in time")                                                  \
    X(PLUMB_MISSING_DIED, "the command ended unexpectedly on it")                                  \
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

/* Number of missing scores for each reason. Initialise with zeros. The functions that compute
 * scores add to these numbers. */
struct plumb_reward_missing {
    int64_t count[PLUMB_MISSING_COUNT];
    char example[160]; /* example of the first missing score; "" if there is none */
};
const char *plumb_missing_text(enum plumb_missing m);

#endif

/* reward_builtin.h - built-in rewards: a weighted sum of functions of the completion's text.
 * Layer 4. Includes base/, io/, text/, config/, data/reward.h.
 *
 * A word is a longest sequence of letters, marks and numbers of any script (Unicode categories L,
 * M, N) and apostrophes (' and U+2019, which are equal). Upper and lower case are equal.
 *   length      n = tokens of the completion. 0 for min <= n <= max (target sets both), else
 *               -min(1, |n - b| / max(b, 1)), where b is the violated bound.              [-1, 0]
 *   regex       m = matches of pattern. 1 for min <= m <= max, else 0; min is 1 if neither is
 *               given. With target: min(1, m / target).                                 [0, 1]
 *   words       w = words that are in `words` or in the lines of `file`. w / all words, 0 without
 *               words; with target: min(1, w / target).                                 [0, 1]
 *   repetition  -(1 - distinct / all) over all sequences of k words; k = target, 2 if not given;
 *               0 for fewer than k words.                                              (-1, 0]
 *   exact       1 if the answer equals the record's solution, else 0. The answer is the last match
 *               of pattern (its first group, if it has one), or the whole completion without a
 *               pattern. White space at the ends is ignored. Two numbers are compared as decimal
 *               numbers (data/decimal.h), other texts byte by byte. Missing without a
 *               solution.                                                               {0, 1}
 * `field` names a member of the record ("a.b" is b of a). The value of this member replaces the
 * solution of exact, the pattern of regex, the words of words, or the target of length. For exact,
 * a list of texts and numbers means that any of them is correct; for words it is the list of words.
 * The score is missing if the record has no such member or an unusable one.
 *
 * The score is sum_i weight_i f_i; it is missing if one of the f_i is missing. */
#ifndef PLUMB_DATA_REWARD_BUILTIN_H
#define PLUMB_DATA_REWARD_BUILTIN_H

#include "base/status.h"
#include "config/config.h"
#include "data/reward.h"

typedef struct plumb_reward_builtin plumb_reward_builtin; /* only one thread at a time may use it */

/* Creates the functions from their configuration, which is copied. Returns PLUMB_ERR_CONFIG with
 * the function and the field that is missing, unused or out of range; PLUMB_ERR_IO for the word
 * file. */
plumb_status plumb_reward_builtin_create(plumb_reward_builtin **out,
                                         const struct plumb_reward_functions *functions);
/* Checks the functions like plumb_reward_builtin_create, without opening the word files. */
plumb_status plumb_reward_builtin_check(const struct plumb_reward_functions *functions);
/* Returns the name of a field that one of the functions reads and that the record lacks, so that
 * every score of the record would be missing; NULL if there is none. record: the whole record;
 * solved: true if it has a solution. */
const char *plumb_reward_builtin_lacks(const plumb_reward_builtin *b, struct plumb_columns record,
                                       bool solved);
void plumb_reward_builtin_destroy(plumb_reward_builtin **b); /* does nothing if *b is NULL */

/* Computes score (n,). A missing score is NaN and is counted in *missing. PLUMB_ERR_NOMEM if memory
 * runs out. */
plumb_status plumb_reward_builtin_score(plumb_reward_builtin *b, double *score,
                                        const struct plumb_reward_item *item, int64_t n,
                                        struct plumb_reward_missing *missing);

#endif

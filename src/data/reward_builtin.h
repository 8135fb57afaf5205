/* reward_builtin.h - rewards by rule: a weighted list of functions of the completion's text.
 * Layer 4. Includes base/, io/, text/, config/, data/reward.h.
 *
 * A word is a longest run of letters, marks and numbers of any script (Unicode categories L, M, N)
 * and apostrophes (' and U+2019, which are the same); capitals count as small letters.
 *   length      n = tokens of the completion. 0 for min <= n <= max (target sets both), else
 *               -min(1, |n - bound| / bound) with the bound that is missed.            [-1, 0]
 *   regex       m = matches of pattern. 1 for min <= m <= max, else 0; min is 1 if neither is
 *               given. With target: min(1, m / target).                                 [0, 1]
 *   words       w = words that are in `words` or `file` (one per line). w / all words, 0 without
 *               words; with target: min(1, w / target).                                 [0, 1]
 *   repetition  -(1 - distinct / all) over the runs of k words; k = target, 2 if not given; 0 when
 *               there are fewer than k words.                                          (-1, 0]
 *   exact       1 when the answer is the record's solution, else 0. The answer is the last match
 *               of pattern (its first group, if it has one), or the whole completion without one;
 *               compared without white space at the ends: as decimal numbers if both are
 *               numbers, else byte by byte. Missing without a solution.                   {0, 1}
 *               For numbers see data/decimal.h.
 * `field` names a member of the record ("a.b" is b of a): what exact compares with instead of the
 * solution, the pattern of regex, the words of words, the target of length. For exact a list of
 * texts and numbers means any of them, for words all. Missing where the record has no such member,
 * or nothing usable in it.
 *
 * The score is sum_i weight_i f_i, missing when one of them is. */
#ifndef PLUMB_DATA_REWARD_BUILTIN_H
#define PLUMB_DATA_REWARD_BUILTIN_H

#include "base/status.h"
#include "config/config.h"
#include "data/reward.h"

typedef struct plumb_reward_builtin plumb_reward_builtin; /* one thread at a time */

/* functions is copied. PLUMB_ERR_CONFIG naming the function and field that is missing, not used by
 * this function, or out of range; PLUMB_ERR_IO for the word file. */
plumb_status plumb_reward_builtin_create(plumb_reward_builtin **out,
                                         const struct plumb_reward_functions *functions);
void plumb_reward_builtin_destroy(plumb_reward_builtin **b); /* NULL is allowed */

/* score (n,) NaN = missing, counted in *missing (added to). PLUMB_ERR_NOMEM. */
plumb_status plumb_reward_builtin_score(plumb_reward_builtin *b, double *score,
                                        const struct plumb_reward_item *item, int64_t n,
                                        struct plumb_reward_missing *missing);

#endif

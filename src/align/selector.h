/* selector.h - selects the completions of a prompt that are compared or trained on.
 * Layer 1. Includes base/ only. A selector is a pure function of one prompt's entries. */
#ifndef PLUMB_ALIGN_SELECTOR_H
#define PLUMB_ALIGN_SELECTOR_H

#include "align/param.h"
#include "align/scoreboard.h"

/* Writes b->choice[prompt] and b->weight of the prompt's entries; these weights are 0 on entry.
 * Sets the branch to SKIP if the prompt lacks the completions or rewards that the method needs,
 * else to the branch of the selector. A threshold rule may then change a branch that is not SKIP.
 */
typedef void plumb_select_fn(struct plumb_scoreboard *b, int64_t prompt,
                             const struct plumb_align_param *p);

struct plumb_selector {
    const char *name;
    plumb_select_fn *select;
    int64_t least_group; /* smallest group_size that the selector can work with */
};

/* Returns the entry of this prompt and kind with the highest normalized reward; of equal rewards
 * the lowest entry. PLUMB_ENTRY_ABSENT stands for any kind. Returns -1 if no such entry is scored.
 */
int64_t plumb_best_entry(const struct plumb_scoreboard *b, int64_t prompt, enum plumb_entry kind);
/* Sets the prompt's choice: win = best principled entry, lose = best plain entry, margin =
 * norm[win] - norm[lose] (NaN if one is missing), branch WEIGHTED. */
void plumb_choice_compare(struct plumb_scoreboard *b, int64_t prompt);

/* Selects the pair of plumb_choice_compare: the best principled completion over the best plain one,
 * branch WEIGHTED. If one of the two is missing, the margin is NaN and the branch is SKIP. */
extern const struct plumb_selector plumb_sel_principled;
/* Selects the best scored entry with weight 1; branch WEIGHTED, or SKIP if no entry is scored.
 * Source: RAFT, arXiv:2304.06767 */
extern const struct plumb_selector plumb_sel_best_of;
/* Selects win = entry with the highest normalized reward and lose = entry with the lowest; branch
 * RANK, or SKIP if these rewards are equal or no entry is scored. */
extern const struct plumb_selector plumb_sel_extremes;
/* Selects all scored entries; branch GROUP, or SKIP if none is scored or the standard deviation of
 * their normalized rewards is below 1e-6. win and lose are set as by plumb_sel_extremes, for the
 * metrics. */
extern const struct plumb_selector plumb_sel_group;
/* Selects all principled entries with equal weights, with or without a reward; branch WEIGHTED, or
 * SKIP if there is none. */
extern const struct plumb_selector plumb_sel_distill;

#endif

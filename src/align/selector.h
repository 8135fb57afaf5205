/* selector.h - selects the completions of a prompt that are compared or trained on.
 * Layer 1. Includes base/ only. A selector is a pure function of one prompt's entries. */
#ifndef PLUMB_ALIGN_SELECTOR_H
#define PLUMB_ALIGN_SELECTOR_H

#include "align/param.h"
#include "align/scoreboard.h"

/* Sets b->choice[prompt], and b->weight of the prompt's entries, which the caller has set to 0.
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

/* Returns the prompt's entry of this kind with the highest normalized reward; among equal rewards
 * the lowest index. kind PLUMB_ENTRY_ABSENT stands for any kind. Returns -1 if no such entry has a
 * reward. */
int64_t plumb_best_entry(const struct plumb_scoreboard *b, int64_t prompt, enum plumb_entry kind);
/* Sets the prompt's choice: win = best principled entry, lose = best plain entry, margin =
 * norm[win] - norm[lose] (NaN if one is missing), branch WEIGHTED. */
void plumb_choice_compare(struct plumb_scoreboard *b, int64_t prompt);

/* Sets the choice as plumb_choice_compare does. If there is no scored principled or no scored plain
 * completion, the margin is NaN and the branch is SKIP. */
extern const struct plumb_selector plumb_sel_principled;
/* Selects the entry with the highest normalized reward, with weight 1; branch WEIGHTED, or SKIP if
 * no entry has a reward. Source: RAFT, arXiv:2304.06767 */
extern const struct plumb_selector plumb_sel_best_of;
/* Sets win to the entry with the highest normalized reward and lose to the entry with the lowest;
 * branch RANK, or SKIP if these rewards are equal or no entry has a reward. */
extern const struct plumb_selector plumb_sel_extremes;
/* Selects all entries with a reward; branch GROUP, or SKIP if there is none or the standard
 * deviation of their normalized rewards is below 1e-6. Sets win and lose as plumb_sel_extremes
 * does; the metrics compare them. */
extern const struct plumb_selector plumb_sel_group;
/* Selects all principled entries, with or without a reward, with equal weights; branch WEIGHTED, or
 * SKIP if there is none. */
extern const struct plumb_selector plumb_sel_distill;

#endif

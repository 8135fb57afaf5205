/* selector.h - which completions of a prompt are compared or kept.
 * Layer 1. Includes base/ only. A selector is a pure function of one prompt's entries. */
#ifndef PLUMB_ALIGN_SELECTOR_H
#define PLUMB_ALIGN_SELECTOR_H

#include "align/param.h"
#include "align/scoreboard.h"

/* Writes b->choice[prompt] and b->weight of its entries, all zero on entry. Branch SKIP: the
 * prompt has not what the method needs; WEIGHTED otherwise, which the threshold may change. */
typedef void plumb_select_fn(struct plumb_scoreboard *b, int64_t prompt,
                             const struct plumb_align_param *p);

struct plumb_selector {
    const char *name;
    plumb_select_fn *select;
    int64_t least_group; /* completions that a prompt must have */
};

/* The entry of this prompt and kind with the highest normalised reward (ties: the lowest
 * entry), PLUMB_ENTRY_ABSENT = of any kind; -1 when none is scored. */
int64_t plumb_best_entry(const struct plumb_scoreboard *b, int64_t prompt, enum plumb_entry kind);
/* win = best principled, lose = best plain, margin = their difference, branch WEIGHTED. */
void plumb_choice_compare(struct plumb_scoreboard *b, int64_t prompt);

/* win = best principled, lose = best plain by normalised reward (ties: lowest entry);
 * margin = norm[win] - norm[lose]. */
extern const struct plumb_selector plumb_sel_principled;
/* win = best scored entry, weight 1; the rest 0.        Source: RAFT, arXiv:2304.06767 */
extern const struct plumb_selector plumb_sel_best_of;
/* win = highest normalised reward, lose = lowest; SKIP when they do not differ. */
extern const struct plumb_selector plumb_sel_extremes;
/* The same for the report, and every scored entry takes part (branch GROUP). */
extern const struct plumb_selector plumb_sel_group;
/* All principled entries, equal weights, scored or not. */
extern const struct plumb_selector plumb_sel_distill;

#endif

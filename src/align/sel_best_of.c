/* sel_best_of.c - selects the completion of a prompt with the highest reward.
 * Layer 1. Includes align/ and base/ only.
 * Source: RAFT, arXiv:2304.06767, algorithm 1. */
#include <math.h>

#include "align/selector.h"

static void select_best_of(struct plumb_scoreboard *b, int64_t prompt,
                           const struct plumb_align_param *p)
{
    (void)p;
    const int64_t best = plumb_best_entry(b, prompt, PLUMB_ENTRY_ABSENT);
    b->choice[prompt] =
        (struct plumb_choice){.branch = best < 0 ? PLUMB_BRANCH_SKIP : PLUMB_BRANCH_WEIGHTED,
                              .win = best,
                              .lose = -1,
                              .weight = 1.0,
                              .denominator = 1.0,
                              .margin = NAN};
    if (best >= 0)
        b->weight[best] = 1.0;
}

const struct plumb_selector plumb_sel_best_of = {"best_of", select_best_of, 1};

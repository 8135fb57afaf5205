/* sel_principled.c - compares the best principled completion of a prompt with its best plain one.
 * Layer 1. Includes align/ and base/ only.
 * Source: PSLE, arXiv:2408.02599, has one completion of each kind; taking the best of several is
 * ours. */
#include <math.h>

#include "align/selector.h"

static void select_principled(struct plumb_scoreboard *b, int64_t prompt,
                              const struct plumb_align_param *p)
{
    (void)p;
    plumb_choice_compare(b, prompt);
    if (isnan(b->choice[prompt].margin))
        b->choice[prompt].branch = PLUMB_BRANCH_SKIP;
}

const struct plumb_selector plumb_sel_principled = {"principled", select_principled, 2};

/* sel_principled.c - best principle-guided completion against best plain one.
 * Layer 1. Includes align/ and base/ only.
 * Source: PSLE, arXiv:2408.02599, for one of each; the group form is ours. */
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

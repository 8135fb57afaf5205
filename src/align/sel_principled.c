/* sel_principled.c - selects the best principled completion of a prompt (sampled with the
 * principles) and its best plain one (sampled without).
 * Layer 1. Includes align/ and base/ only.
 * Source: PSLE, arXiv:2408.02599, which samples one completion of each kind. Taking the best of
 * several is ours. */
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

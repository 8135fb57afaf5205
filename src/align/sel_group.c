/* sel_group.c - all scored completions of a prompt together.
 * Layer 1. Includes align/ and base/ only.
 * Source: VCB, arXiv:2402.16030, skips a prompt whose rewards do not differ; so do we everywhere.
 */
#include <math.h>

#include "align/selector.h"

/* Rewards that differ by less, in units of the normalised reward, teach nothing. */
static const double least_spread = 1e-6;

static void select_group(struct plumb_scoreboard *b, int64_t prompt,
                         const struct plumb_align_param *p)
{
    plumb_sel_extremes.select(b, prompt, p);
    struct plumb_choice *c = &b->choice[prompt];
    if (c->branch != PLUMB_BRANCH_SKIP)
        c->branch = c->margin < least_spread ? PLUMB_BRANCH_SKIP : PLUMB_BRANCH_GROUP;
}

const struct plumb_selector plumb_sel_group = {"group", select_group, 2};

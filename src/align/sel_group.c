/* sel_group.c - selects all scored completions of a prompt as one group.
 * Layer 1. Includes align/ and base/ only.
 * A prompt whose rewards are all equal is skipped, for every method with this selector. Source:
 * VCB, arXiv:2402.16030. */
#include <math.h>

#include "align/selector.h"

/* A prompt is skipped if the standard deviation of its normalized rewards is smaller than this. */
static const double least_std = 1e-6;

/* Returns the population standard deviation of the normalized rewards of the prompt's scored
 * completions. At least one must be scored. */
static double spread(const struct plumb_scoreboard *b, int64_t prompt)
{
    const int64_t first = prompt * b->group_size;
    double n = 0, mean = 0, square = 0;
    for (int64_t i = first; i < first + b->group_size; i++)
        if (!isnan(b->norm[i]))
            n++, mean += b->norm[i];
    mean /= n;
    for (int64_t i = first; i < first + b->group_size; i++)
        if (!isnan(b->norm[i]))
            square += (b->norm[i] - mean) * (b->norm[i] - mean);
    return sqrt(square / n);
}

static void select_group(struct plumb_scoreboard *b, int64_t prompt,
                         const struct plumb_align_param *p)
{
    plumb_sel_extremes.select(b, prompt, p);
    struct plumb_choice *c = &b->choice[prompt];
    if (c->branch != PLUMB_BRANCH_SKIP)
        c->branch = spread(b, prompt) < least_std ? PLUMB_BRANCH_SKIP : PLUMB_BRANCH_GROUP;
}

const struct plumb_selector plumb_sel_group = {"group", select_group, 2};

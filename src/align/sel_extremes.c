/* sel_extremes.c - selects the completions of a prompt with the highest and the lowest reward.
 * Layer 1. Includes align/ and base/ only.
 * Source: ours; it is the usual way to make preference pairs from scored completions. */
#include <math.h>

#include "align/selector.h"

static void select_extremes(struct plumb_scoreboard *b, int64_t prompt,
                            const struct plumb_align_param *p)
{
    (void)p;
    const int64_t first = prompt * b->group_size;
    const int64_t win = plumb_best_entry(b, prompt, PLUMB_ENTRY_ABSENT);
    int64_t lose = -1;
    for (int64_t i = first; i < first + b->group_size; i++)
        if (!isnan(b->norm[i]) && (lose < 0 || b->norm[i] < b->norm[lose]))
            lose = i;
    const bool differ = win >= 0 && b->norm[win] > b->norm[lose];
    b->choice[prompt] = (struct plumb_choice){
        .branch = differ ? PLUMB_BRANCH_RANK : PLUMB_BRANCH_SKIP,
        .win = win,
        .lose = lose,
        .weight = 1.0,
        .denominator = 1.0,
        .margin = differ ? b->norm[win] - b->norm[lose] : NAN,
    };
}

const struct plumb_selector plumb_sel_extremes = {"extremes", select_extremes, 2};

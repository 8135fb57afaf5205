/* selector.c - functions that several selectors share.
 * Layer 1. Includes align/ and base/ only. */
#include "align/selector.h"

#include <math.h>

int64_t plumb_best_entry(const struct plumb_scoreboard *b, int64_t prompt, enum plumb_entry kind)
{
    int64_t best = -1;
    const int64_t first = prompt * b->group_size;
    for (int64_t i = first; i < first + b->group_size; i++)
        if ((kind == PLUMB_ENTRY_ABSENT || b->kind[i] == kind) && !isnan(b->norm[i]) &&
            (best < 0 || b->norm[i] > b->norm[best]))
            best = i;
    return best;
}

void plumb_choice_compare(struct plumb_scoreboard *b, int64_t prompt)
{
    const int64_t win = plumb_best_entry(b, prompt, PLUMB_ENTRY_PRINCIPLED);
    const int64_t lose = plumb_best_entry(b, prompt, PLUMB_ENTRY_PLAIN);
    const double margin = win >= 0 && lose >= 0 ? b->norm[win] - b->norm[lose] : NAN;
    b->choice[prompt] = (struct plumb_choice){.branch = PLUMB_BRANCH_WEIGHTED,
                                              .win = win,
                                              .lose = lose,
                                              .weight = 1.0,
                                              .denominator = 1.0,
                                              .margin = margin};
}

/* sel_distill.c - selects all principled completions of a prompt, which were sampled with the
 * principles. Rewards are not used.
 * Layer 1. Includes align/ and base/ only.
 * Source: context distillation, arXiv:2112.00861, section 2.2, where the loss has no reward either.
 */
#include "align/selector.h"

static void select_distill(struct plumb_scoreboard *b, int64_t prompt,
                           const struct plumb_align_param *p)
{
    (void)p;
    const int64_t first = prompt * b->group_size, end = first + b->group_size;
    int64_t count = 0;
    plumb_choice_compare(b, prompt); /* sets the margin for the metrics, if there are rewards */
    for (int64_t i = first; i < end; i++)
        count += b->kind[i] == PLUMB_ENTRY_PRINCIPLED;
    for (int64_t i = first; i < end; i++)
        if (b->kind[i] == PLUMB_ENTRY_PRINCIPLED)
            b->weight[i] = 1.0 / (double)count;
    if (count == 0)
        b->choice[prompt].branch = PLUMB_BRANCH_SKIP;
}

const struct plumb_selector plumb_sel_distill = {"distill", select_distill, 2};

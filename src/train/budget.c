/* budget.c - how many prompts an iteration answers if the run has a budget of generated tokens.
 * Layer 5. Includes train/budget.h, base/. */
#include "train/budget.h"

#include <math.h>

#include "base/num.h"

int64_t plumb_budget_first(int64_t tokens, int64_t whole, int64_t tokens_per_prompt)
{
    return plumb_min_i64(whole, plumb_max_i64(tokens / tokens_per_prompt, 1));
}

int64_t plumb_budget_next(const struct plumb_budget *b)
{
    const double rest = (double)plumb_max_i64(b->tokens - b->generated, 0);
    const double n = floor(rest * (double)b->last_prompts / (double)b->last_tokens + 0.5);
    if (2 * n < (double)plumb_min_i64(b->batch, b->whole))
        return 0;
    return n < (double)b->whole ? (int64_t)n : b->whole;
}

double plumb_budget_progress(int64_t tokens, int64_t generated, int64_t iteration)
{
    if (iteration == 0)
        return 0;
    const double g = (double)generated, until = (double)tokens - g / (double)iteration;
    return g < until ? g / until : 1;
}

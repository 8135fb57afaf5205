/* budget.h - how many prompts an iteration answers where generated tokens are counted.
 * Layer 5. Includes base/.
 *
 * Everything follows from counts over all ranks: the same on every rank, and again on resume. */
#ifndef PLUMB_TRAIN_BUDGET_H
#define PLUMB_TRAIN_BUDGET_H

#include <stdint.h>

/* How a run stands after some iteration. */
struct plumb_budget {
    int64_t tokens;       /* that the run may generate */
    int64_t generated;    /* so far */
    int64_t last_tokens;  /* of them in the last iteration, > 0 */
    int64_t last_prompts; /* that it answered, > 0 */
    int64_t whole;        /* prompts that the next iteration answers at most */
    int64_t batch;        /* prompts of an optimizer step */
};

/* Prompts of the first iteration, of at most `whole` with at most so many tokens of answers each:
 * as many as the budget holds even if all their answers are as long as they can be; at least 1. */
int64_t plumb_budget_first(int64_t tokens, int64_t whole, int64_t tokens_per_prompt);

/* Prompts of the next iteration: whole, or what the rest of the budget holds if answers stay as
 * long as in the last one, round((tokens - generated) last_prompts / last_tokens), and 0, the run
 * ends, where that is less than half of min(batch, whole): a step on a few prompts would cost more
 * in noise than their tokens are worth. So a run ends up to half a batch short. */
int64_t plumb_budget_next(const struct plumb_budget *b);

/* How far an iteration is between the first (0) and the last (1) of the run, for schedules, when
 * `iteration` of them are done that generated so many tokens; g = generated:
 *     g / (tokens - g / iteration)
 * which is i / (n - 1) where n iterations cost the same. */
double plumb_budget_progress(int64_t tokens, int64_t generated, int64_t iteration);

#endif

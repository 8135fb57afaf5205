/* budget.h - how many prompts an iteration answers if the run has a budget of generated tokens.
 * Layer 5. Includes base/.
 *
 * All functions depend only on counts over all ranks, so the results are the same on every rank and
 * after a resume. */
#ifndef PLUMB_TRAIN_BUDGET_H
#define PLUMB_TRAIN_BUDGET_H

#include <stdint.h>

/* The state of a run after an iteration. */
struct plumb_budget {
    int64_t tokens;       /* the budget: tokens that all ranks may generate in the run */
    int64_t generated;    /* tokens that all ranks generated so far */
    int64_t last_tokens;  /* tokens generated in the last iteration, > 0 */
    int64_t last_prompts; /* prompts answered in the last iteration, > 0 */
    int64_t whole;        /* largest number of prompts that the next iteration may answer */
    int64_t batch;        /* prompts of an optimizer step */
};

/* Returns the number of prompts of the first iteration: at most `whole`, at least 1, and so few
 * that the budget `tokens` suffices if every prompt takes tokens_per_prompt, the maximal length of
 * its answers. */
int64_t plumb_budget_first(int64_t tokens, int64_t whole, int64_t tokens_per_prompt);

/* Returns the number of prompts of the next iteration: `whole`, or fewer if the rest of the budget
 * is smaller. If answers stay as long as in the last iteration, the rest suffices for round((tokens
 * - generated) last_prompts / last_tokens) prompts. If that is less than half of min(batch, whole),
 * the result is 0 and the run ends, because a step on so few prompts is too noisy. A run may
 * therefore end up to half a batch below its budget. */
int64_t plumb_budget_next(const struct plumb_budget *b);

/* Returns the progress of a run for schedules: 0 in the first iteration, 1 in the last one. After
 * `iteration` iterations that generated g tokens together it is g / (tokens - g / iteration) which
 * equals i / (n - 1) if all n iterations generate equally many tokens. */
double plumb_budget_progress(int64_t tokens, int64_t generated, int64_t iteration);

#endif

/* budget.h - how many prompts an iteration answers if the run has a budget of generated tokens.
 * Layer 5. Includes base/.
 *
 * All functions depend only on counts over all ranks, so the results are the same on every rank and
 * after a resume. */
#ifndef PLUMB_TRAIN_BUDGET_H
#define PLUMB_TRAIN_BUDGET_H

#include <stdint.h>

/* The values from which plumb_budget_next computes how many prompts the next iteration answers. */
struct plumb_budget {
    int64_t tokens;       /* the budget: tokens that all ranks may generate in the run */
    int64_t generated;    /* tokens that all ranks generated so far */
    int64_t last_tokens;  /* tokens generated in the last iteration, > 0 */
    int64_t last_prompts; /* prompts answered in the last iteration, > 0 */
    int64_t whole;        /* largest number of prompts that the next iteration may answer */
    int64_t batch;        /* prompts per optimizer step */
};

/* Returns the number of prompts of the first iteration: min(whole, tokens / tokens_per_prompt), but
 * at least 1, even if the budget `tokens` does not suffice for one prompt. whole: largest number of
 * prompts, > 0. tokens_per_prompt: largest number of tokens that all answers to one prompt can have
 * together. */
int64_t plumb_budget_first(int64_t tokens, int64_t whole, int64_t tokens_per_prompt);

/* Returns the number of prompts of the next iteration: the smaller one of `whole` and n =
 * round((tokens - generated) last_prompts / last_tokens). n is the number of prompts for which the
 * rest of the budget suffices if the answers are as long as in the last iteration. If n is less
 * than half of min(batch, whole), the result is 0 and the run ends, because a step on so few
 * prompts is too noisy. A run may therefore use up to half a batch less than its budget. */
int64_t plumb_budget_next(const struct plumb_budget *b);

/* Returns the progress of a run for schedules, from 0 to 1: 0 in the first iteration, and about 1
 * in the last one. After `iteration` iterations that generated g tokens together, the progress is
 * min(1, g / (tokens - g / iteration)). If n iterations with equal numbers of tokens use up the
 * budget, this is iteration / (n - 1). */
double plumb_budget_progress(int64_t tokens, int64_t generated, int64_t iteration);

#endif

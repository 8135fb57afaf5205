/* scoreboard.h - one iteration's rewards of all ranks, and the choices made from them.
 * Layer 1. Includes base/ only.
 *
 * Every rank writes the rewards of its own completions into `slot`, and an allreduce sums `slot`
 * over the ranks. Only one rank writes each slot and the others hold 0 there, so the sum is exact.
 * Then each rank computes the choices of all prompts from the same numbers in the same order, so
 * all ranks get the same choices. A principled completion was sampled from the prompt with the
 * principles (method.principles), a plain one from the prompt alone. */
#ifndef PLUMB_ALIGN_SCOREBOARD_H
#define PLUMB_ALIGN_SCOREBOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* State of an entry. An entry is the place of one completion on the scoreboard. */
enum plumb_entry {
    PLUMB_ENTRY_ABSENT = 0, /* no rank has put this completion on the scoreboard, for example
                             * because a method dropped it */
    PLUMB_ENTRY_PLAIN = 1,
    PLUMB_ENTRY_PRINCIPLED = 2,
};
/* The kind of loss term that a prompt gets. */
enum plumb_branch {
    PLUMB_BRANCH_SKIP,     /* no term in the loss */
    PLUMB_BRANCH_RANK,     /* a pair: the principled completion is preferred to the plain one, or
                            * the best to the worst */
    PLUMB_BRANCH_SWAP,     /* a pair: the plain completion is preferred to the principled one */
    PLUMB_BRANCH_WEIGHTED, /* sum of -logp of the prompt's completions, weighted by
                            * plumb_scoreboard.weight */
    PLUMB_BRANCH_GROUP,    /* one term over all scored completions of the prompt */
    PLUMB_BRANCH_COUNT
};
extern const char *const plumb_branch_names[PLUMB_BRANCH_COUNT];

/* The choices for one prompt. */
struct plumb_choice {
    enum plumb_branch branch;
    /* Entries of the two compared completions; -1 if there is none. The selector sets them to the
     * best principled and the best plain completion, or to the best and the worst, or sets only
     * `win`, to the best. The branch SWAP exchanges them. */
    int64_t win, lose;
    double weight;      /* factor of the prompt's loss term L; 1 by default */
    double denominator; /* the prompt's part of the loss denominator; 1 by default. The loss of a
                         * batch is sum(weight L) / sum(denominator), over its prompts */
    double margin;      /* norm[win] - norm[lose] before SWAP exchanges the two; NaN if there is no
                         * pair */
    double smooth;      /* label smoothing of the pair, added to label_smoothing; 0 by default */
};

struct plumb_scoreboard {
    int64_t prompts, group_size; /* number of prompts of this iteration on all ranks; number of
                                  * completions of each prompt */
    int64_t n; /* = prompts * group_size; entry i = prompt * group_size + sample */
    int64_t max_prompts;
    double *slot;   /* (slots,) for each entry a code of its state, and its reward; the caller sums
                     * the array over the ranks */
    int64_t slots;  /* = 2 n */
    uint8_t *kind;  /* (n,) enum plumb_entry */
    double *reward; /* (n,) reward as scored, NaN if missing */
    double *norm;   /* (n,) reward after reward_norm, NaN if missing */
    double *weight; /* (n,) weight of the entry's -logp term in the branch WEIGHTED; 0 in the other
                     * branches */
    double *work;   /* (n,) scratch; holds the sorted margins after plumb_stats_margin */
    struct plumb_choice *choice; /* (prompts,) */
};

/* Allocates a scoreboard for up to max_prompts prompts of group_size completions. The caller must
 * destroy *out. */
plumb_status plumb_scoreboard_create(struct plumb_scoreboard **out, int64_t max_prompts,
                                     int64_t group_size);
void plumb_scoreboard_destroy(struct plumb_scoreboard **b); /* does nothing if *b is NULL */

/* Starts an iteration of `prompts` prompts and sets all slots to 0. */
plumb_status plumb_scoreboard_begin(struct plumb_scoreboard *b, int64_t prompts);
/* Writes the reward of completion `sample` of `prompt` (index in the iteration's global order) to
 * its slots. A reward that is not finite counts as missing. PLUMB_ERR_ARG if an index is out of
 * range or this rank has already put the completion. */
plumb_status plumb_scoreboard_put(struct plumb_scoreboard *b, int64_t prompt, int64_t sample,
                                  bool principled, double reward);
/* Sets b->kind and b->reward from the slots, and resets b->choice. Call it after the slots were
 * summed over all ranks. PLUMB_ERR_ARG, naming the prompt, if a prompt has no completion or two
 * ranks have put the same completion. */
plumb_status plumb_scoreboard_close(struct plumb_scoreboard *b);

/* The first function returns the entry of completion `sample` of a prompt. The other two return the
 * prompt and the sample of an entry. */
static inline int64_t plumb_scoreboard_entry(const struct plumb_scoreboard *b, int64_t prompt,
                                             int64_t sample)
{
    return prompt * b->group_size + sample;
}
static inline int64_t plumb_scoreboard_prompt(const struct plumb_scoreboard *b, int64_t entry)
{
    return entry / b->group_size;
}
static inline int64_t plumb_scoreboard_sample(const struct plumb_scoreboard *b, int64_t entry)
{
    return entry % b->group_size;
}

/* Returns true if entry i has a term in the loss and so needs a forward and a backward pass. */
bool plumb_scoreboard_uses(const struct plumb_scoreboard *b, int64_t i);
/* Returns the loss denominator of the `count` prompts in the list `prompt`: the sum of
 * plumb_choice.denominator of those that are not skipped, in the order of the list. If `prompt` is
 * NULL, the function takes all prompts of the iteration and ignores count. */
double plumb_scoreboard_terms(const struct plumb_scoreboard *b, const int64_t *prompt,
                              int64_t count);

/* Sums over the imitated completions of a batch, those with a -logp term in the loss, on all ranks.
 */
struct plumb_imitated {
    double weight; /* sum of their weights */
    double tokens; /* sum of weight * number of completion tokens */
};
/* Returns the sums over the imitated completions of the `count` prompts in the list `prompt`, in
 * the order of the list. In the branch WEIGHTED these are the completions with a weight, in the
 * branch GROUP the best one, with weight 1.
 *   tokens[i * stride]: number of completion tokens of entry i */
struct plumb_imitated plumb_scoreboard_imitated(const struct plumb_scoreboard *b,
                                                const int64_t *prompt, int64_t count,
                                                const double *tokens, int64_t stride);
/* Returns sums.tokens / sums.weight, the weighted mean length of the imitated completions in
 * tokens; 1 if nothing is imitated. */
double plumb_imitated_mean(struct plumb_imitated sums);

#endif

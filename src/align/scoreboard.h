/* scoreboard.h - one iteration's rewards of all ranks, and the choices made from them.
 * Layer 1. Includes base/ only.
 *
 * Every rank writes the rewards of its own completions into `slot`, and an allreduce sums `slot`
 * over the ranks. Only one rank writes a slot and the others hold 0, so the sum is exact. Then each
 * rank computes the choices of all prompts, in the same order, from the same numbers. So the
 * choices depend on the rewards only, not on the rank that computed them. */
#ifndef PLUMB_ALIGN_SCOREBOARD_H
#define PLUMB_ALIGN_SCOREBOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* State of an entry, the place of one completion on the scoreboard. */
enum plumb_entry {
    PLUMB_ENTRY_ABSENT = 0, /* no rank put a completion here, for example because it is dropped */
    PLUMB_ENTRY_PLAIN = 1,
    PLUMB_ENTRY_PRINCIPLED = 2,
};
/* The kind of loss term that a prompt gets. */
enum plumb_branch {
    PLUMB_BRANCH_SKIP,     /* no term in the loss */
    PLUMB_BRANCH_RANK,     /* pair: principled over plain, or best over worst */
    PLUMB_BRANCH_SWAP,     /* pair: plain over principled */
    PLUMB_BRANCH_WEIGHTED, /* sum of -logp of its completions, weighted by weight[] */
    PLUMB_BRANCH_GROUP,    /* one term over all its scored completions */
    PLUMB_BRANCH_COUNT
};
extern const char *const plumb_branch_names[PLUMB_BRANCH_COUNT];

/* The choices for one prompt. */
struct plumb_choice {
    enum plumb_branch branch;
    /* Entries of the compared completions, -1 if there is none. The selector sets them: best
     * principled and best plain, best and worst, or the best alone. The branch SWAP exchanges
     * them. */
    int64_t win, lose;
    double weight;      /* factor of the prompt's loss term L; 1 by default */
    double denominator; /* the prompt's part of the loss denominator; 1 by default. The loss of a
                         * batch is sum(weight L) / sum(denominator) */
    double margin;      /* norm[win] - norm[lose] before SWAP; NaN if there is no pair */
    double smooth;      /* label smoothing of the pair, added to label_smoothing; 0 by default */
};

struct plumb_scoreboard {
    int64_t prompts, group_size; /* prompts of this iteration on all ranks; completions of each */
    int64_t n; /* = prompts * group_size; entry i = prompt * group_size + sample */
    int64_t max_prompts;
    double *slot;   /* (slots,) state and reward of each entry; summed over the ranks */
    int64_t slots;  /* = 2 n */
    uint8_t *kind;  /* (n,) enum plumb_entry */
    double *reward; /* (n,) reward as scored, NaN if missing */
    double *norm;   /* (n,) reward after reward_norm, NaN if missing */
    double *weight; /* (n,) weight in the prompt's weighted term; 0 in the other branches */
    double *work;   /* (n,) scratch; holds the sorted margins after plumb_stats_margin */
    struct plumb_choice *choice; /* (prompts,) the choices for each prompt */
};

/* Allocates a scoreboard for up to max_prompts prompts of group_size completions. The caller must
 * destroy *out. */
plumb_status plumb_scoreboard_create(struct plumb_scoreboard **out, int64_t max_prompts,
                                     int64_t group_size);
void plumb_scoreboard_destroy(struct plumb_scoreboard **b); /* does nothing if *b is NULL */

/* Starts an iteration of `prompts` prompts and sets all slots to 0. */
plumb_status plumb_scoreboard_begin(struct plumb_scoreboard *b, int64_t prompts);
/* Enters the reward of completion `sample` of prompt `prompt`, an index in the iteration's global
 * order. A reward that is not finite counts as missing. PLUMB_ERR_ARG if an index is out of range
 * or the completion was already put. */
plumb_status plumb_scoreboard_put(struct plumb_scoreboard *b, int64_t prompt, int64_t sample,
                                  bool principled, double reward);
/* Sets kind and reward from the slots, and clears the choices. Call it after the slots were summed
 * over all ranks. PLUMB_ERR_ARG, with the prompt, if a prompt has no completion or two ranks put
 * the same completion. */
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
/* Returns the loss denominator of the `count` listed prompts: the sum of `denominator` of those
 * that are not skipped, in the order of the list. If `prompt` is NULL, the function takes all
 * prompts of the iteration and ignores count. */
double plumb_scoreboard_terms(const struct plumb_scoreboard *b, const int64_t *prompt,
                              int64_t count);

/* Sums over the completions that a batch imitates (with a -logp term in the loss), of all ranks. */
struct plumb_imitated {
    double weight; /* sum of their weights */
    double tokens; /* sum of weight x completion tokens */
};
/* Returns the sums over the imitated completions of the `count` listed prompts, in the order of the
 * list: those with a weight in the weighted branch, and the best one of a group, with weight 1.
 *   tokens[i * stride]: completion tokens of entry i */
struct plumb_imitated plumb_scoreboard_imitated(const struct plumb_scoreboard *b,
                                                const int64_t *prompt, int64_t count,
                                                const double *tokens, int64_t stride);
/* Returns sums.tokens / sums.weight, the weighted mean length of the imitated completions in
 * tokens; 1 if nothing is imitated. */
double plumb_imitated_mean(struct plumb_imitated sums);

#endif

/* scoreboard.h - one iteration's rewards of all ranks, and what was decided about them.
 * Layer 1. Includes base/ only.
 *
 * Every rank puts its own completions into `slot`, the caller adds the slots of all ranks
 * (every slot has one owner and zeros elsewhere: the sum is exact), and from there each rank
 * computes all decisions for all prompts, in the same order, from the same numbers. So the
 * decisions are a function of the rewards, not of who made them. */
#ifndef PLUMB_ALIGN_SCOREBOARD_H
#define PLUMB_ALIGN_SCOREBOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum plumb_entry {
    PLUMB_ENTRY_ABSENT = 0, /* the prompt has fewer completions */
    PLUMB_ENTRY_PLAIN = 1,
    PLUMB_ENTRY_PRINCIPLED = 2,
};
enum plumb_branch {
    PLUMB_BRANCH_SKIP,     /* no term in the loss */
    PLUMB_BRANCH_RANK,     /* principled over plain */
    PLUMB_BRANCH_SWAP,     /* plain over principled */
    PLUMB_BRANCH_WEIGHTED, /* by weight[] */
    PLUMB_BRANCH_GROUP,    /* all scored completions together */
    PLUMB_BRANCH_COUNT
};
extern const char *const plumb_branch_names[PLUMB_BRANCH_COUNT];

/* What became of one prompt. */
struct plumb_choice {
    enum plumb_branch branch;
    int64_t win, lose; /* entries compared, -1 = none. win: best principled (or best of all),
                        * lose: best plain; exchanged in the swap branch */
    double weight;     /* of this prompt's term; 1 normally */
    double mass;       /* of the divisor: a batch's loss is sum weight L / sum mass; 1 normally */
    double margin;     /* norm[best principled] - norm[best plain]; NaN when one is missing */
    double smooth;     /* doubt in the pair's label, on top of label_smoothing; 0 normally */
};

struct plumb_scoreboard {
    int64_t prompts, group_size; /* of this iteration, over all ranks */
    int64_t n; /* = prompts * group_size; entry i = prompt * group_size + sample */
    int64_t max_prompts;
    double *slot;   /* (slots,) what the ranks add up */
    int64_t slots;  /* = 2 n */
    uint8_t *kind;  /* (n,) enum plumb_entry */
    double *reward; /* (n,) as scored, NaN = missing */
    double *norm;   /* (n,) after reward_norm, NaN = missing */
    double *weight; /* (n,) share of the prompt's weighted term; 0 outside that branch */
    double *work;   /* (n,) scratch of the stages */
    struct plumb_choice *choice; /* (prompts,) */
};

/* Room for max_prompts prompts of group_size completions. *out is owned by the caller. */
plumb_status plumb_scoreboard_create(struct plumb_scoreboard **out, int64_t max_prompts,
                                     int64_t group_size);
void plumb_scoreboard_destroy(struct plumb_scoreboard **b); /* NULL is allowed */

/* Starts an iteration of `prompts` prompts: all slots zero. */
plumb_status plumb_scoreboard_begin(struct plumb_scoreboard *b, int64_t prompts);
/* Completion `sample` of prompt `prompt` (index in the iteration's global order). A reward that
 * is not finite is missing. PLUMB_ERR_ARG when out of range or put twice. */
plumb_status plumb_scoreboard_put(struct plumb_scoreboard *b, int64_t prompt, int64_t sample,
                                  bool principled, double reward);
/* After the slots were added over the ranks: fills kind and reward. PLUMB_ERR_ARG naming the
 * prompt when one has no completion, or two ranks put the same one. */
plumb_status plumb_scoreboard_close(struct plumb_scoreboard *b);

/* Whether entry i has a term in the loss: a forward and backward pass is needed for it. */
bool plumb_scoreboard_uses(const struct plumb_scoreboard *b, int64_t i);
/* Masses of the prompts with a term in the loss (1 each, normally), added in order, among the
 * `count` listed (prompt NULL = all prompts): 1/scale of a global batch's loss. */
double plumb_scoreboard_terms(const struct plumb_scoreboard *b, const int64_t *prompt,
                              int64_t count);

#endif

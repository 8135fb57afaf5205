/* scores.h - the rewards of a rank's completions.
 * Layer 5. Includes stage/rewards.h, stage/rollouts.h. */
#ifndef PLUMB_STAGE_SCORES_H
#define PLUMB_STAGE_SCORES_H

#include "stage/rewards.h"
#include "stage/rollouts.h"

/* The rewards of a struct plumb_rollouts. The arrays have one element per completion, in the order
 * of the completions. */
struct plumb_scores {
    int64_t n;       /* number of completions for which the arrays have space */
    double *reward;  /* (n,) the completion's reward; NaN if missing */
    bool *scored;    /* (n,) true once the reward is set */
    bool *dropped;   /* (n,) true if the completion is neither scored nor trained on */
    int64_t *source; /* (n,) scratch: index of the completion that each item stands for */
    struct plumb_reward_item *item; /* (n,) scratch: the completions that are scored, with their
                                     * texts */
    double *value;                  /* (n,) scratch: the score of each item */
};

/* Allocates the arrays for n completions and clears them. PLUMB_ERR_NOMEM if memory runs out. */
plumb_status plumb_scores_init(struct plumb_scores *s, int64_t n);
void plumb_scores_fini(struct plumb_scores *s);
/* Returns the bytes of host memory that s holds. */
int64_t plumb_scores_bytes(const struct plumb_scores *s);
/* Marks all completions as neither scored nor dropped. Call it for each new set of rollouts. */
void plumb_scores_clear(struct plumb_scores *s);

/* Sets the reward of every completion that is neither scored nor dropped; the reward sources get
 * the plain prompt. Calls pause (may be NULL) before each batch of completions. A batch takes about
 * half a second, or longer if one completion does. Collective if the layers of the reward model are
 * sharded over the ranks (plumb_rewards_end). Returns what pause returned if that is not PLUMB_OK;
 * the scores so far are kept. */
plumb_status plumb_scores_compute(struct plumb_scores *s, const struct plumb_rollouts *r,
                                  const struct plumb_dataset *data, plumb_rewards *sources,
                                  plumb_pause_fn *pause, void *pause_arg);

#endif

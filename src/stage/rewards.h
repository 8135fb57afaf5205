/* rewards.h - the score of a completion, from whatever sources the configuration names.
 * Layer 5. Includes config/, data/, model/, comm/.
 *
 * score = model score + command score + weighted sum of built-in functions, of those that are
 * configured. A source that gives nothing makes the whole score missing (NaN), never 0. */
#ifndef PLUMB_STAGE_REWARDS_H
#define PLUMB_STAGE_REWARDS_H

#include <stdbool.h>

#include "backend/backend.h"
#include "comm/comm.h"
#include "config/config.h"
#include "data/reward.h"

typedef struct plumb_rewards plumb_rewards;

/* Whether the configuration names any source. */
bool plumb_rewards_configured(const struct plumb_config *cfg);
/* What is going to be scored: the sizes of the reward model's batch. */
struct plumb_rewards_need {
    int64_t longest; /* tokens of a prompt and its completion, or bytes of their text */
    int64_t items;   /* on this rank at a time */
    const char
        *prompt_template; /* that the prompts' texts were made with; NULL: data.prompt_template */
};

/* Opens every configured source; PLUMB_ERR_CONFIG when there is none. *out is the caller's.
 * reward.model reads texts of up to
 *     reward.context, or where that is 0 min(its context, what it was trained on,
 *                                            2 need->longest + 16)
 * tokens: its tokenizer may need more of them than the policy's. */
plumb_status plumb_rewards_create(plumb_rewards **out, const struct plumb_config *cfg,
                                  struct plumb_backend *backend,
                                  const struct plumb_rewards_need *need);
void plumb_rewards_destroy(plumb_rewards **r); /* NULL is allowed */

/* What is missing is counted anew from here. */
void plumb_rewards_begin(plumb_rewards *r);
/* score[i] (n,) of this rank's items; NaN = missing. Not collective. */
plumb_status plumb_rewards_score(plumb_rewards *r, const struct plumb_reward_item *item, int64_t n,
                                 double *score);
/* The first completion whose score is missing since the beginning, which source gave none, and why
 * scores are missing, in words; "" when none are. */
const char *plumb_rewards_fault(const plumb_rewards *r);

#endif

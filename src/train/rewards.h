/* rewards.h - the score of a completion, from whatever sources the configuration names.
 * Layer 5. Includes config/, data/, model/, comm/.
 *
 * score = model score + command score + weighted sum of built-in functions, of those that are
 * configured. A source that gives nothing makes the whole score missing (NaN), never 0. */
#ifndef PLUMB_TRAIN_REWARDS_H
#define PLUMB_TRAIN_REWARDS_H

#include <stdbool.h>

#include "backend/backend.h"
#include "comm/comm.h"
#include "config/config.h"
#include "data/reward.h"

typedef struct plumb_rewards plumb_rewards;

/* Whether the configuration names any source. */
bool plumb_rewards_configured(const struct plumb_config *cfg);
/* Opens every configured source; PLUMB_ERR_CONFIG when there is none. *out is the caller's. */
plumb_status plumb_rewards_create(plumb_rewards **out, const struct plumb_config *cfg,
                                  struct plumb_backend *backend);
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

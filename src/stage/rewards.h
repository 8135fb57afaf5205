/* rewards.h - computes the score of a completion from the configured reward sources.
 * Layer 5. Includes backend/, comm/, config/, data/.
 *
 * score = reward.model's score + reward.command's score + weighted sum of reward.functions, as far
 * as they are configured. If a source gives no finite score, the whole score is missing (NaN), not
 * 0. */
#ifndef PLUMB_STAGE_REWARDS_H
#define PLUMB_STAGE_REWARDS_H

#include <stdbool.h>

#include "backend/backend.h"
#include "comm/comm.h"
#include "config/config.h"
#include "data/dataset.h"
#include "data/reward.h"
#include "model/model.h"
#include "train/frozen.h"

typedef struct plumb_rewards plumb_rewards;

/* Returns true if reward.model, reward.command or reward.functions is configured. */
bool plumb_rewards_configured(const struct plumb_config *cfg);
/* Sizes of the items that will be scored. They set the size of the reward model's batch. */
struct plumb_rewards_need {
    int64_t longest; /* largest length of prompt + completion, in tokens or in bytes of text */
    int64_t items;   /* largest number of items per call, on this rank */
    /* template that made the prompts' texts; NULL stands for data.prompt_template */
    const char *prompt_template;
    /* where the reward model's layers are; NULL: on the device */
    const struct plumb_frozen_run *frozen;
    /* True only if `plumb plan` plans one stage of a file of stages. Then the reward model may not
     * be trained yet, and reward.model may name the language model from which an earlier stage will
     * train it; that model counts as the reward model. */
    bool ahead;
};

/* Opens every configured reward source. PLUMB_ERR_CONFIG if none is configured. The caller must
 * destroy *out. reward.model gives no score to a text with more tokens than this limit:
 *     reward.context, or if that is 0:
 *     min(the model's maximum context, the length it was trained on, if its folder names it,
 *         2 need->longest + 16)
 * The factor 2 is there because the reward model's tokenizer may need more tokens than the
 * policy's. */
plumb_status plumb_rewards_create(plumb_rewards **out, const struct plumb_config *cfg,
                                  struct plumb_backend *backend,
                                  const struct plumb_rewards_need *need);
/* Fails if a reward function reads a field that more than reward.max_missing of the records lack:
 * no completion of such a record would get a score. path names the records in the message. Returns
 * PLUMB_ERR_FORMAT. */
plumb_status plumb_rewards_check_records(const plumb_rewards *r, const struct plumb_dataset *data,
                                         const char *path);
void plumb_rewards_destroy(plumb_rewards **r); /* does nothing if *r is NULL */

/* Returns the reward model, or NULL if there is none; r may be NULL. */
const struct plumb_model *plumb_rewards_model(const plumb_rewards *r);

/* Resets the count of missing scores and the text of plumb_rewards_fault. */
void plumb_rewards_begin(plumb_rewards *r);
/* Sets score[i] (n,) for each of this rank's n items; NaN if the score is missing. Collective only
 * if plumb_rewards_end is. */
plumb_status plumb_rewards_score(plumb_rewards *r, const struct plumb_reward_item *item, int64_t n,
                                 double *score);
/* Ends the scoring that began with plumb_rewards_begin. local: the status of this rank's scoring.
 * Collective if the layers of the reward model are shared among the ranks: a rank then stays here
 * until the others have scored, too. Returns local, or the failure or pause of another rank. */
plumb_status plumb_rewards_end(plumb_rewards *r, plumb_status local);
/* Returns a text about the scores missing since plumb_rewards_begin: the first such completion, the
 * source that gave no score, and the reasons with their counts. "" if no score is missing. */
const char *plumb_rewards_fault(const plumb_rewards *r);

#endif

/* rewards.h - computes the score of a completion from the configured reward sources.
 * Layer 5. Includes backend/, comm/, config/, data/.
 *
 * score = reward.model's score + reward.command's score + weighted sum of reward.functions; a
 * source that is not configured is left out. If a configured source gives no finite score, the
 * score is missing (NaN), not 0. */
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
/* What plumb_rewards_create must know: the sizes of the items that will be scored, from which the
 * size of the reward model's batch follows, and where the reward model's layers are. */
struct plumb_rewards_need {
    int64_t longest; /* largest length of prompt + completion, in tokens or in bytes of text */
    int64_t items;   /* largest number of items per call, on this rank */
    /* prompt template that the prompts' texts contain; NULL stands for data.prompt_template */
    const char *prompt_template;
    /* where the reward model's layers are; NULL stands for the device of every rank */
    const struct plumb_frozen_run *frozen;
    /* True only while `plumb plan` plans one stage of a file of stages. An earlier stage may then
     * train the reward model, so that it does not exist yet: if reward.model names a language
     * model, from which that stage will train it, the language model counts as the reward model. */
    bool ahead;
};

/* Opens every configured reward source. PLUMB_ERR_CONFIG if none is configured. The caller must
 * destroy *out. reward.model gives no score to a text with more tokens than the following limit:
 *     reward.context, or if that is 0:
 *     min(the model's maximum context, its training length if its folder states one,
 *         2 need->longest + 16)
 * The factor 2 is there because the reward model's tokenizer may need more tokens than the
 * policy's. */
plumb_status plumb_rewards_create(plumb_rewards **out, const struct plumb_config *cfg,
                                  struct plumb_backend *backend,
                                  const struct plumb_rewards_need *need);
/* Fails with PLUMB_ERR_FORMAT if a reward function reads a field that is missing in more than
 * reward.max_missing (a share) of the records: no completion of such a record would get a score.
 * path: the file of the records, for the message. */
plumb_status plumb_rewards_check_records(const plumb_rewards *r, const struct plumb_dataset *data,
                                         const char *path);
void plumb_rewards_destroy(plumb_rewards **r); /* does nothing if *r is NULL */

/* Returns the reward model, or NULL if there is none; r may be NULL. */
const struct plumb_model *plumb_rewards_model(const plumb_rewards *r);

/* Resets the count of missing scores and the text of plumb_rewards_fault. */
void plumb_rewards_begin(plumb_rewards *r);
/* Sets score[i] (n,) for each of this rank's n items; NaN if the score is missing. Collective if
 * the layers of the reward model are sharded over the ranks. */
plumb_status plumb_rewards_score(plumb_rewards *r, const struct plumb_reward_item *item, int64_t n,
                                 double *score);
/* Ends the scoring that began with plumb_rewards_begin. local: the status of this rank's scoring.
 * Collective if the layers of the reward model are sharded over the ranks: a rank then returns only
 * after the other ranks have ended their scoring, too. Returns local, or the failure or pause of
 * another rank. */
plumb_status plumb_rewards_end(plumb_rewards *r, plumb_status local);
/* Returns a text about the scores that were missing since plumb_rewards_begin: the first such
 * completion, the source that gave no score, and the reasons with their counts. "" if no score is
 * missing. */
const char *plumb_rewards_fault(const plumb_rewards *r);

#endif

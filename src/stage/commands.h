/* commands.h - the commands that train on rewards and pairs: align, reward and prefer.
 * Layer 5, above train/. Includes train/.
 *
 * The functions that run a command are collective, and every rank passes the same source. Each
 * writes metrics and checkpoints to output_dir and returns after the last checkpoint is complete.
 */
#ifndef PLUMB_STAGE_COMMANDS_H
#define PLUMB_STAGE_COMMANDS_H

#include "align/method.h"
#include "train/plan.h"
#include "train/trainer.h"

/* Trains a reward model on the preference pairs of data.train.
 *     L = mean over the global batch's pairs of -log sigma(r_chosen - r_rejected)
 *                                          Source: Ouyang et al. 2022, arXiv:2203.02155, eq. 1 */
plumb_status plumb_train_reward(const struct plumb_trainer_source *s);

/* Trains the policy on the preference pairs of data.train with the objective of method.name (for
 * example dpo). The reference is method.reference.
 *     L = mean over the global batch's pairs of the objective's pair loss (align/obj_*.c) */
plumb_status plumb_train_prefer(const struct plumb_trainer_source *s);

/* Finds the method that method.name names, and sets *param: the parameters of the configuration,
 * except those that the method itself fixes. PLUMB_ERR_CONFIG if the name is unknown. */
plumb_status plumb_method_of(const struct plumb_method **method, struct plumb_align_param *param,
                             const struct plumb_config *cfg);

/* Adapts the configuration of a new run of `command`: writes the values that the method fixes into
 * *cfg. An option that the command or the method does not read is an error if the command line sets
 * it, and a warning if the file sets it. PLUMB_ERR_CONFIG with the option's name. */
plumb_status plumb_train_settle(struct plumb_config *cfg, const char *command);

/* Aligns the policy with the method of method.name, on its own completions of data.prompts. */
plumb_status plumb_train_align(const struct plumb_trainer_source *s);

/* Check the configuration of align or prefer as far as this is possible before the model is opened.
 * Not collective. */
plumb_status plumb_align_check(const struct plumb_config *cfg);
plumb_status plumb_prefer_check(const struct plumb_config *cfg);

extern const struct plumb_job plumb_job_align, plumb_job_reward, plumb_job_prefer;

/* Returns the struct plumb_job of a training command, or NULL if `command` does not name one. */
const struct plumb_job *plumb_job_find(const char *command);

#endif

/* commands.h - the commands that train on rewards and pairs: align, reward and prefer.
 * Layer 5, above train/. Includes train/.
 *
 * All commands are Collective; every rank calls with the same source. Each leaves in output_dir
 * what DESIGN section 8 lists and returns after the last checkpoint is in place. */
#ifndef PLUMB_STAGE_COMMANDS_H
#define PLUMB_STAGE_COMMANDS_H

#include "align/method.h"
#include "train/plan.h"
#include "train/trainer.h"

/* A reward model from the pairs of data.train.
 *     L = mean over the global batch's pairs of -log sigma(r_chosen - r_rejected)
 *                                          Source: Ouyang et al. 2022, arXiv:2203.02155, eq. 1 */
plumb_status plumb_train_reward(const struct plumb_trainer_source *s);

/* The policy on the pairs of data.train, by the objective of method.name (dpo, ipo, aps), against
 * the model it started from.     L = mean over the global batch's pairs, see align/obj_*.c */
plumb_status plumb_train_prefer(const struct plumb_trainer_source *s);

/* The method that a configuration names, and its parameters: the configuration's, but for those
 * that make the method what it is. PLUMB_ERR_CONFIG for an unknown name. */
plumb_status plumb_method_of(const struct plumb_method **method, struct plumb_align_param *param,
                             const struct plumb_config *cfg);

/* Makes a fresh configuration say what its run does, for any command: values that the method
 * decides are shown, options that it does not read are refused (command line) or noted as warnings
 * (file). PLUMB_ERR_CONFIG naming the option. */
plumb_status plumb_train_settle(struct plumb_config *cfg, const char *command);

/* Alignment on the model's own answers to data.prompts, by method.name. */
plumb_status plumb_train_align(const struct plumb_trainer_source *s);

/* What of the configuration of align or prefer can be found wrong before its model is there. Not
 * collective. */
plumb_status plumb_align_check(const struct plumb_config *cfg);
plumb_status plumb_prefer_check(const struct plumb_config *cfg);

extern const struct plumb_job plumb_job_align, plumb_job_reward, plumb_job_prefer;

/* By the command's name; NULL when it does not train. */
const struct plumb_job *plumb_job_find(const char *command);

#endif

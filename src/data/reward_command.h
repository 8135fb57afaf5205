/* reward_command.h - scores completions with an external command.
 * Layer 4. Includes base/, io/, data/reward.h.
 *
 * The command is run by `/bin/sh -c` and keeps running. It reads one JSON line per completion:
 *   {"prompt_id": 3, "sample": 0, "prompt": "..", "completion": "..",
 *    "completion_messages": [{"role": "assistant", "content": ".."}],
 *    "prompt_messages": [{"role": "user", "content": ".."}, ..], "solution": "..", ..}
 * "prompt" is the text of the prompt without a principle, "completion" the text of the completion,
 * and "prompt_messages" the record's own prompt as messages, if it has one. All other members of
 * the record follow under their own names, as written in the file, like TRL passes all columns of a
 * data set. Members of the record that are called prompt_id, sample, completion,
 * completion_messages, prompt_messages or record are put into an object "record" instead. The
 * record's "prompt" is not repeated, nor its "completion" if that is the one to be scored. If a
 * record has "answer" and no "solution", its answer is also given as "solution".
 *
 * The command answers each line, in order, with one line
 *   {"score": 1.5}
 * and flushes it at once. The command may repeat "prompt_id" and "sample"; they must then equal
 * those of the line that it answers. Other members of an answer are ignored. A score of null, a
 * number that is not finite in float32 (the dtype of rollout files), or any other answer is a
 * missing score. */
#ifndef PLUMB_DATA_REWARD_COMMAND_H
#define PLUMB_DATA_REWARD_COMMAND_H

#include "base/status.h"
#include "data/reward.h"

typedef struct plumb_line_client plumb_reward_command;

/* Creates the connection; the command is started by the first plumb_reward_command_score. timeout_s
 * is the time for one answer; for the first answer it includes the start of the command. restarts
 * is how often each call of plumb_reward_command_score may start the command again after it exited
 * or timed out. After a restart the scores that have not arrived are requested again, except that
 * of a completion at which the command timed out, or at which it exited twice. That score is
 * missing. */
plumb_status plumb_reward_command_create(plumb_reward_command **out, const char *command,
                                         double timeout_s, int64_t restarts);
void plumb_reward_command_destroy(plumb_reward_command **c); /* does nothing if *c is NULL */

/* Computes score (n,) with the command. A missing score is NaN and is counted in *missing. Returns
 * PLUMB_ERR_IO if the command cannot be started or its restarts are used up; the message has the
 * command, how it ended, and its last lines of standard error. Returns PLUMB_ERR_FORMAT if the
 * command writes more lines than it was sent, or answers without reading any of its input. */
plumb_status plumb_reward_command_score(plumb_reward_command *c, double *score,
                                        const struct plumb_reward_item *item, int64_t n,
                                        struct plumb_reward_missing *missing);

#endif

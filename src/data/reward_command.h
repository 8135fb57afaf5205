/* reward_command.h - scores from an external command.
 * Layer 4. Includes base/, io/, data/reward.h.
 *
 * The command is run by /bin/sh -c and stays alive. It gets one JSON line per completion:
 *     {"prompt_id": 3, "sample": 0, "prompt": "..", "completion": "..",
 *      "completion_messages": [{"role": "assistant", "content": ".."}],
 *      "prompt_messages": [{"role": "user", "content": ".."}, ..], "solution": "..", ..}
 * "prompt" is the text that was to be answered, without a principle; "completion" the text of the
 * answer; "prompt_messages" the record's own prompt as messages, where it has one. As TRL hands on
 * all columns of a data set, every other member of the record follows under its own name, as the
 * file has it. Members that are named like those above (or "record") stand in an object "record"
 * instead; only the record's "prompt" is not repeated. A record with "answer" and without
 * "solution" has its answer as "solution", too.
 *
 * The command answers each line, in order, with one line
 *     {"score": 1.5}
 * flushed at once. Other members of an answer are ignored; "prompt_id" and "sample", if given, must
 * be those asked for. null, a number that is not finite, or anything else is a missing score. */
#ifndef PLUMB_DATA_REWARD_COMMAND_H
#define PLUMB_DATA_REWARD_COMMAND_H

#include "base/status.h"
#include "data/reward.h"

typedef struct plumb_line_client plumb_reward_command;

/* timeout_s: for one answer, the start of the command included in the first. restarts: how often
 * per call of _score a command that died, or was killed because it hung, is started again; the
 * answers that are still missing are asked for again, but for the one that it hung on or died on
 * twice, which counts as missing. The command is started by the first _score. */
plumb_status plumb_reward_command_create(plumb_reward_command **out, const char *command,
                                         double timeout_s, int64_t restarts);
void plumb_reward_command_destroy(plumb_reward_command **c); /* NULL is allowed */

/* score (n,) = the command's scores, NaN = missing, counted in *missing (added to).
 * Errors: PLUMB_ERR_IO naming the command, how it ended and its last words, when it cannot be
 * started or its restarts are used up; PLUMB_ERR_FORMAT when it writes more lines than it got. */
plumb_status plumb_reward_command_score(plumb_reward_command *c, double *score,
                                        const struct plumb_reward_item *item, int64_t n,
                                        struct plumb_reward_missing *missing);

#endif

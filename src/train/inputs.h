/* inputs.h - hashes of the files that a run reads, so that a changed file is detected.
 * Layer 5. Includes base/, config/, io/json.h. */
#ifndef PLUMB_TRAIN_INPUTS_H
#define PLUMB_TRAIN_INPUTS_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"
#include "config/config.h"
#include "io/json.h"

/* Whether the file of this name in a model folder affects results: weights, configuration,
 * tokenizer files and chat template do. */
bool plumb_inputs_decides(const char *name);

/* Appends a JSON object to out, with a member for each input of plumb_config_inputs that exists:
 *
 *     "data.train": "HASH"                                   a file
 *     "model": {"config.json": "HASH", ...}                  a folder: each file that decides
 *     "reward.command (files)": {"my_reward.py": "HASH"}     each word of the shell command that
 *                                                            names a regular file
 *
 * Every file is read; a hashes.json beside it is not used, because the file may have changed since.
 * Other files that a command reads are unknown and not hashed. HASH is XXH3-64 in hexadecimal. Not
 * collective. PLUMB_ERR_IO. */
plumb_status plumb_inputs_put(struct plumb_buf *out, const struct plumb_config *cfg,
                              const char *command);

enum plumb_inputs_relation { PLUMB_INPUTS_UNKNOWN, PLUMB_INPUTS_SAME, PLUMB_INPUTS_DIFFER };

/* Compares the member `key` of two objects of plumb_inputs_put. The result is UNKNOWN if one of
 * them lacks it or has it in the form of an earlier version of plumb. out    size bytes, or NULL:
 * "model: tokenizer.json has another content than" ("is new, it was not there", "is gone, it was
 * there"), for " when ..." behind it; "" unless they differ
 */
enum plumb_inputs_relation plumb_inputs_compare(char *out, int64_t size, const plumb_json *then,
                                                const plumb_json *now, const char *key);

/* out (size bytes) = the text of _compare for the first input of `now` that is not known to be the
 * same in `then`; "" if all are. With commands, files named by shell commands are compared, too. */
void plumb_inputs_changed(char *out, int64_t size, const plumb_json *then, const plumb_json *now,
                          bool commands);

/* Compares the text of `now` with the "inputs" of a run.json. PLUMB_ERR_CONFIG names what has
 * changed since. Only warned about: the files that a command names, because it may write them; an
 * input, or a whole run.json, that is not there to compare with. */
plumb_status plumb_inputs_check(const struct plumb_buf *now, const char *run_json);

#endif

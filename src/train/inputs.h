/* inputs.h - hashes of the files that a run reads, so that a changed file is detected.
 * Layer 5. Includes base/, config/, io/json.h. */
#ifndef PLUMB_TRAIN_INPUTS_H
#define PLUMB_TRAIN_INPUTS_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"
#include "config/config.h"
#include "io/json.h"

/* Returns true if a file of this name in a model folder affects results: weights, configuration,
 * tokenizer files and chat template do. */
bool plumb_inputs_decides(const char *name);

/* Appends a JSON object to out, with a member for each input of plumb_config_inputs that exists:
 *
 *     "data.train": "HASH"                                   a file
 *     "model": {"config.json": "HASH", ...}                  a folder: each file that affects
 *                                                            results
 *     "reward.command (files)": {"my_reward.py": "HASH"}     each word of the shell command that
 *                                                            names a regular file; for eval, also
 *                                                            "eval.judge (files)"
 *
 * Every file is read. The hashes in a hashes.json of its folder are not used, because the file may
 * have changed since. Other files that a shell command reads are unknown and not hashed. HASH is
 * XXH3-64 in hexadecimal. Not collective. PLUMB_ERR_IO. */
plumb_status plumb_inputs_put(struct plumb_buf *out, const struct plumb_config *cfg,
                              const char *command);

enum plumb_inputs_relation { PLUMB_INPUTS_UNKNOWN, PLUMB_INPUTS_SAME, PLUMB_INPUTS_DIFFER };

/* Compares the member `key` of two objects of plumb_inputs_put. Returns SAME or DIFFER, or UNKNOWN
 * if one of the two objects lacks the member or has the member in the form of an earlier version of
 * plumb. For DIFFER, writes the start of a message to out (size bytes; may be NULL), for example
 * "model: tokenizer.json has another content than"; the caller completes it (" when the run
 * began"). Otherwise writes "". */
enum plumb_inputs_relation plumb_inputs_compare(char *out, int64_t size, const plumb_json *then,
                                                const plumb_json *now, const char *key);

/* Looks for the first input of `now` that differs from `then` or cannot be compared with it. Writes
 * to out (size bytes) the text of plumb_inputs_compare if the input differs, "KEY has no hash from"
 * if it cannot be compared, or "" if there is no such input. If commands is true, the files that
 * shell commands name are compared, too. */
void plumb_inputs_changed(char *out, int64_t size, const plumb_json *then, const plumb_json *now,
                          bool commands);

/* Compares `now` with the "inputs" of a run.json. PLUMB_ERR_CONFIG names the changed input. If a
 * file that a shell command names has changed, only logs a warning, because the command may write
 * that file. Also only logs a warning if run.json or the old hash is missing. */
plumb_status plumb_inputs_check(const struct plumb_buf *now, const char *run_json);

#endif

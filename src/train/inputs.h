/* inputs.h - what a run reads beside its configuration, by content: a file that changes is noticed.
 * Layer 5. Includes base/, config/, io/json.h. */
#ifndef PLUMB_TRAIN_INPUTS_H
#define PLUMB_TRAIN_INPUTS_H

#include "base/buf.h"
#include "base/status.h"
#include "config/config.h"
#include "io/json.h"

/* out += a JSON object: a hash for each input of plumb_config_inputs that is there. That of a
 * model's folder is of its config.json, tokenizer.json and weights (by its hashes.json where it has
 * one, without reading them). Not collective. PLUMB_ERR_IO. */
plumb_status plumb_inputs_put(struct plumb_buf *out, const struct plumb_config *cfg,
                              const char *command);

/* *path = the first input of `now`, an object of plumb_inputs_put, that has another hash in `then`;
 * NULL: none, or `then` is NULL (written before there were hashes). Borrowed from now. */
void plumb_inputs_changed(const char **path, const plumb_json *then, const plumb_json *now);

/* The text of `now` against the "inputs" of a run.json: PLUMB_ERR_CONFIG names what has changed
 * since. No run.json is no error. */
plumb_status plumb_inputs_check(const struct plumb_buf *now, const char *run_json);

#endif

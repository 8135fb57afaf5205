/* spec_parts.h - the parts of reading a config.json, one function per file.
 * Layer 4. Includes io/json.h and model/spec.h. For spec*.c only.
 *
 * Where two fields give the same setting, the rules of transformers 5 apply (checked with 5.24). If
 * transformers resolves a contradiction silently, plumb resolves it in the same way and logs a
 * warning that names both fields. `path` is the file name for messages. */
#ifndef PLUMB_MODEL_SPEC_PARTS_H
#define PLUMB_MODEL_SPEC_PARTS_H

#include "io/json.h"
#include "model/spec.h"

/* Reads an integer from 1 to limit. If fallback is NULL, the field is required. */
plumb_status plumb_spec_want_size(const plumb_json *j, const char *key, int64_t *out,
                                  const int64_t *fallback, int64_t limit, const char *path);
/* Reads rope_theta and rope from rope_scaling, rope_parameters and the top-level fields. max_pos
 * must be set. */
plumb_status plumb_spec_read_rope(struct plumb_spec *s, const plumb_json *j, const char *path);
/* Reads window from layer_types, sliding_window, use_sliding_window and max_window_layers. */
plumb_status plumb_spec_read_window(struct plumb_spec *s, const plumb_json *j, const char *path);
/* Reads bos, eos and pad. v and labels must be set. */
plumb_status plumb_spec_read_tokens(struct plumb_spec *s, const plumb_json *j, const char *path);
/* Reads bos and eos from DIR/generation_config.json, if the file exists. */
plumb_status plumb_spec_read_generation(struct plumb_spec *s, const char *dir);
/* Fails on fields that change the arithmetic in a way that plumb does not implement, and warns
 * about fields that plumb does not know. */
plumb_status plumb_spec_check_fields(const plumb_json *j, const char *path);

#endif

/* spec_parts.h - the parts of reading a config.json that have files of their own.
 * Layer 4. Includes io/json.h and model/spec.h. For spec*.c only.
 *
 * Where two fields give one setting, the rule is that of transformers 5 (checked with 5.24). A
 * contradiction that transformers settles without a word is settled alike here and warned about;
 * the warning names both fields. path is the file's name, for messages. */
#ifndef PLUMB_MODEL_SPEC_PARTS_H
#define PLUMB_MODEL_SPEC_PARTS_H

#include "io/json.h"
#include "model/spec.h"

/* An integer from 1 to limit; fallback NULL: the field is required. */
plumb_status plumb_spec_want_size(const plumb_json *j, const char *key, int64_t *out,
                                  const int64_t *fallback, int64_t limit, const char *path);
/* rope_theta and rope from rope_scaling, rope_parameters and the fields beside them. Needs max_pos.
 */
plumb_status plumb_spec_read_rope(struct plumb_spec *s, const plumb_json *j, const char *path);
/* window from layer_types, sliding_window, use_sliding_window and max_window_layers. */
plumb_status plumb_spec_read_window(struct plumb_spec *s, const plumb_json *j, const char *path);
/* bos, eos and pad. Needs v and labels. */
plumb_status plumb_spec_read_tokens(struct plumb_spec *s, const plumb_json *j, const char *path);
/* The same from DIR/generation_config.json, where there is one. */
plumb_status plumb_spec_read_generation(struct plumb_spec *s, const char *dir);
/* Refuses fields that change the arithmetic in a way that plumb lacks, and warns about those that
 * plumb does not know. */
plumb_status plumb_spec_check_fields(const plumb_json *j, const char *path);

#endif

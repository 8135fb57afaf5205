/* normalize.h - the "normalizer" of tokenizer.json: changes a text before it is split into words.
 * Layer 3. Includes base/ and io/json.h. */
#ifndef PLUMB_TEXT_NORMALIZE_H
#define PLUMB_TEXT_NORMALIZE_H

#include "io/json.h"
#include "text/pattern.h"

struct plumb_normalize_step;

/* Initialise with zeros, fill with plumb_normalizer_init, release with plumb_normalizer_fini. The
 * struct does not change after plumb_normalizer_init. */
struct plumb_normalizer {
    struct plumb_normalize_step *step;
    int64_t n, cap;
};

/* Reads the node "normalizer" (v, or NULL) of the file `where`. Returns PLUMB_ERR_UNSUPPORTED with
 * the name of a type that plumb does not support. */
plumb_status plumb_normalizer_init(struct plumb_normalizer *z, const plumb_json *v,
                                   const char *where);
void plumb_normalizer_fini(struct plumb_normalizer *z);

/* Replaces text (valid UTF-8) by its normalised form, which is valid UTF-8 too. `other` and m are
 * scratch memory and are overwritten. *start tells whether text begins at the beginning of the
 * original text; it becomes false if that beginning is removed. */
plumb_status plumb_normalizer_apply(const struct plumb_normalizer *z, struct plumb_buf *text,
                                    struct plumb_buf *other, struct plumb_matches *m, bool *start);

/* Compiles the pattern object of Replace and Split: {"String": ".."} or {"Regex": ".."}. */
plumb_status plumb_pattern_from_json(plumb_pattern **out, const plumb_json *v, const char *where);

#endif

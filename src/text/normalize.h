/* normalize.h - the "normalizer" of tokenizer.json.
 * Layer 3. Includes base/ and io/json.h. normalize.c and utf8.c alone use utf8proc. */
#ifndef PLUMB_TEXT_NORMALIZE_H
#define PLUMB_TEXT_NORMALIZE_H

#include "io/json.h"
#include "text/pattern.h"

struct plumb_normalize_step;

/* Zero-initialise; released with plumb_normalizer_fini. Immutable after init. */
struct plumb_normalizer {
    struct plumb_normalize_step *step;
    int64_t n, cap;
};

/* v: the node, NULL for none. where: the file's name.
 * PLUMB_ERR_UNSUPPORTED names a type that plumb does not know. */
plumb_status plumb_normalizer_init(struct plumb_normalizer *z, const plumb_json *v,
                                   const char *where);
void plumb_normalizer_fini(struct plumb_normalizer *z);

/* text = normalised text (valid UTF-8 in and out). other, m: scratch, contents lost. *start, which
 * says that text begins where the original does, becomes false when that beginning is removed. */
plumb_status plumb_normalizer_apply(const struct plumb_normalizer *z, struct plumb_buf *text,
                                    struct plumb_buf *other, struct plumb_matches *m, bool *start);

/* The pattern object of Replace and Split: {"String": ".."} or {"Regex": ".."}. */
plumb_status plumb_pattern_from_json(plumb_pattern **out, const plumb_json *v, const char *where);

#endif

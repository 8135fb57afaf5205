/* postprocess.h - the "post_processor" of tokenizer.json: what stands around a text's tokens.
 * Layer 3. Includes base/ and io/json.h. */
#ifndef PLUMB_TEXT_POSTPROCESS_H
#define PLUMB_TEXT_POSTPROCESS_H

#include "io/json.h"
#include "text/ids.h"

/* Zero-initialise; released with plumb_postprocessor_fini. */
struct plumb_postprocessor {
    struct plumb_ids before, after; /* around a single text */
};

/* v: the node, NULL for none. where: the file's name. Pair templates are not read.
 * PLUMB_ERR_UNSUPPORTED names a type that plumb does not know. */
plumb_status plumb_postprocessor_init(struct plumb_postprocessor *z, const plumb_json *v,
                                      const char *where);
void plumb_postprocessor_fini(struct plumb_postprocessor *z);

#endif

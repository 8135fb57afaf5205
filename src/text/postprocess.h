/* postprocess.h - the "post_processor" of tokenizer.json: the tokens added before and after a text.
 * Layer 3. Includes base/ and io/json.h. */
#ifndef PLUMB_TEXT_POSTPROCESS_H
#define PLUMB_TEXT_POSTPROCESS_H

#include "io/json.h"
#include "text/ids.h"

/* Initialise with zeros, release with plumb_postprocessor_fini. */
struct plumb_postprocessor {
    struct plumb_ids before, after; /* token ids added before and after a single text */
};

/* Reads the node "post_processor" (v, or NULL) of the file `where`. Templates for text pairs are
 * ignored. Returns PLUMB_ERR_UNSUPPORTED with the name of a type that plumb does not support. */
plumb_status plumb_postprocessor_init(struct plumb_postprocessor *z, const plumb_json *v,
                                      const char *where);
void plumb_postprocessor_fini(struct plumb_postprocessor *z);

#endif

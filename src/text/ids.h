/* ids.h - a growing list of token ids.
 * Layer 3. Includes base/. */
#ifndef PLUMB_TEXT_IDS_H
#define PLUMB_TEXT_IDS_H

#include <stdint.h>

#include "base/status.h"

/* A growing list of token ids. Initialise with zeros, release with plumb_ids_fini. */
struct plumb_ids {
    int32_t *id;
    int64_t n, cap;
};
plumb_status plumb_ids_add(struct plumb_ids *ids, int32_t id);
void plumb_ids_fini(struct plumb_ids *ids);

#endif

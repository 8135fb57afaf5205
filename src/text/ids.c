/* ids.c - a growing list of token ids.
 * Layer 3. Includes pieces.h, base/. */
#include "text/ids.h"

#include <stdlib.h>

#include "text/pieces.h"

plumb_status plumb_ids_add(struct plumb_ids *ids, int32_t id)
{
    if (ids->n == ids->cap)
        PLUMB_TRY(plumb_grow((void **)&ids->id, ids->n, &ids->cap, sizeof *ids->id));
    ids->id[ids->n++] = id;
    return PLUMB_OK;
}

void plumb_ids_fini(struct plumb_ids *ids)
{
    free(ids->id);
    *ids = (struct plumb_ids){0};
}

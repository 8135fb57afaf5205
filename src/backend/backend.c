/* backend.c - what all backends share.
 * Layer 2. Includes backend.h. */
#include "backend/backend.h"

void plumb_backend_destroy(struct plumb_backend **b)
{
    if (!*b)
        return;
    (*b)->destroy(*b);
    *b = NULL;
}

plumb_status plumb_backend_arena_alloc(struct plumb_backend *b, struct plumb_arena *a)
{
    void *data = NULL;
    PLUMB_REQUIRE(!a->base, PLUMB_ERR_ARG, "arena %s has its memory already",
                  a->name ? a->name : "?");
    PLUMB_TRY(b->alloc(b, &data, a->used, a->name));
    a->base = (unsigned char *)data;
    a->cap = a->used;
    a->place = b->place;
    plumb_arena_reset(a, 0);
    return PLUMB_OK;
}

void plumb_backend_arena_release(struct plumb_backend *b, struct plumb_arena *a)
{
    b->release(b, a->base);
    a->base = NULL;
    a->cap = a->used = 0;
}

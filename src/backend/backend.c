/* backend.c - functions that are the same for all backends.
 * Layer 2. Includes backend.h. */
#include "backend/backend.h"

void plumb_backend_destroy(struct plumb_backend **b)
{
    if (!*b)
        return;
    plumb_memory_fini(&(*b)->memory);
    (*b)->destroy(*b);
    *b = NULL;
}

plumb_status plumb_backend_set_dtype(struct plumb_backend *b, enum plumb_dtype dtype)
{
    PLUMB_REQUIRE(dtype == PLUMB_F32 || (dtype == PLUMB_BF16 && b->k.bf16.attention_work_count),
                  PLUMB_ERR_UNSUPPORTED, "dtype: %s is not supported on device: %s%s",
                  plumb_dtype_name(dtype), b->name,
                  dtype == PLUMB_BF16 ? "; use device: cuda" : "");
    b->dtype = dtype;
    if (dtype == PLUMB_BF16)
        b->name = "cuda bfloat16";
    return PLUMB_OK;
}

plumb_status plumb_backend_take(const struct plumb_backend *b, struct plumb_arena *a,
                                plumb_real **out, int64_t n, const char *name)
{
    struct plumb_tensor t = {.dtype = b->dtype, .rank = 1, .dim = {n}, .name = name};
    PLUMB_TRY(plumb_arena_take(a, &t));
    *out = t.data;
    return PLUMB_OK;
}

plumb_status plumb_backend_arena_alloc(struct plumb_backend *b, struct plumb_arena *a)
{
    PLUMB_REQUIRE(!a->base, PLUMB_ERR_ARG, "arena %s already has its memory",
                  a->name ? a->name : "?");
    PLUMB_TRY(plumb_memory_alloc_arena(b, a));
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

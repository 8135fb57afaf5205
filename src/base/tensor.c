/* tensor.c - sizes of tensors, and the arena that places tensors in one block of memory.
 * Layer 0. Includes tensor.h and num.h. */
#include "base/tensor.h"

#include <string.h>

#include "base/num.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif

#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#define REDZONE 256
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define REDZONE                           0
#endif

static const struct {
    int64_t size;
    const char *name;
} dtype[] = {
    [PLUMB_F32] = {4, "float32"}, [PLUMB_BF16] = {2, "bfloat16"}, [PLUMB_F16] = {2, "float16"},
    [PLUMB_I32] = {4, "int32"},   [PLUMB_I64] = {8, "int64"},     [PLUMB_F64] = {8, "float64"},
    [PLUMB_U8] = {1, "uint8"},
};

int64_t plumb_dtype_size(enum plumb_dtype t)
{
    return dtype[t].size;
}

const char *plumb_dtype_name(enum plumb_dtype t)
{
    return dtype[t].name;
}

int64_t plumb_tensor_count(const struct plumb_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++)
        if (!plumb_mul(&n, n, t->dim[i]))
            return -1;
    return n;
}

int64_t plumb_tensor_bytes(const struct plumb_tensor *t)
{
    int64_t n = plumb_tensor_count(t);
    return n >= 0 && plumb_mul(&n, n, dtype[t->dtype].size) ? n : -1;
}

bool plumb_arena_guards(enum plumb_place place)
{
    return REDZONE > 0 && place == PLUMB_HOST;
}

void plumb_arena_unguard(void *data, int64_t bytes, enum plumb_place place)
{
    if (place == PLUMB_HOST)
        ASAN_UNPOISON_MEMORY_REGION(data, (size_t)bytes);
}

static void note(struct plumb_arena *a, const char *name, int64_t bytes)
{
    int i = 0;
    while (i < a->notes && strcmp(a->note[i].name, name) != 0)
        i++;
    if (i == PLUMB_ARENA_NOTES)
        i--;
    else if (i == a->notes)
        a->note[a->notes++] = (struct plumb_arena_note){.name = name};
    a->note[i].bytes += bytes;
}

plumb_status plumb_arena_take(struct plumb_arena *a, struct plumb_tensor *t)
{
    const int64_t bytes = plumb_tensor_bytes(t);
    int64_t end;
    const int64_t at = plumb_ceil_div(a->used, PLUMB_ARENA_ALIGN) * PLUMB_ARENA_ALIGN;
    PLUMB_REQUIRE(bytes >= 0 && plumb_add(&end, at, bytes) && plumb_add(&end, end, REDZONE),
                  PLUMB_ERR_SHAPE,
                  "tensor %s: a dimension is negative, or the size overflows 64 bits", t->name);
    if (a->base) {
        PLUMB_REQUIRE(end <= a->cap, PLUMB_ERR_NOMEM,
                      "tensor %s needs %lld bytes, but arena %s has only %lld of %lld bytes left",
                      t->name, (long long)bytes, a->name ? a->name : "?",
                      (long long)(a->cap - a->used), (long long)a->cap);
        if (a->place == PLUMB_HOST) {
            ASAN_POISON_MEMORY_REGION(a->base + a->used, (size_t)(end - a->used));
            ASAN_UNPOISON_MEMORY_REGION(a->base + at, (size_t)bytes);
        }
    }
    if (!a->base)
        note(a, t->name, end - a->used);
    t->data = a->base ? a->base + at : NULL;
    t->place = a->place;
    a->used = end;
    a->peak = plumb_max_i64(a->peak, end);
    return PLUMB_OK;
}

plumb_status plumb_arena_take_f32(struct plumb_arena *a, float **out, int64_t n, const char *name)
{
    struct plumb_tensor t = {.dtype = PLUMB_F32, .rank = 1, .dim = {n}, .name = name};
    PLUMB_TRY(plumb_arena_take(a, &t));
    *out = (float *)t.data;
    return PLUMB_OK;
}

plumb_status plumb_arena_take_i32(struct plumb_arena *a, int32_t **out, int64_t n, const char *name)
{
    struct plumb_tensor t = {.dtype = PLUMB_I32, .rank = 1, .dim = {n}, .name = name};
    PLUMB_TRY(plumb_arena_take(a, &t));
    *out = (int32_t *)t.data;
    return PLUMB_OK;
}

void plumb_arena_reset(struct plumb_arena *a, int64_t mark)
{
    if (a->base && a->place == PLUMB_HOST && mark < a->used)
        ASAN_POISON_MEMORY_REGION(a->base + mark, (size_t)(a->used - mark));
    a->used = mark;
}

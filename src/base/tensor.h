/* tensor.h - a shape with a pointer, and the arena the pointer comes from.
 * Layer 0. Includes status.h.
 *
 * A tensor never owns memory. An arena owns every byte it hands out, until
 * plumb_arena_reset or the end of its memory. Nothing else frees tensor memory. */
#ifndef PLUMB_BASE_TENSOR_H
#define PLUMB_BASE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum plumb_dtype { PLUMB_F32, PLUMB_BF16, PLUMB_F16, PLUMB_I32, PLUMB_I64, PLUMB_F64, PLUMB_U8 };
enum plumb_place { PLUMB_HOST, PLUMB_DEVICE };
#define PLUMB_MAX_RANK 4

struct plumb_tensor {
    void *data; /* borrowed from an arena; row-major, no padding */
    enum plumb_dtype dtype;
    enum plumb_place place;
    int rank;
    int64_t dim[PLUMB_MAX_RANK];
    const char *name; /* static text, for messages */
};

int64_t plumb_dtype_size(enum plumb_dtype t); /* bytes of one element */
const char *plumb_dtype_name(enum plumb_dtype t);

/* Elements, or bytes, of t; -1 when a dimension is negative or the product leaves int64. */
int64_t plumb_tensor_count(const struct plumb_tensor *t);
int64_t plumb_tensor_bytes(const struct plumb_tensor *t);

static inline float *plumb_f32(const struct plumb_tensor *t)
{
    return (float *)t->data;
}
static inline int32_t *plumb_i32(const struct plumb_tensor *t)
{
    return (int32_t *)t->data;
}

/* Alignment of everything an arena hands out, in bytes. */
#define PLUMB_ARENA_ALIGN 256
#define PLUMB_ARENA_NOTES 64

struct plumb_arena {
    unsigned char *base; /* NULL: dry run, only `used`, `peak` and the notes move */
    int64_t cap, used, peak;
    enum plumb_place place;
    const char *name; /* its lifetime: param, grad, optim, act, kv, step, work */
    /* A dry run's bytes by tensor name, in order of first appearance; names beyond the room are
     * counted under the last one. */
    struct plumb_arena_note {
        const char *name;
        int64_t bytes;
    } note[PLUMB_ARENA_NOTES];
    int notes;
};

/* Points t->data at fresh, 256-byte aligned, uninitialised memory for the
 * dtype, rank and dim already in *t. PLUMB_ERR_NOMEM when it does not fit,
 * PLUMB_ERR_SHAPE when the size overflows. */
plumb_status plumb_arena_take(struct plumb_arena *a, struct plumb_tensor *t);
/* The same for n floats: *out = NULL in a dry run. */
plumb_status plumb_arena_take_f32(struct plumb_arena *a, float **out, int64_t n, const char *name);
plumb_status plumb_arena_take_i32(struct plumb_arena *a, int32_t **out, int64_t n,
                                  const char *name);
void plumb_arena_reset(struct plumb_arena *a, int64_t mark); /* mark: an earlier a->used */
/* Whether arenas of this place close what they have not handed out to the address sanitizer: then
 * no two of them may lie on the same memory. */
bool plumb_arena_guards(enum plumb_place place);
/* Memory that was an arena's and goes to somebody else: what was guarded of it no longer is. */
void plumb_arena_unguard(void *data, int64_t bytes, enum plumb_place place);

#endif

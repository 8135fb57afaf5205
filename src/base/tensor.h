/* tensor.h - tensors (a pointer with a shape and a dtype), and the arenas that hold their data.
 * Layer 0. Includes status.h.
 *
 * A tensor never owns memory: its data belongs to an arena, and stays valid until plumb_arena_reset
 * frees it or the memory of the arena is freed. */
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
    const char *name; /* static text, used in messages */
};

int64_t plumb_dtype_size(enum plumb_dtype t); /* bytes of one element */
const char *plumb_dtype_name(enum plumb_dtype t);

/* Return the number of elements, or the number of bytes, of t. Both return -1 if a dimension is
 * negative or the product overflows int64. */
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

/* Every tensor of an arena starts at an offset from `base` that is a multiple of PLUMB_ARENA_ALIGN
 * bytes. A dry run counts at most PLUMB_ARENA_NOTES different names of tensors. */
#define PLUMB_ARENA_ALIGN 256
#define PLUMB_ARENA_NOTES 64

/* An arena hands out tensors in order from one block of memory. It cannot free a single tensor: a
 * reset to a mark frees everything after that mark.
 *
 *   base                                     mark                      used             cap
 *    | tensor 0 | gap | tensor 1 | gap | ... | tensors freed by reset  | free           |
 *
 * Each tensor begins at a multiple of PLUMB_ARENA_ALIGN, so a gap may precede it. Builds with the
 * address sanitizer also leave 256 bytes after each tensor, which are poisoned in host memory. The
 * same code runs twice: a dry run without memory (base NULL) computes `used`, `peak` and the notes
 * (the bytes of each tensor name), then the block is allocated and the second run places the
 * tensors. */
struct plumb_arena {
    unsigned char *base; /* NULL in a dry run, which counts bytes without placing tensors */
    int64_t cap, used, peak;
    enum plumb_place place;
    /* name for messages, such as "act" or "kv"; the tensors of an arena have the same lifetime */
    const char *name;
    /* A dry run counts here the bytes of each tensor name, including the gaps before the tensors,
     * in the order of first appearance. When the table is full, further names are counted under the
     * last entry. */
    struct plumb_arena_note {
        const char *name;
        int64_t bytes;
    } note[PLUMB_ARENA_NOTES];
    int notes;
};

/* Points t->data at the next free bytes of the arena, enough for the dtype, rank and dim that are
 * already set in *t, and sets t->place. The memory is not initialised; it is aligned to 256 bytes
 * if `base` is. In a dry run t->data becomes NULL. Returns PLUMB_ERR_NOMEM if the tensor does not
 * fit, PLUMB_ERR_SHAPE if a dimension is negative or the size overflows. */
plumb_status plumb_arena_take(struct plumb_arena *a, struct plumb_tensor *t);
/* Take n floats (or n int32) and set *out to them; *out is NULL in a dry run. */
plumb_status plumb_arena_take_f32(struct plumb_arena *a, float **out, int64_t n, const char *name);
plumb_status plumb_arena_take_i32(struct plumb_arena *a, int32_t **out, int64_t n,
                                  const char *name);
/* Frees all tensors that were taken since a->used was equal to mark. */
void plumb_arena_reset(struct plumb_arena *a, int64_t mark);
/* Returns true if arenas in this kind of memory poison their unused bytes for the address
 * sanitizer. In that case two arenas must not share memory. */
bool plumb_arena_guards(enum plumb_place place);
/* Removes the address sanitizer's poison from memory that an arena no longer uses, so that other
 * code may use it. */
void plumb_arena_unguard(void *data, int64_t bytes, enum plumb_place place);

#endif

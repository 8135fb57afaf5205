/* memory.h - who has which part of a device's memory, and when: the books, and the one block that a
 * plan reserves.
 * Layer 2. Includes base/. */
#ifndef PLUMB_BACKEND_MEMORY_H
#define PLUMB_BACKEND_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/tensor.h"

struct plumb_backend;

/* When memory is needed. What two phases other than ALWAYS hold is never needed at the same time:
 * in a reserved block they lie on top of each other, and what a phase finds there when it begins
 * is undefined. */
enum plumb_phase {
    PLUMB_PHASE_ALWAYS,
    PLUMB_PHASE_ROLLOUT,
    PLUMB_PHASE_REWARD,
    PLUMB_PHASE_TRAIN,
    PLUMB_PHASES
};
extern const char *const plumb_phase_names[]; /* "always", "rollout", "reward", "train" */

/* One line of the table of memory. */
struct plumb_memory_row {
    const char *owner, *what; /* "policy", "packed weights"; static text */
    enum plumb_phase phase;
    bool beside; /* memory of the host that is none of the backend's: not in the sums */
    int64_t bytes;
};

struct plumb_memory_block; /* one allocation; private to memory.c */

/* The books of one backend. Zero-initialise; plumb_memory_fini. Everything is readable. */
struct plumb_memory {
    struct plumb_memory_row *row; /* of everything taken since the beginning, in that order */
    int64_t rows, most_rows;
    const char *owner; /* of what is taken next, and its phase */
    enum plumb_phase phase;
    int64_t held[PLUMB_PHASES]; /* bytes now, each rounded to where the next one may begin */
    int64_t most, calls;        /* the largest plumb_memory_bytes so far; allocations so far */
    int64_t outside;            /* bytes taken beside the reserved block */
    unsigned char *base;        /* the reserved block; NULL: none */
    int64_t size;
    struct plumb_memory_block *block;
    int64_t blocks, most_blocks;
};

/* What all that is held needs as one block: ALWAYS and the largest of the other phases. */
int64_t plumb_memory_bytes(const struct plumb_backend *b);

/* Whose and when everything is that b gives out from here on; returns what was said before. */
struct plumb_memory_scope {
    const char *owner; /* static text */
    enum plumb_phase phase;
};
struct plumb_memory_scope plumb_memory_enter(struct plumb_backend *b, const char *owner,
                                             enum plumb_phase phase);
void plumb_memory_leave(struct plumb_backend *b, struct plumb_memory_scope before);
/* A row for host memory that does not come from b. PLUMB_ERR_NOMEM. */
plumb_status plumb_memory_beside(struct plumb_backend *b, const char *what, int64_t bytes);

/* Takes one block of the device, which all later allocations are parts of; the books begin anew.
 * What does not fit is taken from the device on its own and counted in `outside`. Released when
 * everything has been, by plumb_memory_unreserve. Errors: those of the device. */
plumb_status plumb_memory_reserve(struct plumb_backend *b, int64_t bytes);
void plumb_memory_unreserve(struct plumb_backend *b);

/* The alloc and release of every backend. */
plumb_status plumb_memory_alloc(struct plumb_backend *b, void **out, int64_t bytes,
                                const char *what);
/* a->base = memory for all that was counted in a, with a row for each of its names. */
plumb_status plumb_memory_alloc_arena(struct plumb_backend *b, struct plumb_arena *a);
void plumb_memory_release(struct plumb_backend *b, void *data);
void plumb_memory_fini(struct plumb_memory *m);

#endif

/* memory.h - records device memory by owner and phase, and places allocations in one reserved
 * block.
 * Layer 2. Includes base/. */
#ifndef PLUMB_BACKEND_MEMORY_H
#define PLUMB_BACKEND_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/tensor.h"

struct plumb_backend;

/* The phase in which memory is needed. Memory of different phases, other than ALWAYS, is never
 * needed at the same time and overlaps in the reserved block. The contents of a phase's memory are
 * undefined when the phase begins. */
enum plumb_phase {
    PLUMB_PHASE_ALWAYS,
    PLUMB_PHASE_ROLLOUT,
    PLUMB_PHASE_REWARD,
    PLUMB_PHASE_TRAIN,
    PLUMB_PHASES
};
/* names of the phases: "always", "rollout", "reward", "train" */
extern const char *const plumb_phase_names[];

/* One row of the memory table that `plumb plan` prints. */
struct plumb_memory_row {
    const char *owner, *what; /* for example "policy" and "packed weights"; static text */
    enum plumb_phase phase;
    bool beside; /* host memory that the backend did not allocate; not part of the sums */
    int64_t bytes;
};

struct plumb_memory_block; /* one allocation; defined in memory.c */

/* The record of the device memory of one backend. Initialise it with zeros and release it with
 * plumb_memory_fini. Other code may read all fields. */
struct plumb_memory {
    /* all allocations since the start or the last plumb_memory_reserve, in order; including
     * released ones */
    struct plumb_memory_row *row;
    int64_t rows, most_rows;
    const char *owner; /* owner and phase of the next allocations */
    enum plumb_phase phase;
    /* bytes allocated now per phase, with the gaps that alignment and releases have left */
    int64_t held[PLUMB_PHASES];
    /* largest plumb_memory_bytes so far; number of allocations so far */
    int64_t most, calls;
    int64_t outside;     /* bytes allocated so far outside of the reserved block */
    unsigned char *base; /* the reserved block; NULL if there is none */
    int64_t size;
    struct plumb_memory_block *block;
    int64_t blocks, most_blocks;
};

/* Returns the size of a block that holds all current allocations: ALWAYS plus the largest other
 * phase. */
int64_t plumb_memory_bytes(const struct plumb_backend *b);

/* plumb_memory_enter sets the owner and the phase of b's next allocations and returns the previous
 * ones; plumb_memory_leave restores them. */
struct plumb_memory_scope {
    const char *owner; /* name of the owner; must be static text */
    enum plumb_phase phase;
};
struct plumb_memory_scope plumb_memory_enter(struct plumb_backend *b, const char *owner,
                                             enum plumb_phase phase);
void plumb_memory_leave(struct plumb_backend *b, struct plumb_memory_scope before);
/* Adds a row for host memory that b did not allocate. Fails with PLUMB_ERR_NOMEM if the table
 * cannot grow. */
plumb_status plumb_memory_beside(struct plumb_backend *b, const char *what, int64_t bytes);

/* Allocates one block of device memory, in which all later allocations are placed, and clears the
 * record. An allocation that does not fit is made separately and counted in `outside`. The caller
 * must release all allocations before plumb_memory_unreserve frees the block. Errors: those of the
 * device's allocator. */
plumb_status plumb_memory_reserve(struct plumb_backend *b, int64_t bytes);
void plumb_memory_unreserve(struct plumb_backend *b);

/* Allocates memory and records it; all backends use this as `alloc` (and _release as `release`). */
plumb_status plumb_memory_alloc(struct plumb_backend *b, void **out, int64_t bytes,
                                const char *what);
/* Allocates the memory that was counted in arena a, sets a->base, and adds a row for each name in
 * a. */
plumb_status plumb_memory_alloc_arena(struct plumb_backend *b, struct plumb_arena *a);
void plumb_memory_release(struct plumb_backend *b, void *data);
void plumb_memory_fini(struct plumb_memory *m);

#endif

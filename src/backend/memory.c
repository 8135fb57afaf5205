/* memory.c - records device memory by owner and phase, and places allocations in the reserved
 * block.
 * Layer 2. Includes backend.h, base/.
 *
 * The reserved block. Phases overlap, because only one of them is active at a time:
 *
 *     base                                                                  base + size
 *     | ALWAYS: weights, optimizer, ... -->        free      <-- ROLLOUT: KV pages, ... |
 *     |                                           free    <-- REWARD: reward model, ... |
 *     |                                                free    <-- TRAIN: activations ... |
 *
 * ALWAYS grows from the start of the block. Every other phase grows from the end of the block down.
 * plumb_memory_bytes is the size at which ALWAYS and the largest phase just fit. */
#include "backend/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/num.h"

const char *const plumb_phase_names[] = {"always", "rollout", "reward", "train"};

struct plumb_memory_block {
    void *data;
    int64_t end; /* held[phase] right after this allocation */
    enum plumb_phase phase;
    bool inside; /* whether the allocation lies inside the reserved block */
    /* true if its bytes are part of held[phase]; false if it was allocated outside of the reserved
     * block */
    bool counted;
};

enum { ALIGN = 256 };

static int64_t round_up(int64_t n, int64_t to)
{
    return plumb_ceil_div(n, to) * to;
}

/* Returns the alignment of an allocation in bytes: b->page if it has at least that size, else
 * ALIGN. */
static int64_t alignment(const struct plumb_backend *b, int64_t bytes)
{
    return bytes >= b->page ? b->page : ALIGN;
}

int64_t plumb_memory_bytes(const struct plumb_backend *b)
{
    const int64_t *held = b->memory.held;
    int64_t most = 0;
    for (int p = PLUMB_PHASE_ALWAYS + 1; p < PLUMB_PHASES; p++)
        most = plumb_max_i64(most, held[p]);
    return round_up(held[PLUMB_PHASE_ALWAYS] + most, b->page);
}

struct plumb_memory_scope plumb_memory_enter(struct plumb_backend *b, const char *owner,
                                             enum plumb_phase phase)
{
    const struct plumb_memory_scope before = {b->memory.owner, b->memory.phase};
    b->memory.owner = owner;
    /* When arenas have guard zones for the address sanitizer, phases cannot overlap: the guards of
     * one arena would poison the memory of another. All memory then counts as ALWAYS. */
    b->memory.phase = plumb_arena_guards(b->place) ? PLUMB_PHASE_ALWAYS : phase;
    return before;
}

void plumb_memory_leave(struct plumb_backend *b, struct plumb_memory_scope before)
{
    b->memory.owner = before.owner;
    b->memory.phase = before.phase;
}

static plumb_status grow(void **array, int64_t *most, int64_t n, size_t item)
{
    if (n < *most)
        return PLUMB_OK;
    const int64_t more = plumb_max_i64(64, 2 * *most);
    void *bigger = realloc(*array, (size_t)more * item);
    PLUMB_REQUIRE(bigger, PLUMB_ERR_NOMEM, "a table of %lld allocations", (long long)more);
    *array = bigger;
    *most = more;
    return PLUMB_OK;
}

static plumb_status add_row(struct plumb_memory *m, const char *what, int64_t bytes, bool beside)
{
    PLUMB_TRY(grow((void **)&m->row, &m->most_rows, m->rows, sizeof(*m->row)));
    m->row[m->rows++] = (struct plumb_memory_row){.owner = m->owner ? m->owner : "other",
                                                  .what = what ? what : "?",
                                                  .phase = m->phase,
                                                  .beside = beside,
                                                  .bytes = bytes};
    return PLUMB_OK;
}

plumb_status plumb_memory_beside(struct plumb_backend *b, const char *what, int64_t bytes)
{
    return add_row(&b->memory, what, bytes, true);
}

/* Returns the value of held[phase] after another allocation of `bytes` bytes in the current phase.
 * In ALWAYS an allocation starts at an aligned offset from the start of the block; in other phases
 * its start is at an aligned offset from the end. */
static int64_t held_with(const struct plumb_backend *b, int64_t bytes)
{
    const struct plumb_memory *m = &b->memory;
    const int64_t align = alignment(b, bytes), held = m->held[m->phase];
    if (m->phase == PLUMB_PHASE_ALWAYS)
        return round_up(round_up(held, align) + bytes, ALIGN);
    return round_up(held + bytes, align);
}

/* Returns the address of a new allocation in the reserved block; NULL if it does not fit or if
 * there is no block. */
static void *carve(const struct plumb_backend *b, int64_t bytes)
{
    const struct plumb_memory *m = &b->memory;
    const int64_t end = held_with(b, bytes);
    int64_t above = 0;
    if (!m->base)
        return NULL;
    const bool always = m->phase == PLUMB_PHASE_ALWAYS;
    for (int p = PLUMB_PHASE_ALWAYS + 1; p < PLUMB_PHASES; p++)
        above = plumb_max_i64(above, p == (int)m->phase ? end : m->held[p]);
    if ((always ? end : m->held[PLUMB_PHASE_ALWAYS]) + above > m->size)
        return NULL;
    if (always)
        return m->base + round_up(m->held[PLUMB_PHASE_ALWAYS], alignment(b, bytes));
    return m->base + (m->size - end);
}

static plumb_status take(struct plumb_backend *b, void **out, int64_t bytes, const char *what)
{
    struct plumb_memory *m = &b->memory;
    *out = NULL;
    PLUMB_REQUIRE(bytes >= 0 && bytes <= INT64_MAX / 4, PLUMB_ERR_NOMEM,
                  "%s: a size of %lld bytes, expected 0 to %lld", what ? what : "?",
                  (long long)bytes, (long long)(INT64_MAX / 4));
    PLUMB_TRY(grow((void **)&m->block, &m->most_blocks, m->blocks, sizeof(*m->block)));
    const int64_t want = plumb_max_i64(bytes, 1);
    void *data = carve(b, want);
    const bool inside = data != NULL;
    if (inside)
        plumb_arena_unguard(data, want, b->place);
    if (!inside && !b->dry)
        PLUMB_TRY(b->take(b, &data, bytes, what));
    if (inside || !m->base)
        m->held[m->phase] = held_with(b, want);
    else
        m->outside += want;
    m->block[m->blocks++] =
        (struct plumb_memory_block){data, m->held[m->phase], m->phase, inside, inside || !m->base};
    m->most = plumb_max_i64(m->most, plumb_memory_bytes(b));
    m->calls++;
    *out = data;
    return PLUMB_OK;
}

plumb_status plumb_memory_alloc(struct plumb_backend *b, void **out, int64_t bytes,
                                const char *what)
{
    *out = NULL;
    PLUMB_TRY(add_row(&b->memory, what, bytes, false));
    return take(b, out, bytes, what);
}

plumb_status plumb_memory_alloc_arena(struct plumb_backend *b, struct plumb_arena *a)
{
    void *data = NULL;
    for (int i = 0; i < a->notes; i++)
        PLUMB_TRY(add_row(&b->memory, a->note[i].name, a->note[i].bytes, false));
    PLUMB_TRY(take(b, &data, a->used, a->name));
    a->base = (unsigned char *)data;
    return PLUMB_OK;
}

void plumb_memory_release(struct plumb_backend *b, void *data)
{
    struct plumb_memory *m = &b->memory;
    int64_t i = 0;
    if (!data)
        return;
    while (i < m->blocks && m->block[i].data != data)
        i++;
    assert(i < m->blocks);
    const struct plumb_memory_block gone = m->block[i];
    m->block[i] = m->block[--m->blocks];
    if (!gone.inside)
        b->give(b, data);
    if (!gone.counted)
        return;
    /* end of the phase's last remaining allocation; gaps below it are not reused */
    int64_t end = 0;
    for (int64_t j = 0; j < m->blocks; j++)
        if (m->block[j].counted && m->block[j].phase == gone.phase)
            end = plumb_max_i64(end, m->block[j].end);
    m->held[gone.phase] = end;
}

plumb_status plumb_memory_reserve(struct plumb_backend *b, int64_t bytes)
{
    struct plumb_memory *m = &b->memory;
    void *base = NULL;
    PLUMB_REQUIRE(
        !m->base, PLUMB_ERR_ARG,
        "device memory is already reserved on this backend, expected one reservation at a time");
    const int64_t size = round_up(plumb_max_i64(bytes, 1), b->page);
    PLUMB_TRY(b->take(b, &base, size, "planned memory"));
    m->base = (unsigned char *)base;
    m->size = size;
    m->rows = m->most = m->calls = m->outside = 0;
    memset(m->held, 0, sizeof(m->held));
    for (int64_t i = 0; i < m->blocks; i++)
        m->block[i].counted = false;
    return PLUMB_OK;
}

void plumb_memory_unreserve(struct plumb_backend *b)
{
    struct plumb_memory *m = &b->memory;
    for (int64_t i = 0; i < m->blocks; i++)
        assert(!m->block[i].inside);
    if (m->base)
        b->give(b, m->base);
    m->base = NULL;
    m->size = 0;
}

void plumb_memory_fini(struct plumb_memory *m)
{
    free(m->row);
    free(m->block);
    *m = (struct plumb_memory){0};
}

/* missing.c - says which completions have no finite reward, and which source gave none.
 * Layer 5. Includes stage/align.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "stage/align.h"

enum { SHOWN = 8, FAULT_BYTES = 600 };

/* Every rank knows every reward. Only the rank that scored a completion knows which reward source
 * failed and why. */
plumb_status plumb_align_missing(struct plumb_align_run *a, char *out, int64_t size)
{
    plumb_comm *comm = a->t->comm;
    const int ranks = plumb_comm_size(comm);
    const struct plumb_scoreboard *b = a->decision.board;
    plumb_status st = PLUMB_OK;
    char mine[FAULT_BYTES], *all = calloc((size_t)ranks, FAULT_BYTES);
    int64_t *count = calloc((size_t)ranks, sizeof(*count)), at = 0, found = 0;
    out[0] = '\0';
    if (!all || !count)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "faults of %d ranks", ranks);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    snprintf(mine, sizeof(mine), "%s", plumb_rewards_fault(a->rewards));
    PLUMB_TRY_GOTO(
        st,
        plumb_comm_allgather(comm, all, (int64_t)ranks * FAULT_BYTES, count, mine, sizeof(mine)),
        done);
    for (int64_t i = 0; i < b->n && at < size; i++) {
        if (b->kind[i] == PLUMB_ENTRY_ABSENT || isfinite(b->reward[i]))
            continue;
        if (found++ < SHOWN)
            at += snprintf(out + at, (size_t)(size - at), "%sprompt record %lld sample %lld",
                           at ? ", " : "", (long long)a->part.record[i / b->group_size],
                           (long long)(i % b->group_size));
    }
    if (found > SHOWN && at < size)
        at += snprintf(out + at, (size_t)(size - at), " and %lld more", (long long)(found - SHOWN));
    for (int r = 0; r < ranks && at < size; r++) {
        const char *fault = all + (int64_t)r * FAULT_BYTES;
        if (*fault)
            at += snprintf(out + at, (size_t)(size - at), "; %s", fault);
    }
done:
    free(all);
    free(count);
    return st;
}

/* missing.c - lists the completions without a finite reward, and the reward sources that gave none.
 * Layer 5. Includes stage/stages.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "stage/stages.h"

enum { SHOWN = 8, FAULT_BYTES = 600 };

/* All rewards are known on every rank. But only the rank that scored a completion has the texts
 * that say which reward source failed and why, so the ranks exchange them. */
plumb_status plumb_align_missing(const struct plumb_decision *d,
                                 const struct plumb_align_inputs *in,
                                 const struct plumb_reward_stage *reward, char *out, int64_t size)
{
    plumb_comm *comm = in->t->comm;
    const int ranks = plumb_comm_size(comm);
    const struct plumb_scoreboard *b = d->board;
    plumb_status st = PLUMB_OK;
    char mine[FAULT_BYTES], *all = calloc((size_t)ranks, FAULT_BYTES);
    int64_t *count = calloc((size_t)ranks, sizeof(*count)), at = 0, found = 0;
    out[0] = '\0';
    if (!all || !count)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__,
                           "reasons for missing rewards of %d ranks", ranks);
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    snprintf(mine, sizeof(mine), "%s", plumb_rewards_fault(reward->sources));
    PLUMB_TRY_GOTO(
        st,
        plumb_comm_allgather(comm, all, (int64_t)ranks * FAULT_BYTES, count, mine, sizeof(mine)),
        done);
    for (int64_t entry = 0; entry < b->n && at < size; entry++) {
        if (b->kind[entry] == PLUMB_ENTRY_ABSENT || isfinite(b->reward[entry]))
            continue;
        if (found++ < SHOWN)
            at += snprintf(out + at, (size_t)(size - at), "%sprompt record %lld sample %lld",
                           at ? ", " : "",
                           (long long)in->part->record_of_prompt[plumb_scoreboard_prompt(b, entry)],
                           (long long)plumb_scoreboard_sample(b, entry));
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

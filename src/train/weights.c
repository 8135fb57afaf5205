/* weights.c - compares the weights of all ranks by their fingerprints.
 * Layer 5. Includes train/{masters,weights}.h. */
#include "train/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "train/masters.h"

/* Returns the value that most ranks have; of equally frequent values, that of the lowest rank. */
static uint64_t of_most(const uint64_t *value, int n)
{
    uint64_t best = value[0];
    int most = 0;
    for (int i = 0; i < n; i++) {
        int same = 0;
        for (int j = 0; j < n; j++)
            same += value[j] == value[i];
        if (same > most) {
            most = same;
            best = value[i];
        }
    }
    return best;
}

static plumb_status compare(const uint64_t *value, int n)
{
    const uint64_t expected = of_most(value, n);
    char list[256] = "";
    int at = 0, other = 0, first = -1;
    for (int r = 0; r < n; r++) {
        if (value[r] == expected)
            continue;
        first = first < 0 ? r : first;
        if (at < (int)sizeof(list) - 16)
            at += snprintf(list + at, sizeof(list) - (size_t)at, "%s%d", other ? ", " : "", r);
        other++;
    }
    PLUMB_REQUIRE(other == 0, PLUMB_ERR_NUMERIC,
                  "rank%s %s: weights %016" PRIx64 ", but the other ranks have %016" PRIx64
                  "; the run ends before they mix (bad memory? resume from the last checkpoint)",
                  other == 1 ? "" : "s", list, value[first], expected);
    return PLUMB_OK;
}

/* If the masters are divided among the ranks, computes their fingerprint and fails if it is not the
 * one after the last update. Collective. */
static plumb_status check_masters(const plumb_model *m)
{
    struct plumb_masters *masters = plumb_masters_of(m);
    uint64_t now = m->fingerprint;
    if (masters)
        PLUMB_TRY(plumb_masters_hash(masters, &now));
    PLUMB_REQUIRE(now == m->fingerprint, PLUMB_ERR_NUMERIC,
                  "the ranks' master weights are %016" PRIx64
                  " in memory, but the last update left %016" PRIx64
                  ": something else wrote to them (bad memory? resume from the last checkpoint)",
                  now, m->fingerprint);
    return PLUMB_OK;
}

plumb_status plumb_weights_agree(uint64_t *out, const plumb_model *m, plumb_comm *comm)
{
    const int n = plumb_comm_size(comm);
    uint64_t mine = 0, bits = 0;
    plumb_status st = PLUMB_OK;
    uint64_t *value = calloc((size_t)n, sizeof(*value));
    int64_t *count = calloc((size_t)n, sizeof(*count));
    if (!value || !count)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, agree, "fingerprints of %d ranks", n);
    PLUMB_TRY_GOTO(st, plumb_model_hash(m, &mine), agree);
    if (mine != m->fingerprint)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NUMERIC, agree,
                        "rank %d: weights are %016" PRIx64
                        " in memory, but the last update left %016" PRIx64
                        ": something else wrote to them",
                        plumb_comm_rank(comm), mine, m->fingerprint);
    /* If the masters are divided among the ranks, the fingerprint is the same on all ranks. So
     * held_hash, the hash of this rank's own copy of the weights, is compared, too. */
    bits = m->masters ? mine ^ m->held_hash : mine;
agree:
    PLUMB_TRY_GOTO(st, plumb_comm_agree(comm, st), done);
    PLUMB_TRY_GOTO(
        st,
        plumb_comm_allgather(comm, value, n * (int64_t)sizeof(*value), count, &bits, sizeof(bits)),
        done);
    PLUMB_TRY_GOTO(st, compare(value, n), done);
    PLUMB_TRY_GOTO(st, check_masters(m), done);
    *out = mine;
done:
    free(value);
    free(count);
    return st;
}

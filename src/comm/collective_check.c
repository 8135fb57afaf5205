/* collective_check.c - the collective check: before each collective, the ranks compare their calls.
 * Layer 1. Includes comm/ and base/ only.
 *
 * It is on by default in debug builds. One small allreduce compares a hash of the call. The hash is
 * below 2^53, so a double holds it exactly. The calls themselves are sent only if the hashes
 * differ. A rank that left out a collective is listed with the next collective that it calls,
 * which has the same number as the one that the other ranks call. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/comm_impl.h"

/* Describes the call that one rank makes: its number, size, name, details and caller. All members
 * must be equal on all ranks. */
struct entry {
    int64_t call, n;
    char doing[24], detail[24], site[PLUMB_SITE_TEXT];
};

static uint64_t hash_of(const void *bytes, size_t n)
{
    const unsigned char *b = bytes;
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 0x100000001b3u;
    return h >> 12;
}

/* Appends the call of rank r and the ranks that make the same call, as in "rank 3 and 2 others:
 * ...", to text (cap bytes). Sets listed[k] = -1 for these ranks. Returns the length of the added
 * text. */
static size_t put_group(char *text, size_t cap, const struct entry *all, int64_t *listed, int size,
                        int r)
{
    const struct entry *a = &all[r];
    int others = -1;
    for (int k = r; k < size; k++)
        if (memcmp(&all[k], a, sizeof(*a)) == 0) {
            listed[k] = -1;
            others++;
        }
    char more[32] = "", n[32] = "";
    if (others > 0)
        snprintf(more, sizeof(more), " and %d other%s", others, others > 1 ? "s" : "");
    if (a->n >= 0)
        snprintf(n, sizeof(n), " of %lld", (long long)a->n);
    const int len = snprintf(text, cap, "%s rank %d%s: %s%s%s%s (call %lld%s%s)", r ? ";" : "", r,
                             more, a->doing, n, a->detail[0] ? ", " : "", a->detail,
                             (long long)a->call, a->site[0] ? ", " : "", a->site);
    return len < 0 ? 0 : (size_t)len;
}

/* Fails with a message that lists the calls of all ranks, as many as fit. */
static plumb_status list_calls(plumb_comm *c, const struct entry *mine)
{
    const int64_t bytes = (int64_t)sizeof(*mine);
    char text[900] = "";
    size_t len = 0;
    plumb_status st = PLUMB_OK;
    struct entry *all = calloc((size_t)c->size, sizeof(*all));
    int64_t *count = calloc((size_t)c->size, sizeof(*count));
    if (!all || !count)
        PLUMB_FAIL_GOTO(st, PLUMB_ERR_NOMEM, fail, "the calls of %d ranks for the collective check",
                        c->size);
    PLUMB_TRY_GOTO(st, plumb_coll_allgather(c, all, c->size * bytes, count, mine, bytes), fail);
    for (int r = 0; r < c->size && len < sizeof(text); r++)
        if (count[r] >= 0)
            len += put_group(text + len, sizeof(text) - len, all, count, c->size, r);
    PLUMB_FAIL_GOTO(st, PLUMB_ERR_COMM, fail, "the ranks make different calls:%s", text);
fail:
    free(all);
    free(count);
    return st;
}

plumb_status plumb_collective_check(plumb_comm *c, const struct plumb_args *args)
{
    const struct plumb_here *here = &c->heartbeat.here;
    struct entry mine;
    memset(&mine, 0, sizeof(mine)); /* the padding is hashed, too */
    mine.call = here->call;
    mine.n = args->n;
    snprintf(mine.doing, sizeof(mine.doing), "%s", here->doing);
    if (args->root >= 0)
        snprintf(mine.detail, sizeof(mine.detail), "root %d", args->root);
    else if (args->op)
        snprintf(mine.detail, sizeof(mine.detail), "%s", args->op);
    plumb_site_text(mine.site, here->file, here->line);

    const double hash = (double)hash_of(&mine, sizeof(mine));
    double ends[2] = {hash,
                      -hash}; /* after the allreduce: the smallest hash, and minus the largest */
    PLUMB_TRY(plumb_coll_allreduce(c, ends, 2, PLUMB_MIN));
    if (ends[0] == -ends[1])
        return PLUMB_OK;
    const plumb_status st = list_calls(c, &mine);
    c->broken = true; /* every rank sets it, because every rank sees the difference */
    return plumb_pass_at(st, __FILE__, __LINE__, "plumb_collective_check");
}

void plumb_comm_check_calls(plumb_comm *c, bool on)
{
    c->check_calls = on;
}

/* shards.c - divides a vector among the ranks: sets the borders of the buckets and the runs of a
 * rank.
 * Layer 5. Includes train/shards.h. */
#include "train/shards.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

plumb_status plumb_shards_init(struct plumb_shards *s, const plumb_comm *comm,
                               const int64_t *border, int64_t buckets)
{
    const size_t n = (size_t)buckets;
    *s = (struct plumb_shards){.buckets = buckets};
    s->border = malloc((n + 1) * sizeof(*s->border));
    s->run = malloc(n * sizeof(*s->run));
    if (!s->border || !s->run) {
        plumb_shards_fini(s);
        PLUMB_FAIL(PLUMB_ERR_NOMEM, "shards of %lld buckets", (long long)buckets);
    }
    memcpy(s->border, border, (n + 1) * sizeof(*border));
    for (int64_t k = 0; k < buckets; k++) {
        assert(border[k] % PLUMB_SHARD_BLOCK == 0 && border[k] <= border[k + 1]);
        const struct plumb_range own =
            plumb_comm_shard(comm, border[k + 1] - border[k], plumb_comm_rank(comm));
        s->run[k] = (struct plumb_shard_run){border[k] + own.begin, border[k] + own.end, s->count};
        s->count += own.end - own.begin;
    }
    return PLUMB_OK;
}

void plumb_shards_fini(struct plumb_shards *s)
{
    free(s->border);
    free(s->run);
    *s = (struct plumb_shards){0};
}

plumb_status plumb_shards_gather(const struct plumb_shards *s, plumb_comm *comm, float *x,
                                 enum plumb_place place)
{
    for (int64_t k = 0; k < s->buckets; k++)
        PLUMB_TRY(plumb_comm_allgather_shards(comm, x + s->border[k],
                                              s->border[k + 1] - s->border[k], place));
    return PLUMB_OK;
}

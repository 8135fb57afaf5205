/* shards.h - which elements of a vector a rank owns. The vector is divided into buckets, and a rank
 * owns one contiguous range ("run") of blocks of PLUMB_SHARD_BLOCK elements in every bucket. Layer
 * 5. Includes comm/.
 *
 *     vector   |      bucket 0       |      bucket 1       | bucket 2  |     buckets are exchanged
 *     runs     | r0  | r1  | r2 | r3 | r0  | r1  | r2 | r3 |r0|r1|r2|r3|     one by one
 *     shard of rank 1:  | run 0 | run 1 | run 2 |                            packed, without gaps
 *
 * With W ranks, a rank sends (W-1)/W of the elements of a bucket in an exchange, so exchanging
 * bucket by bucket sends no more than one exchange of the whole vector. */
#ifndef PLUMB_TRAIN_SHARDS_H
#define PLUMB_TRAIN_SHARDS_H

#include "comm/comm.h"

/* A run: elements [begin, end) of the vector. In the rank's shard, these elements are stored from
 * index `at` on. */
struct plumb_shard_run {
    int64_t begin, end, at;
};

struct plumb_shards {
    int64_t buckets;
    int64_t *border;             /* (buckets + 1,) ascending; all but the last are multiples of
                                  * PLUMB_SHARD_BLOCK; the last is the length of the vector */
    struct plumb_shard_run *run; /* (buckets,) this rank's runs; a run may be empty */
    int64_t count;               /* elements of this rank's shard */
};

/* Divides a vector into buckets at border (buckets + 1,), which is copied. Not collective.
 * PLUMB_ERR_NOMEM. */
plumb_status plumb_shards_init(struct plumb_shards *s, const plumb_comm *comm,
                               const int64_t *border, int64_t buckets);
void plumb_shards_fini(struct plumb_shards *s);
/* Sends every rank's shard of x (border[buckets],) to all ranks, bucket by bucket. Collective. */
plumb_status plumb_shards_gather(const struct plumb_shards *s, plumb_comm *comm, float *x,
                                 enum plumb_place place);

/* Returns the part of run k of this rank's shard that lies in [begin, end) of the vector. If there
 * is no such part, the result has begin == end. */
static inline struct plumb_shard_run plumb_shards_cut(const struct plumb_shards *s, int64_t k,
                                                      int64_t begin, int64_t end)
{
    const struct plumb_shard_run *r = &s->run[k];
    const int64_t from = begin > r->begin ? begin : r->begin, to = end < r->end ? end : r->end;
    return (struct plumb_shard_run){from, to > from ? to : from, r->at + from - r->begin};
}

#endif

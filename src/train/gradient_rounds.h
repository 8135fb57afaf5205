/* gradient_rounds.h - the sharded gradient: a ring of buffers for the micro-batch that runs, and
 * sums of this rank's shard. Layer 5, private to train/gradient*.c. Includes
 * train/gradient_state.h, train/shards.h.
 *
 * The backward writes the parts of the vector (the layers) from the last to the first. Neighbouring
 * parts form a bucket; a bucket is exchanged as soon as it is complete, and its buffer is then used
 * for another bucket. Part borders are multiples of 64 elements, bucket borders multiples of
 * PLUMB_SHARD_BLOCK. So the backward of a bucket also computes a few elements before the bucket's
 * border (carry). These elements belong to the bucket below and are copied to its buffer.
 *
 *     vector   |   part 0    | part 1 | part 2 | part 3 | part 4 |
 *     bucket   |        0        |     1     |     2     |   3   |      borders on blocks
 *     buffer   |      edge       |  ring 0   |  ring 1   |ring 0 |
 *              |<--- computed -->|carry|
 *
 * If the head is tied to the embedding, the edge buffer holds bucket 0 (the embedding) from the
 * start of the backward. If not, the edge buffer first holds the last bucket (the head), and bucket
 * 0 at the end. */
#ifndef PLUMB_TRAIN_GRADIENT_ROUNDS_H
#define PLUMB_TRAIN_GRADIENT_ROUNDS_H

#include "train/gradient_state.h"
#include "train/shards.h"

enum { PLUMB_ROUND_EDGE, PLUMB_ROUND_RING, PLUMB_ROUND_BUFFERS = 3 };

struct plumb_bucket {
    int64_t begin, end; /* one or more parts: the elements that the backward writes here */
    int buffer;
    bool open; /* the buffer holds this bucket: elements from begin to the bucket's upper border */
};

/* The state of the running round. NONE: no round runs. ALONE: nothing was exchanged yet. EXCHANGE:
 * the ranks have begun to exchange buckets. */
enum plumb_round_state {
    PLUMB_ROUND_NONE,
    PLUMB_ROUND_ALONE,
    PLUMB_ROUND_EXCHANGE,
    PLUMB_ROUND_FAILED /* all ranks know that one of them failed before the exchange */
};

struct plumb_rounds {
    struct plumb_shards shards;  /* the buckets' borders, and this rank's runs */
    struct plumb_bucket *bucket; /* (shards.buckets,) */
    float *buffer[PLUMB_ROUND_BUFFERS];
    int64_t size[PLUMB_ROUND_BUFFERS]; /* in floats */
    int n_stored;
    /* (n_stored,) sums over one or more rounds, each (shards.count,) on the device */
    float **stored;
    /* (shards.buckets,) the buffer of each bucket; several buckets have the same buffer */
    float **scratch;
    /* state of the running step */
    int64_t rounds, at; /* number of rounds of the step; index of the running round */
    /* state of the running round */
    enum plumb_round_state state;
    bool nothing; /* this rank has no micro-batch in this round */
    bool alone;   /* plumb_gradient_alone runs: nothing is exchanged */
    /* (count,) host: receives a copy of the micro-batch's gradient; NULL if no copy is requested */
    float *keep;
    int64_t next; /* the highest bucket that is not complete yet */
    /* the bucket whose exchange has begun and is not complete; -1 if there is none */
    int64_t in_flight;
};

/* Divides the vector of a gradient among the ranks, as plumb_rounds_init does. The caller owns
 * *out. Not collective. PLUMB_ERR_NOMEM. */
plumb_status plumb_rounds_divide(struct plumb_shards *out, const plumb_comm *comm,
                                 const struct plumb_gradient_parts *parts);
/* Allocates *g->rounds for the parts of the vector. Collective. One rank may fail while the others
 * succeed. */
plumb_status plumb_rounds_init(struct plumb_gradient *g, const struct plumb_gradient_parts *parts);
void plumb_rounds_fini(struct plumb_gradient *g);
/* Runs the rounds of a step; in a round, each rank runs at most one micro-batch. If any rank asks
 * for a pause (g->pause), stops before the next round, sets g->paused and returns PLUMB_OK.
 * Collective; if one rank fails, all ranks return a failure. */
plumb_status plumb_rounds_run(struct plumb_gradient *g, int64_t micro_batches,
                              plumb_micro_batch_fn *fn, void *arg);
/* The implementations of plumb_gradient_place, plumb_gradient_final, plumb_gradient_alone and
 * plumb_gradient_gather (gradient.h) for a sharded gradient. */
plumb_status plumb_rounds_place(struct plumb_gradient *g, float **grad, int64_t begin, int64_t end);
plumb_status plumb_rounds_final(struct plumb_gradient *g, int64_t from);
plumb_status plumb_rounds_alone(struct plumb_gradient *g, float *out, int64_t micro_batch,
                                plumb_micro_batch_fn *fn, void *arg,
                                double value[PLUMB_MICRO_BATCH_VALUES]);
plumb_status plumb_rounds_gather(struct plumb_gradient *g, float *out);

#endif

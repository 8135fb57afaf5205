/* gradient_rounds.h - the sharded gradient: a ring of buffers for the micro-batch that runs, and
 * sums of this rank's shard. Layer 5, private to train/gradient*.c. Includes
 * train/gradient_state.h, train/shards.h.
 *
 * The backward writes the parts of the vector (the layers) from the last to the first. Neighbouring
 * parts form a bucket; a bucket is exchanged as soon as it is complete, and its buffer is then used
 * for another bucket. Part borders are multiples of 64 elements, bucket borders multiples of
 * PLUMB_SHARD_BLOCK. So the backward of a bucket also computes the few elements before the bucket's
 * border (carry). They are copied to the buffer of the bucket below, to which they belong.
 *
 *     vector   |   part 0    | part 1 | part 2 | part 3 | part 4 |
 *     bucket   |        0        |     1     |     2     |   3   |      borders on blocks
 *     buffer   |      edge       |  ring 0   |  ring 1   |ring 0 |
 *              |<--- computed -->|carry|
 *
 * The edge buffer has bucket 0 (the embedding) from the start of the backward if the head is tied
 * to it. If not, it has the last bucket (the head) first, and bucket 0 at the end. */
#ifndef PLUMB_TRAIN_GRADIENT_ROUNDS_H
#define PLUMB_TRAIN_GRADIENT_ROUNDS_H

#include "train/gradient_state.h"
#include "train/shards.h"

enum { PLUMB_ROUND_EDGE, PLUMB_ROUND_RING, PLUMB_ROUND_BUFFERS = 3 };

struct plumb_bucket {
    int64_t begin, end; /* the parts: what the backward of this bucket writes */
    int buffer;
    bool open; /* the buffer holds this bucket: its elements [begin, border above) */
};

/* How far the running round is. NONE: no round runs. ALONE: nothing was exchanged yet. EXCHANGE:
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
    float **stored;  /* (n_stored,) sums of rounds, each (shards.count,) on the device */
    float **scratch; /* (shards.buckets,) buffer of each bucket; buckets share buffers */
    /* the step */
    int64_t rounds, at; /* number of rounds; the running one */
    /* the running round */
    enum plumb_round_state state;
    bool nothing;      /* this rank has no micro-batch in it */
    bool alone;        /* nothing is exchanged at all */
    float *keep;       /* host: (count,) gets the micro-batch's gradient; NULL if nobody asks */
    int64_t next;      /* the highest bucket that is not complete yet */
    int64_t in_flight; /* the bucket whose exchange is enqueued; -1 if there is none */
};

/* Divides the vector of a gradient among the ranks, as plumb_rounds_init does. The caller owns
 * *out. Not collective. PLUMB_ERR_NOMEM. */
plumb_status plumb_rounds_divide(struct plumb_shards *out, const plumb_comm *comm,
                                 const struct plumb_gradient_parts *parts);
/* Allocates *g->rounds for the parts of the vector. Collective, but a rank may fail alone. */
plumb_status plumb_rounds_init(struct plumb_gradient *g, const struct plumb_gradient_parts *parts);
void plumb_rounds_fini(struct plumb_gradient *g);
/* Runs the rounds of a step; in a round, each rank runs at most one micro-batch. Stops before the
 * next round, with PLUMB_OK and g->paused, if the ranks agree to pause. Collective: one rank's
 * failure is every rank's. */
plumb_status plumb_rounds_run(struct plumb_gradient *g, int64_t micro_batches,
                              plumb_micro_batch_fn *fn, void *arg);
/* These do for a sharded gradient what plumb_gradient_place, plumb_gradient_final,
 * plumb_gradient_alone and plumb_gradient_gather (gradient.h) describe. */
plumb_status plumb_rounds_place(struct plumb_gradient *g, float **grad, int64_t begin, int64_t end);
plumb_status plumb_rounds_final(struct plumb_gradient *g, int64_t from);
plumb_status plumb_rounds_alone(struct plumb_gradient *g, float *out, int64_t micro_batch,
                                plumb_micro_batch_fn *fn, void *arg,
                                double value[PLUMB_MICRO_BATCH_VALUES]);
plumb_status plumb_rounds_gather(struct plumb_gradient *g, float *out);

#endif

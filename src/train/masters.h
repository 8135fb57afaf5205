/* masters.h - the float32 masters of a model as shares of the ranks, beside its bfloat16 weights.
 * Layer 5. Includes comm/, config/, model/, train/shards.h.
 *
 * With train.shard: gradients in bfloat16, a rank has the masters of its shard only, as it has the
 * moments and the sums of gradients. AdamW updates them; rounded, they are gathered:
 *
 *     masters  | own run of bucket 0 | own run of bucket 1 | ..            float32, shards.count
 *                      | rounded             | rounded
 *     packed   | r0 | r1 | r2 | r3 | r0 | r1 | r2 | r3 | ..                bfloat16, on every rank
 *     w        | vectors and learned positions                            float32, on every rank
 *
 * In float32 the computing weights are the masters, so there is nothing to divide. An adapter's
 * masters are small and stay whole.
 *
 * The fingerprint is that of the whole vector: each rank hashes the blocks of its shard, and the
 * list of all blocks' hashes is hashed. It depends neither on the number of ranks nor on the way
 * the masters are kept. */
#ifndef PLUMB_TRAIN_MASTERS_H
#define PLUMB_TRAIN_MASTERS_H

#include "comm/comm.h"
#include "config/config.h"
#include "model/model.h"
#include "train/shards.h"

/* The masters of one model. The struct must not move: the model borrows `hook`. */
struct plumb_masters {
    struct plumb_model_masters hook; /* for plumb_model_open_divided */
    const struct plumb_config *cfg;  /* borrowed, as are comm, backend and model */
    plumb_comm *comm;
    struct plumb_backend *backend;
    const plumb_model *model;   /* whose masters these are; NULL until it is opened */
    struct plumb_shards shards; /* the division of the trained vector; that of the gradient, too */
    float *w;                   /* (shards.count,) device: this rank's masters */
    uint64_t *hash_device;      /* (blocks of the shard,) device: their hashes */
    uint64_t *hash, *gathered;  /* (blocks of the vector,) host: by index; in the order of ranks */
    int64_t *bytes;             /* (world_size,) host */
    /* (shards.buckets,) device: memory for each bucket, which reads overwrite; borrowed. The owner
     * sets it before the first read (plumb_gradient_scratch); or it is that of `like`. */
    float *const *scratch;
    const struct plumb_masters *like; /* borrowed; may be NULL */
    int64_t at;  /* rank 0: the bucket in scratch since the last read; -1 if none */
    bool failed; /* a read has failed, on all ranks */
    bool listed; /* `hash` has the hashes of all blocks; rank 0 compares each block that it reads */
};

/* Returns true if a run keeps the masters of the model that it trains as shares of the ranks.
 * adapter: it trains an adapter. */
bool plumb_masters_wanted(const struct plumb_config *cfg, const struct plumb_backend *b,
                          bool adapter);
/* Prepares m for plumb_model_open_divided. Allocates nothing. */
void plumb_masters_init(struct plumb_masters *m, const struct plumb_config *cfg, plumb_comm *comm,
                        struct plumb_backend *backend);
void plumb_masters_fini(struct plumb_masters *m);
/* Returns the masters of a model, or NULL if they are no shares. */
struct plumb_masters *plumb_masters_of(const plumb_model *m);

/* Rounds the masters to m's bfloat16 weights on all ranks, and sets its fingerprint. m is the model
 * of the masters. Call it after an update. Collective: one rank's failure is every rank's. */
plumb_status plumb_masters_update(struct plumb_masters *s, plumb_model *m);
/* Sets *hash to the fingerprint of the masters as they are in memory. Collective. */
plumb_status plumb_masters_hash(struct plumb_masters *s, uint64_t *hash);
/* Copies the masters of `from` to those of `to`, which is divided in the same way. Not collective.
 */
plumb_status plumb_masters_copy(struct plumb_masters *to, const struct plumb_masters *from);

/* Ends what rank 0 does with the weights of m (plumb_model_save, _saved_hash, _each): the other
 * ranks call it meanwhile, and send their shares, bucket by bucket, until rank 0 calls it. Rank 0
 * calls it after a failure, too. st: this rank's status, which it returns unless the reads failed.
 * Before the first read, all ranks check that their shares in memory have the model's fingerprint.
 * After each read, rank 0 compares the hash of each block with the hash that the owner of the block
 * computed: PLUMB_ERR_NUMERIC names the owner. Does nothing if the masters are no shares.
 * Collective, with rank 0's reads. */
plumb_status plumb_masters_finish(const plumb_model *m, plumb_status st);

#endif

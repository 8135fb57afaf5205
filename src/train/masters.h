/* masters.h - the float32 master weights ("masters") of a bfloat16 model, divided among the ranks.
 * Layer 5. Includes comm/, config/, model/, train/shards.h.
 *
 * With train.shard: gradients in bfloat16, a rank has the masters of its own shard only, just as it
 * has the moments and the gradient sums of this shard only. AdamW updates the masters. The ranks
 * then round them to bfloat16 and gather the rounded weights:
 *
 *     masters  | own run of bucket 0 | own run of bucket 1 | ..            float32, shards.count
 *                      | rounded             | rounded
 *     packed   | r0 | r1 | r2 | r3 | r0 | r1 | r2 | r3 | ..                bfloat16, on every rank
 *     w        | vectors and learned positions                            float32, on every rank
 *
 * In float32 the weights that a pass reads are the masters themselves, so every rank needs all of
 * them. An adapter's masters are small, so every rank has all of them, too.
 *
 * The fingerprint is that of the whole vector: each rank hashes the blocks of its shard, and the
 * list of the hashes of all blocks is hashed. So the fingerprint depends neither on the number of
 * ranks nor on whether the masters are divided. */
#ifndef PLUMB_TRAIN_MASTERS_H
#define PLUMB_TRAIN_MASTERS_H

#include "comm/comm.h"
#include "config/config.h"
#include "model/model.h"
#include "train/shards.h"

/* The masters of one model. The struct must not move in memory, because the model has a pointer to
 * `hook`. */
struct plumb_masters {
    struct plumb_model_masters hook; /* for plumb_model_open_divided */
    const struct plumb_config *cfg;  /* borrowed, as are comm, backend and model */
    plumb_comm *comm;
    struct plumb_backend *backend;
    const plumb_model *model;   /* the model of these masters; NULL until it is opened */
    struct plumb_shards shards; /* the division of the trained vector; the gradient has the same */
    float *w;                   /* (shards.count,) device: this rank's masters */
    uint64_t *hash_device;      /* (blocks of the shard,) device: hashes of the blocks of w */
    /* (blocks of the vector,) host: hashes in the order of the vector; in the order of the ranks */
    uint64_t *hash, *gathered;
    int64_t *bytes; /* (world_size,) host */
    /* (shards.buckets,) device memory for each bucket, which reads overwrite; borrowed. The caller
     * sets it before the first read (plumb_gradient_scratch), or sets `like`, whose scratch is then
     * used. */
    float *const *scratch;
    const struct plumb_masters *like; /* borrowed; may be NULL */
    int64_t at;  /* rank 0: the bucket that the last read left in scratch; -1 if none */
    bool failed; /* a read has failed, on all ranks */
    /* `hash` has the hashes of all blocks, with which rank 0 compares each block that it reads */
    bool listed;
};

/* Returns true if a run divides the masters of the model that it trains among the ranks. adapter:
 * true if the run trains an adapter. */
bool plumb_masters_wanted(const struct plumb_config *cfg, const struct plumb_backend *b,
                          bool adapter);
/* Prepares m for plumb_model_open_divided. Allocates nothing. */
void plumb_masters_init(struct plumb_masters *m, const struct plumb_config *cfg, plumb_comm *comm,
                        struct plumb_backend *backend);
void plumb_masters_fini(struct plumb_masters *m);
/* Returns the masters of m if they are divided among the ranks, else NULL. */
struct plumb_masters *plumb_masters_of(const plumb_model *m);

/* Sets m's bfloat16 weights on all ranks to the rounded masters, and sets m's fingerprint. m must
 * be s->model. Call this after every update of the masters. Collective; if one rank fails, all
 * ranks return a failure. */
plumb_status plumb_masters_update(struct plumb_masters *s, plumb_model *m);
/* Sets *hash to the fingerprint of the masters, computed from their present values in memory.
 * Collective. */
plumb_status plumb_masters_hash(struct plumb_masters *s, uint64_t *hash);
/* Copies the masters of `from` to those of `to`, which is divided in the same way. Not collective.
 */
plumb_status plumb_masters_copy(struct plumb_masters *to, const struct plumb_masters *from);

/* Lets rank 0 read all weights of m (plumb_model_save, plumb_model_saved_hash, plumb_model_each).
 * While rank 0 reads, the other ranks call this function and send their shares, bucket by bucket.
 * Rank 0 calls it after its last read, also after a failure; then all ranks return. st: this rank's
 * status, which is returned unless it is PLUMB_OK and a read failed. Before the first read, all
 * ranks check that their shares in memory have the model's fingerprint. After each read, rank 0
 * compares the hash of each block with the hash that the owner of the block computed:
 * PLUMB_ERR_NUMERIC names the owner. Returns st at once if the masters are not divided. Collective,
 * together with the reads of rank 0. */
plumb_status plumb_masters_finish(const plumb_model *m, plumb_status st);

#endif

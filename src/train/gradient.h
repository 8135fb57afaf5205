/* gradient.h - the gradient of one global batch: micro-batches, added up along the fixed tree.
 * Layer 5. Includes comm/, train/gradient_state.h.
 *
 * A global batch is split into micro-batches, independent of the number of ranks (train/split.h).
 * Each micro-batch is a leaf of the tree in comm/tree.h and gives one gradient. The gradients are
 * added along the tree, in one of two ways that give the same bits (train.shard):
 *
 *   whole    A rank computes the micro-batches of one subtree and adds their gradients in
 *            buffers of the size of the gradient. The ranks exchange once per step (the caller
 *            calls plumb_comm_reduce_tree).
 *   sharded  The micro-batches go to the ranks in turn. The ranks exchange after each round of
 *            one micro-batch per rank, and a rank stores sums of its own shard only. The
 *            gradient of the running micro-batch is in a ring of buffers (gradient_rounds.h);
 *            no rank has the whole gradient.
 *
 *            round 0       round 1       round 2       round 3
 *               |   shard     |             |   shard     |
 *           stored[0] <-- + --+         stored[1] <-- + --+           in the order of
 *                ^----------- + ---------------'                      plumb_tree_at */
#ifndef PLUMB_TRAIN_GRADIENT_H
#define PLUMB_TRAIN_GRADIENT_H

#include "comm/tree.h"
#include "train/gradient_state.h"
#include "train/shards.h"

/* Allocates all memory of a whole gradient of `count` floats. most_micro_batches: the largest
 * number of micro-batches of any step. Not collective. */
plumb_status plumb_gradient_init(struct plumb_gradient *g, struct plumb_backend *backend,
                                 plumb_comm *comm, int64_t count, int64_t most_micro_batches);
/* Does the same as plumb_gradient_init, but sum[0] is in memory that the other ranks of the host
 * can read directly. Collective. One rank may fail while the others succeed, so call
 * plumb_comm_agree afterwards. */
plumb_status plumb_gradient_init_shared(struct plumb_gradient *g, struct plumb_backend *backend,
                                        plumb_comm *comm, int64_t count,
                                        int64_t most_micro_batches);
/* Does the same as plumb_gradient_init_shared for a sharded gradient. The micro-batch function gets
 * NULL for grad. Code that writes a part of the gradient asks plumb_gradient_place for the address,
 * and afterwards calls plumb_gradient_final. *parts may be freed after the call. */
plumb_status plumb_gradient_init_sharded(struct plumb_gradient *g, struct plumb_backend *backend,
                                         plumb_comm *comm, const struct plumb_gradient_parts *parts,
                                         int64_t most_micro_batches);
/* A plumb_place_fn for a sharded gradient: sets *grad so that (*grad)[begin .. end - 1] is where
 * the backward writes elements [begin, end) of the gradient. These elements are one part, or
 * several parts of one bucket. */
plumb_status plumb_gradient_place(void *gradient, float **grad, int64_t begin, int64_t end);
/* Returns the micro-batches of a step that this rank computes. Not collective. */
struct plumb_leaves plumb_gradient_leaves(bool sharded, int64_t micro_batches, plumb_comm *comm);
/* A plumb_final_fn: states that grad[from, count) of the running micro-batch is final. Whole: does
 * nothing unless overlap is set and the last micro-batch is running. Sharded: exchanges each bucket
 * that is now complete. This is collective: the other ranks call the exchange in their own
 * micro-batch of the round, or in plumb_gradient_run if they have none in this round. */
plumb_status plumb_gradient_final(void *gradient, int64_t from);
void plumb_gradient_fini(struct plumb_gradient *g);

/* Runs this rank's micro-batches with fn. Whole: g->sum[0] = the sum of this rank's gradients; the
 * caller adds up the ranks with plumb_comm_reduce_tree. Sharded: plumb_gradient_shard returns the
 * sum over all ranks. value = the sum of fn's values over all micro-batches of all ranks, added in
 * the order of the micro-batches. If g->paused is set afterwards (the same on every rank), some
 * micro-batches were skipped and the results are invalid. Collective; if one rank fails, all ranks
 * return a failure. */
plumb_status plumb_gradient_run(struct plumb_gradient *g, int64_t micro_batches,
                                plumb_micro_batch_fn *fn, void *arg,
                                double value[PLUMB_MICRO_BATCH_VALUES]);
/* Computes one micro-batch alone and sets out (count,) on the host to its gradient. Nothing is
 * exchanged with other ranks. A whole gradient overwrites sum[0]. Not collective. */
plumb_status plumb_gradient_alone(struct plumb_gradient *g, float *out, int64_t micro_batch,
                                  plumb_micro_batch_fn *fn, void *arg,
                                  double value[PLUMB_MICRO_BATCH_VALUES]);
/* plumb_gradient_keep, called before a micro-batch, requests a copy of the gradient of that
 * micro-batch alone in out (count,) on the host; out = NULL cancels the request.
 * plumb_gradient_take, called after the micro-batch's function and with the same grad, completes
 * the copy and ends the request. */
void plumb_gradient_keep(struct plumb_gradient *g, float *out);
plumb_status plumb_gradient_take(struct plumb_gradient *g, float *out, const float *grad);

/* Returns the division of a sharded gradient among the ranks; NULL for a whole gradient. Not
 * collective. */
const struct plumb_shards *plumb_gradient_shards(const struct plumb_gradient *g);
/* Returns this rank's shard (shards.count,) of the last sum of a sharded gradient, on the device.
 * The shard is valid until the next call of plumb_gradient_run. Not collective. */
float *plumb_gradient_shard(const struct plumb_gradient *g);
/* Returns device memory that may be overwritten between two calls of plumb_gradient_run: one array
 * for each bucket of the shards, or, for a whole gradient, one array (count,). Not collective. */
float *const *plumb_gradient_scratch(const struct plumb_gradient *g);
/* Gathers the last sum of a sharded gradient in out (count,), in host memory, on every rank where
 * out is not NULL. Collective; if one rank fails, all ranks return a failure. */
plumb_status plumb_gradient_gather(struct plumb_gradient *g, float *out);

#endif

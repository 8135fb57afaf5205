/* gradient.h - the gradient of one global batch: micro-batches, added up along the fixed tree.
 * Layer 5. Includes base/, backend/, comm/.
 *
 * A global batch of `items` is split into micro-batches, independent of the number of ranks. Each
 * micro-batch is a leaf of the tree in comm/tree.h and gives one gradient. The gradients are added
 * along the tree, in one of two ways that give the same bits (train.shard):
 *
 *   whole    A rank owns a subtree and adds it up in buffers of the whole gradient. The ranks
 *            exchange once per step (plumb_comm_reduce_tree, by the caller).
 *   sharded  Each micro-batch goes to another rank in turn. The ranks exchange after each round of
 *            micro-batches, and a rank keeps sums of its shard only. The gradient of the
 * micro-batch that runs is in a ring of buffers (gradient_rounds.h); no rank has it as a whole.
 *
 *            round 0       round 1       round 2       round 3
 *               |   shard     |             |   shard     |
 *           stored[0] <-- + --+         stored[1] <-- + --+           in the order of
 *                ^----------- + ---------------'                      plumb_tree_at */
#ifndef PLUMB_TRAIN_GRADIENT_H
#define PLUMB_TRAIN_GRADIENT_H

#include "backend/backend.h"
#include "comm/comm.h"
#include "comm/tree.h"
#include "train/shards.h"

/* The sizes that split one pass over `items` items into optimizer steps and micro-batches:
 * global_batch items per step, micro_batch items per micro-batch. */
struct plumb_batch_split {
    int64_t items, global_batch, micro_batch; /* all > 0 */
};
int64_t plumb_split_steps(const struct plumb_batch_split *c);
/* Return the range of items of optimizer step `step`, its number of micro-batches, and the range of
 * items of one micro-batch. */
struct plumb_range plumb_split_step(const struct plumb_batch_split *c, int64_t step);
int64_t plumb_split_micro_batches(const struct plumb_batch_split *c, int64_t step);
struct plumb_range plumb_split_micro_batch(const struct plumb_batch_split *c, int64_t step,
                                           int64_t micro_batch);

/* The gradient buffers for this rank's part of the tree. sum[0] receives the result. */
struct plumb_gradient {
    struct plumb_backend *backend; /* borrowed, as is comm */
    plumb_comm *comm;
    int64_t count;               /* number of floats of one gradient */
    int64_t most_micro_batches;  /* largest number of micro-batches of a step, over all ranks */
    int n_sum;                   /* number of buffers */
    float **sum;                 /* (n_sum,) buffers, each (count,) on the device */
    struct plumb_rounds *rounds; /* sharded: gradient_rounds.h; n_sum is 0. NULL: whole */
    double *slot; /* (most_micro_batches, PLUMB_MICRO_BATCH_VALUES) scalars of all micro-batches */
    float *first; /* sum[0], or the ring, if the communicator owns it; NULL if the arena does */
    struct plumb_arena arena;
    /* Called before every micro-batch. If it returns true, the remaining micro-batches are skipped.
     * May be NULL.
     */
    bool (*pause)(void *arg);
    void *pause_arg;
    /* true if, in the last call of plumb_gradient_run, `pause` returned true on any rank, which
     * then skipped micro-batches */
    bool paused;
    /* Starts the exchange with other ranks while the backward pass of the last micro-batch still
     * runs; that pass calls plumb_gradient_final. reduce_tree must follow. Costs one more
     * agreement. */
    bool overlap;
    bool hold; /* whole: nothing of the running micro-batch is merged before it has returned */
    struct {
        bool on;         /* the last micro-batch of this rank is running, with overlap */
        int top, merges; /* its buffer, and the number of merges after it */
        int64_t from;    /* elements [from, count) are already merged */
    } last;
};

#define PLUMB_MICRO_BATCH_VALUES 12

/* Computes one micro-batch: adds its gradient to grad (count,) device, which is zero on entry, and
 * its scalars to value. Not collective: a micro-batch runs on one rank only. */
typedef plumb_status plumb_micro_batch_fn(void *arg, int64_t micro_batch, float *grad,
                                          double value[PLUMB_MICRO_BATCH_VALUES]);

/* Allocates all memory. most_micro_batches: the largest number of micro-batches of any step. Not
 * collective. */
plumb_status plumb_gradient_init(struct plumb_gradient *g, struct plumb_backend *backend,
                                 plumb_comm *comm, int64_t count, int64_t most_micro_batches);
/* Does the same as plumb_gradient_init, but sum[0] is memory that the other ranks of the host can
 * read directly. Collective, but a rank may fail alone: call plumb_comm_agree afterwards. */
plumb_status plumb_gradient_init_shared(struct plumb_gradient *g, struct plumb_backend *backend,
                                        plumb_comm *comm, int64_t count,
                                        int64_t most_micro_batches);
/* The parts of the vector, each of which a micro-batch writes at one time, from the last part to
 * the first. */
struct plumb_gradient_parts {
    const int64_t *border; /* (n + 1,) part i is [border[i], border[i+1]); borders are multiples of
                            * 64, and the last is the length of the vector */
    int64_t n;
    bool tied;      /* part 0 is written before the last part, too */
    int64_t bucket; /* least number of elements that are exchanged together */
};
/* Does the same as plumb_gradient_init_shared, for the sharded way: the micro-batch function gets
 * NULL for grad, and whatever writes a part asks plumb_gradient_place where, and then calls
 * plumb_gradient_final. parts is not kept. */
plumb_status plumb_gradient_init_sharded(struct plumb_gradient *g, struct plumb_backend *backend,
                                         plumb_comm *comm, const struct plumb_gradient_parts *parts,
                                         int64_t most_micro_batches);
/* A plumb_place_fn, of a sharded gradient. [begin, end) is a part, or several of one bucket. */
plumb_status plumb_gradient_place(void *gradient, float **grad, int64_t begin, int64_t end);
/* Returns the micro-batches of a step that this rank computes. Not collective. */
struct plumb_leaves plumb_gradient_leaves(bool sharded, int64_t micro_batches, plumb_comm *comm);
/* A plumb_final_fn: states that grad[from, count) of the running micro-batch is final. Whole: does
 * nothing unless overlap is set and the last micro-batch is running. Sharded: exchanges what it
 * completes, so it is collective while a micro-batch runs. */
plumb_status plumb_gradient_final(void *gradient, int64_t from);
void plumb_gradient_fini(struct plumb_gradient *g);

/* Runs this rank's micro-batches. g->sum[0] = the sum of their gradients, ready for
 * plumb_comm_reduce_tree; sharded, plumb_gradient_shard returns the sum over all ranks. value = the
 * scalars of all micro-batches of all ranks, added in their order. If g->paused is set afterwards
 * (the same on every rank), some micro-batches were skipped and the results are invalid.
 * Collective: one rank's failure is every rank's. */
plumb_status plumb_gradient_run(struct plumb_gradient *g, int64_t micro_batches,
                                plumb_micro_batch_fn *fn, void *arg,
                                double value[PLUMB_MICRO_BATCH_VALUES]);
/* Computes one micro-batch by itself: out (count,) on the host = its gradient. Nothing is
 * exchanged. Whole: overwrites sum[0]. Not collective. */
plumb_status plumb_gradient_alone(struct plumb_gradient *g, float *out, int64_t micro_batch,
                                  plumb_micro_batch_fn *fn, void *arg,
                                  double value[PLUMB_MICRO_BATCH_VALUES]);
/* Lets out (count,) on the host get the gradient of the micro-batch that runs next. Call take after
 * the micro-batch's function, with the grad that the function got; it completes out. */
void plumb_gradient_keep(struct plumb_gradient *g, float *out);
plumb_status plumb_gradient_take(struct plumb_gradient *g, float *out, const float *grad);

/* Returns the division of a sharded gradient among the ranks, or NULL. Not collective. */
const struct plumb_shards *plumb_gradient_shards(const struct plumb_gradient *g);
/* Returns this rank's shard (shards.count,) of the last sum of a sharded gradient, on the device.
 * It is valid until the next run. Not collective. */
float *plumb_gradient_shard(const struct plumb_gradient *g);
/* Returns memory that may be overwritten between two runs: an array on the device for each bucket
 * of the shards, or one (count,) of a whole gradient. Not collective. */
float *const *plumb_gradient_scratch(const struct plumb_gradient *g);
/* Gathers the last sum of a sharded gradient in out (count,) on the host of the ranks where out is
 * not NULL. Collective: one rank's failure is every rank's. */
plumb_status plumb_gradient_gather(struct plumb_gradient *g, float *out);

/* Sets x (n,) device to the sum of no micro-batches. */
plumb_status plumb_gradient_empty(struct plumb_backend *b, float *x, int64_t n);

#endif

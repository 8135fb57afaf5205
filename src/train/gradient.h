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
 *            micro-batches (gradient_rounds.c), and a rank keeps sums of its shard only:
 *
 *            round 0       round 1       round 2       round 3
 *            exchange      exchange      exchange      exchange       whole[count], used again
 *               |   shard     |             |   shard     |
 *             sum[0] <-- + ---+           sum[1] <-- + ---+           stored, in the order of
 *                ^--------- + ---------------'                        plumb_tree_at */
#ifndef PLUMB_TRAIN_GRADIENT_H
#define PLUMB_TRAIN_GRADIENT_H

#include "backend/backend.h"
#include "comm/comm.h"
#include "comm/tree.h"

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
    int64_t count;              /* number of floats of one gradient */
    int64_t most_micro_batches; /* largest number of micro-batches of a step, over all ranks */
    int n_sum;                  /* number of buffers */
    float **sum;                /* (n_sum,) buffers, each (count,) on the device */
    bool sharded;               /* sum has one buffer, for the micro-batch that runs */
    struct plumb_range shard;   /* sharded: elements whose sums this rank keeps */
    int n_part;                 /* sharded: number of stored sums */
    float **part;               /* (n_part,) stored sums, each (shard,) on the device */
    int64_t rounds;             /* sharded: rounds of the last run */
    double *slot; /* (most_micro_batches, PLUMB_MICRO_BATCH_VALUES) scalars of all micro-batches */
    float *first; /* sum[0] if the communicator owns it; NULL if the arena owns it */
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
    bool hold; /* no part of the running micro-batch is exchanged before it has returned */
    /* sharded: how far the running round is */
    enum { PLUMB_ROUND_NONE, PLUMB_ROUND_ALONE, PLUMB_ROUND_EXCHANGE, PLUMB_ROUND_FAILED } round;
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
/* Does the same as plumb_gradient_init_shared, for the sharded way. */
plumb_status plumb_gradient_init_sharded(struct plumb_gradient *g, struct plumb_backend *backend,
                                         plumb_comm *comm, int64_t count,
                                         int64_t most_micro_batches);
/* Returns the micro-batches of a step that this rank computes. Not collective. */
struct plumb_leaves plumb_gradient_leaves(bool sharded, int64_t micro_batches, plumb_comm *comm);
/* A plumb_final_fn: states that grad[from, count) of the running micro-batch is final. Does nothing
 * unless overlap is set and the last micro-batch is running; sharded, it starts the exchange of any
 * micro-batch, with overlap only. */
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
/* Returns this rank's shard (shard,) of the last sum of a sharded gradient, on the device. It is
 * valid until the next run. Not collective. */
float *plumb_gradient_shard(const struct plumb_gradient *g);

/* gradient_rounds.c, for gradient.c: run all rounds of a step, and the sharded
 * plumb_gradient_final. Collective: one rank's failure is every rank's. */
plumb_status plumb_gradient_rounds(struct plumb_gradient *g, int64_t micro_batches,
                                   plumb_micro_batch_fn *fn, void *arg);
plumb_status plumb_gradient_round_final(struct plumb_gradient *g, int64_t from);
/* gradient.c, for gradient_rounds.c: sets sum[0] to the sum of no micro-batches; computes one
 * micro-batch, whose gradient becomes grad (count,). */
plumb_status plumb_gradient_nothing(struct plumb_gradient *g);
plumb_status plumb_gradient_micro(struct plumb_gradient *g, float *grad, int64_t micro_batch,
                                  plumb_micro_batch_fn *fn, void *arg);

#endif

/* gradient.h - the gradient of one global batch: micro-batches, added up along the fixed tree.
 * Layer 5. Includes base/, backend/, comm/.
 *
 * A global batch of `items` is split into micro-batches, independent of the number of ranks. Each
 * micro-batch is a leaf of the tree in comm/tree.h and gives one gradient. The gradients are added
 * along the tree, first over this rank's subtree, then across ranks (plumb_comm_reduce_tree). */
#ifndef PLUMB_TRAIN_GRADIENT_H
#define PLUMB_TRAIN_GRADIENT_H

#include "backend/backend.h"
#include "comm/comm.h"

/* The sizes that split one pass over `items` items into optimizer steps and micro-batches (leaves):
 * global_batch items per step, micro_batch items per leaf. */
struct plumb_batch_cut {
    int64_t items, global_batch, micro_batch; /* all > 0 */
};
int64_t plumb_cut_steps(const struct plumb_batch_cut *c);
/* Return the range of items of optimizer step `step`, its number of leaves, and the range of items
 * of one leaf. */
struct plumb_range plumb_cut_step(const struct plumb_batch_cut *c, int64_t step);
int64_t plumb_cut_leaves(const struct plumb_batch_cut *c, int64_t step);
struct plumb_range plumb_cut_leaf(const struct plumb_batch_cut *c, int64_t step, int64_t leaf);

/* The gradient buffers for this rank's part of the tree. sum[0] receives the result. */
struct plumb_gradient {
    struct plumb_backend *backend; /* borrowed, as is comm */
    plumb_comm *comm;
    int64_t count;       /* number of floats of one gradient */
    int64_t most_leaves; /* largest number of leaves of a step, over all ranks */
    int n_sum;           /* number of buffers */
    float **sum;         /* (n_sum,) buffers, each (count,) on the device */
    double *slot;        /* (most_leaves, PLUMB_LEAF_VALUES) scalars of all leaves */
    float *first;        /* sum[0] if the communicator owns it; NULL if the arena owns it */
    struct plumb_arena arena;
    /* Called before every leaf. If it returns true, the remaining leaves are skipped. May be NULL.
     */
    bool (*pause)(void *arg);
    void *pause_arg;
    bool paused; /* true if any rank skipped leaves in the last run */
    /* Starts the exchange with other ranks while the backward pass of the last leaf still runs;
     * that pass calls plumb_gradient_final. reduce_tree must follow. Costs one more agreement. */
    bool overlap;
    struct {
        bool on;         /* the last leaf of this rank is running, with overlap */
        int top, merges; /* its buffer, and the number of merges after it */
        int64_t from;    /* elements [from, count) are already merged */
    } last;
};

#define PLUMB_LEAF_VALUES 8

/* Computes one leaf: adds its gradient to grad (count,) device, which is zero on entry, and its
 * scalars to value. Not collective: a leaf runs on one rank only. */
typedef plumb_status plumb_leaf_fn(void *arg, int64_t leaf, float *grad,
                                   double value[PLUMB_LEAF_VALUES]);

/* Allocates all memory. most_leaves: the largest number of leaves of any step. Not collective. */
plumb_status plumb_gradient_init(struct plumb_gradient *g, struct plumb_backend *backend,
                                 plumb_comm *comm, int64_t count, int64_t most_leaves);
/* Does the same as plumb_gradient_init, but sum[0] is memory that the other ranks of the host can
 * read directly. Collective, but a rank may fail alone: call plumb_comm_agree afterwards. */
plumb_status plumb_gradient_init_shared(struct plumb_gradient *g, struct plumb_backend *backend,
                                        plumb_comm *comm, int64_t count, int64_t most_leaves);
/* A plumb_final_fn: states that grad[from, count) of the running leaf is final. Does nothing unless
 * overlap is set and the last leaf is running. */
plumb_status plumb_gradient_final(void *gradient, int64_t from);
void plumb_gradient_fini(struct plumb_gradient *g);

/* Runs this rank's leaves. g->sum[0] = the sum of their gradients, ready for
 * plumb_comm_reduce_tree. value = the scalars of all leaves of all ranks, added in leaf order. If
 * g->paused is set afterwards (the same on every rank), some leaves were skipped and the results
 * are invalid. Collective: one rank's failure is every rank's. */
plumb_status plumb_gradient_run(struct plumb_gradient *g, int64_t leaves, plumb_leaf_fn *fn,
                                void *arg, double value[PLUMB_LEAF_VALUES]);

#endif

/* gradient.h - the gradient of one global batch: micro-batches, added up along the fixed tree.
 * Layer 5. Includes base/, backend/, comm/.
 *
 * A global batch of `items` is cut into micro-batches ("leaves") before anyone looks at the rank
 * count. Each leaf gives one gradient; gradients add up along the tree of comm/tree.h, first over
 * this rank's subtree, then across ranks (plumb_comm_reduce_tree). */
#ifndef PLUMB_TRAIN_GRADIENT_H
#define PLUMB_TRAIN_GRADIENT_H

#include "backend/backend.h"
#include "comm/comm.h"

/* How one pass over `items` items becomes optimizer steps and leaves. */
struct plumb_batch_cut {
    int64_t items, global_batch, micro_batch; /* all > 0 */
};
int64_t plumb_cut_steps(const struct plumb_batch_cut *c);
/* Items of optimizer step `step`; leaves in it; items of one leaf of it. */
struct plumb_range plumb_cut_step(const struct plumb_batch_cut *c, int64_t step);
int64_t plumb_cut_leaves(const struct plumb_batch_cut *c, int64_t step);
struct plumb_range plumb_cut_leaf(const struct plumb_batch_cut *c, int64_t step, int64_t leaf);

/* Gradient buffers of this rank's part of the tree. sum[0] receives the result. */
struct plumb_gradient {
    struct plumb_backend *backend; /* borrowed, as is comm */
    plumb_comm *comm;
    int64_t count; /* floats of one gradient */
    int64_t most_leaves;
    int n_sum;
    float **sum;  /* (n_sum,) each (count,) device */
    double *slot; /* (most_leaves * PLUMB_LEAF_VALUES,) */
    float *first; /* sum[0] where it is memory of the communicator; NULL: of the arena */
    struct plumb_arena arena;
    bool (*pause)(void *arg); /* asked before every leaf; true: leave the rest. NULL: never */
    void *pause_arg;
    bool paused; /* the last run: some rank left before its last leaf */
    /* The exchange with other ranks begins while the last leaf's backward still runs, which calls
     * plumb_gradient_final; reduce_tree must follow. Costs one more agreement. */
    bool overlap;
    struct {
        bool on;
        int top, merges; /* of the last leaf */
        int64_t from;    /* what is above is merged */
    } last;
};

#define PLUMB_LEAF_VALUES 8

/* Adds leaf's gradient to grad (count,) device, which is zero on entry, and its scalars to value.
 * Not collective: a leaf runs on one rank only. */
typedef plumb_status plumb_leaf_fn(void *arg, int64_t leaf, float *grad,
                                   double value[PLUMB_LEAF_VALUES]);

/* most_leaves: no batch has more. All memory is taken here. Not collective. */
plumb_status plumb_gradient_init(struct plumb_gradient *g, struct plumb_backend *backend,
                                 plumb_comm *comm, int64_t count, int64_t most_leaves);
/* The same, with sum[0] where the ranks of a host read it in place. Collective, but for its errors:
 * agree afterwards. */
plumb_status plumb_gradient_init_shared(struct plumb_gradient *g, struct plumb_backend *backend,
                                        plumb_comm *comm, int64_t count, int64_t most_leaves);
/* grad[from, count) of the leaf that runs gets nothing more: a plumb_final_fn. Does nothing but in
 * the last leaf, with overlap. */
plumb_status plumb_gradient_final(void *gradient, int64_t from);
void plumb_gradient_fini(struct plumb_gradient *g);

/* Unless g->paused afterwards, the same on every rank: runs this rank's leaves; leaves their
 * subtree sum in g->sum[0] (ready for plumb_comm_reduce_tree) and in value the scalars of all
 * leaves of all ranks, added in leaf order. Collective: one rank's failure is every rank's. */
plumb_status plumb_gradient_run(struct plumb_gradient *g, int64_t leaves, plumb_leaf_fn *fn,
                                void *arg, double value[PLUMB_LEAF_VALUES]);

#endif

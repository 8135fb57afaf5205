/* gradient_state.h - the state of a gradient, whole (gradient.c) or sharded (gradient_rounds.c).
 * gradient.h describes these two ways to add up the micro-batches.
 * Layer 5. Includes base/, backend/, comm/. */
#ifndef PLUMB_TRAIN_GRADIENT_STATE_H
#define PLUMB_TRAIN_GRADIENT_STATE_H

#include "backend/backend.h"
#include "comm/comm.h"

/* The state of a gradient on one rank. A whole gradient adds up this rank's micro-batches in the
 * buffers sum, and sum[0] receives the result. A sharded gradient has its buffers in `rounds`. */
struct plumb_gradient {
    struct plumb_backend *backend; /* borrowed, as is comm */
    plumb_comm *comm;
    int64_t count;               /* number of floats of one gradient */
    int64_t most_micro_batches;  /* largest number of micro-batches of a step, over all ranks */
    int n_sum;                   /* number of buffers */
    float **sum;                 /* (n_sum,) buffers, each (count,) on the device */
    struct plumb_rounds *rounds; /* sharded: gradient_rounds.h; n_sum is 0. NULL: whole */
    double *slot; /* (most_micro_batches, PLUMB_MICRO_BATCH_VALUES) values of all micro-batches */
    /* sum[0] (whole) or the edge and ring buffers (sharded) in memory of the communicator; NULL if
     * they are in the arena */
    float *first;
    struct plumb_arena arena;
    /* Called before every micro-batch; sharded: before every round. If it returns true, the rank
     * (sharded: every rank) skips its remaining micro-batches. May be NULL. */
    bool (*pause)(void *arg);
    void *pause_arg;
    /* true if, in the last call of plumb_gradient_run, `pause` returned true on any rank, so that
     * micro-batches were skipped */
    bool paused;
    /* Whole: the exchange with other ranks starts while the backward of the last micro-batch still
     * runs; this backward calls plumb_gradient_final. After plumb_gradient_run, the caller must
     * call plumb_comm_reduce_tree. Sharded: a bucket is exchanged while the backward computes the
     * next bucket. */
    bool overlap;
    /* whole: the gradient of the running micro-batch is merged only after its function has
     * returned */
    bool hold;
    struct {
        bool on;         /* the last micro-batch of this rank is running, with overlap */
        int top, merges; /* index in sum of that micro-batch's buffer; number of merges after it */
        int64_t from;    /* elements [from, count) are already merged */
    } last;
};

#define PLUMB_MICRO_BATCH_VALUES 12

/* Computes one micro-batch: adds its gradient to grad (count,) on the device, which is zero on
 * entry, and its loss and other figures to value. grad is NULL for a sharded gradient: the backward
 * then asks plumb_gradient_place where to write. A micro-batch runs on one rank only. */
typedef plumb_status plumb_micro_batch_fn(void *arg, int64_t micro_batch, float *grad,
                                          double value[PLUMB_MICRO_BATCH_VALUES]);

/* The division of the gradient vector into parts. The backward of a micro-batch writes one part
 * after another, from the last part to the first. */
struct plumb_gradient_parts {
    const int64_t *border; /* (n + 1,) part i is [border[i], border[i+1]); borders are multiples of
                            * 64, and the last is the length of the vector */
    int64_t n;
    bool tied;      /* part 0 is written before the last part, too */
    int64_t bucket; /* least number of elements that are exchanged together */
};

/* Fills x (n,) device with -0.0, the gradient sum of a rank without micro-batches: adding it
 * changes no bit of another sum. */
plumb_status plumb_gradient_empty(struct plumb_backend *b, float *x, int64_t n);

#endif

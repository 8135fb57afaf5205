/* optim.h - AdamW over a model's trained tensors, its moments sharded by rank.
 * Layer 5. Includes base/, model/, comm/, train/{masters,schedule,shards}.h. */
#ifndef PLUMB_TRAIN_OPTIM_H
#define PLUMB_TRAIN_OPTIM_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/comm.h"
#include "model/model.h"
#include "train/masters.h"
#include "train/schedule.h"
#include "train/shards.h"

struct plumb_optim_options {
    double learning_rate; /* peak, > 0 */
    double beta1, beta2;  /* in [0,1) */
    double eps;           /* > 0 */
    double weight_decay;  /* >= 0; matrices and embeddings only (plumb_param.decay) */
    double max_grad_norm; /* global L2 norm that the gradient is clipped to; 0 = off */
    /* keep the moments in host memory; the results have the same bits. No effect on a CPU */
    bool offload;
    struct plumb_schedule schedule;
    /* the division of the trained vector into buckets (train/shards.h); NULL for one bucket.
     * plumb_optim_create copies it */
    const struct plumb_shards *shards;
};

/* Any code may read the fields. Only optim.c and checkpoint.c write them, except for `skipped`. */
struct plumb_optim {
    struct plumb_optim_options options;
    struct plumb_backend *backend; /* borrowed from the model */
    int64_t step;                  /* optimizer steps taken */
    /* steps of the learning rate schedule that had no training data. The caller sets it. The next
     * step uses plumb_lr_at(step + skipped) */
    int64_t skipped;
    int64_t count;              /* number of floats of the trained vector */
    struct plumb_shards shards; /* elements of that vector whose moments this rank has */
    float *m, *v; /* (shards.count,) first and second moment, on the device or (offload) the host */
    bool offload;
    float *piece[2];      /* (part,) device: parts of m and v; NULL without offload */
    int64_t part;         /* with offload: floats of a moment that are on the device at a time */
    double *block;        /* (ceil(count / PLUMB_SHARD_BLOCK),) host: sums of squares per block */
    double *block_device; /* (blocks of the shard,) device: sums of squares per block */
    float *stage;         /* (PLUMB_OPTIM_STAGE,) host; NULL if device memory is host memory */
};
typedef struct plumb_optim plumb_optim;

#define PLUMB_OPTIM_STAGE 65536
/* with offload: floats of a moment that are on the device at a time */
#define PLUMB_OPTIM_PIECE (1 << 22)

struct plumb_optim_result {
    double grad_norm; /* L2 norm over all trained tensors, before clipping */
    double lr;        /* learning rate of this step */
    bool clipped;
};

/* Allocates all memory of the optimizer. The moments are zero and step is 0. Not collective.
 * PLUMB_ERR_ARG names an option out of range. */
plumb_status plumb_optim_create(plumb_optim **out, const plumb_model *m, const plumb_comm *comm,
                                const struct plumb_optim_options *options);
void plumb_optim_destroy(plumb_optim **o); /* does nothing if *o is NULL */

/* Takes one AdamW step.      Loshchilov & Hutter 2019, arXiv:1711.05101, alg. 2
 *     g = tree sum over ranks;  norm = sqrt(sum g^2);  g' = g min(1, max_grad_norm/(norm + 1e-6))
 *     (the 1e-6 as torch.nn.utils.clip_grad_norm_), then the adamw kernel, bias-corrected.
 *
 * Collective. Synchronous. All ranks must call it with the same step and weights.
 *
 *   in   grad  (count,) device   sum of this rank's micro-batches; padding between tensors zero.
 *                                Undefined afterwards: zero it before the next accumulation.
 *                                o->shards must have one bucket only.
 *   out  m     all ranks get the new weights, and the model is refreshed
 *              (plumb_model_refresh). If the masters are divided among the ranks, each rank updates
 *              its share and then calls plumb_masters_update.
 *
 * The norm is summed in double over fixed blocks of PLUMB_SHARD_BLOCK elements in index order:
 * the same bits for any world size. Errors (weights and moments untouched): PLUMB_ERR_NUMERIC on
 * every rank when the norm is not finite, naming the first tensor with a non-finite gradient. */
plumb_status plumb_optim_step(plumb_optim *o, plumb_model *m, plumb_comm *comm, float *grad,
                              struct plumb_optim_result *result);

/* Does the same as plumb_optim_step, but the gradient is already summed over the ranks, and
 * o->shards may have several buckets.
 *   in   shard  (o->shards.count,) device   the sum of this rank's shard; unchanged */
plumb_status plumb_optim_step_shard(plumb_optim *o, plumb_model *m, plumb_comm *comm,
                                    const float *shard, struct plumb_optim_result *result);

#endif

/* gradient_model.h - allocates the gradient of a model's trained tensors and attaches it to a pass.
 * Layer 5. Includes config/, model/, train/gradient.h. */
#ifndef PLUMB_TRAIN_GRADIENT_MODEL_H
#define PLUMB_TRAIN_GRADIENT_MODEL_H

#include "config/config.h"
#include "model/model.h"
#include "train/gradient.h"

/* Allocates the gradient of m, whole or sharded as train.shard says (auto: whole).
 * most_micro_batches: the largest number of micro-batches of any step. Collective. One rank may
 * fail while the others succeed, so call plumb_comm_agree afterwards. */
plumb_status plumb_gradient_open(struct plumb_gradient *g, const plumb_model *m, plumb_comm *comm,
                                 const struct plumb_config *cfg, int64_t most_micro_batches);
/* Connects g with a pass of its model: the backward tells g which parts of the gradient are final,
 * and asks a sharded g where to write each part. g must outlive the last backward. */
void plumb_gradient_attach(struct plumb_gradient *g, plumb_pass *pass);

#endif

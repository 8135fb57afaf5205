/* gradient_parts.h - the parts of a model's trained vector, and the division of this vector among
 * the ranks with train.shard: gradients.
 * Layer 5. Includes config/, model/, train/gradient.h. */
#ifndef PLUMB_TRAIN_GRADIENT_PARTS_H
#define PLUMB_TRAIN_GRADIENT_PARTS_H

#include "config/config.h"
#include "model/model.h"
#include "train/gradient.h"

/* Sets *out to the parts of m's trained vector. The caller frees out->border. PLUMB_ERR_NOMEM. */
plumb_status plumb_gradient_parts_of(struct plumb_gradient_parts *out, const plumb_model *m,
                                     const struct plumb_config *cfg);
/* Divides the trained vector of m among the ranks, as plumb_gradient_open does. The caller owns
 * *out. Not collective. PLUMB_ERR_NOMEM. */
plumb_status plumb_gradient_divide(struct plumb_shards *out, const plumb_model *m,
                                   const plumb_comm *comm, const struct plumb_config *cfg);

#endif

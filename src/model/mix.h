/* mix.h - log-probs under mixed logits: (1+far) times those of one model minus far times those of
 * another.
 * Layer 4. Includes model/model.h. */
#ifndef PLUMB_MODEL_MIX_H
#define PLUMB_MODEL_MIX_H

#include "model/model.h"

/* Host memory for the hidden states of one batch under both models. */
struct plumb_mix {
    int64_t rows, c;
    /* (rows,c) each: first has the hidden states of m, second those of `other`, in the backend's
     * dtype; the memory has space for a float per element */
    float *first, *second;
};
/* Allocates memory for batches of up to max_targets completion tokens. Fails with
 * PLUMB_ERR_NOMEM. */
plumb_status plumb_mix_init(struct plumb_mix *x, const plumb_model *m, int64_t max_targets);
void plumb_mix_fini(struct plumb_mix *x);
int64_t plumb_mix_bytes(const struct plumb_mix *x);

/* Computes log-probs under the mixed logits of two models:
 *
 *     logp[j] = log softmax((1+far) z - far z')[token j], nats; z: logits of m, z': logits of other
 *                                           Source: Kim et al. 2024, arXiv:2406.04412, eq. 14
 *
 * A logit is linear in the hidden state, so the factors (1+far) and -far multiply the hidden
 * states; with a soft cap of the logits, they multiply the capped logits. In bfloat16 the products
 * are rounded. Logits exist for head_rows / 2 rows of each model at a time; head_rows must be at
 * least 2. far = 0 is bit-equal to plumb_pass_logprob of m. Row-invariant: the result of a row does
 * not depend on the other rows of the batch.
 *
 *   out  logp  (n_targets,) host
 *   in   p     a pass created for the architecture of m; no backward is possible afterwards
 *
 * Runs one pass of `other` and then one of m. Collective if the layers of `other` are divided among
 * the ranks (plumb_model_gathers): the pass of `other` then gathers all layers, even if this
 * function fails. */
plumb_status plumb_pass_mixed_logprob(plumb_pass *p, struct plumb_mix *x, const plumb_model *m,
                                      const plumb_model *other, double far,
                                      const struct plumb_batch *batch, float *logp);

#endif

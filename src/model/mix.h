/* mix.h - log-probs under the mixed logits of two models.
 * Layer 4. Includes model/model.h. */
#ifndef PLUMB_MODEL_MIX_H
#define PLUMB_MODEL_MIX_H

#include "model/model.h"

/* Hidden states of one batch under both models, on the host: taken once. */
struct plumb_mix {
    int64_t rows, c;
    float *first, *second; /* (rows,c), or as many of the backend's shorter dtype */
};
/* For passes of that many completion tokens. PLUMB_ERR_NOMEM. */
plumb_status plumb_mix_init(struct plumb_mix *x, const plumb_model *m, int64_t max_targets);
void plumb_mix_fini(struct plumb_mix *x);
int64_t plumb_mix_bytes(const struct plumb_mix *x);

/* logp[j] = log softmax((1+far) z - far z')[token j], nats: z the logits of m, z' those of other.
 *                                          Source: Kim et al. 2024, arXiv:2406.04412, eq. 14
 *
 * A logit is linear in the hidden state, so the factors go to the hidden states; both models' rows
 * of logits exist for half of head_rows rows at a time (at least 2 head_rows). One pass over the
 * vocabulary of each model; in bfloat16 the factors round what they multiply. far = 0 is bit-equal
 * to plumb_pass_logprob of m. Row-invariant.
 *
 *   out  logp  (n_targets,) host
 *   in   p     any pass of this architecture; no backward follows */
plumb_status plumb_pass_mixed_logprob(plumb_pass *p, struct plumb_mix *x, const plumb_model *m,
                                      const plumb_model *other, double far,
                                      const struct plumb_batch *batch, float *logp);

#endif

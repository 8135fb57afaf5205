/* pair_term.c - loss terms of pairs and imitated sequences, shared by the objectives.
 * Layer 1. Includes align/ and base/ only. */
#include "align/pair_term.h"

#include <math.h>

/* Returns -log sigma(z) = log(1 + exp(-z)), without overflow for any finite z. */
static double neg_log_sigmoid(double z)
{
    return z > 0.0 ? log1p(exp(-z)) : log1p(exp(z)) - z;
}

struct plumb_pair_term plumb_pair_logistic(double win, double lose, double beta, double smooth)
{
    const double h = beta * (win - lose);
    const double sigma = h >= 0 ? 1.0 / (1.0 + exp(-h)) : exp(h) / (1.0 + exp(h));
    /* d loss / d h = sigma - (1 - smooth). If smooth is 0, the code computes the equal -(1 - sigma)
     * directly, because 1 - sigma would round to 0 for large h. */
    const double miss = h >= 0 ? exp(-h) / (1.0 + exp(-h)) : 1.0 / (1.0 + exp(h));
    const double dh = smooth > 0 ? sigma - (1.0 - smooth) : -miss;
    return (struct plumb_pair_term){
        (1.0 - smooth) * neg_log_sigmoid(h) + smooth * neg_log_sigmoid(-h), beta * dh, -beta * dh};
}

plumb_status plumb_pair_add(struct plumb_obj_out *out, double *grad, const struct plumb_obj_in *in,
                            int64_t k, const struct plumb_pair_term *term, double chosen,
                            double rejected)
{
    const struct plumb_pair *q = &in->pair[k];
    PLUMB_REQUIRE(
        isfinite(term->loss) && isfinite(term->dwin) && isfinite(term->dlose), PLUMB_ERR_NUMERIC,
        "pair %lld (sequence %lld over %lld): the loss is %g, its derivatives are %g and %g, "
        "expected finite numbers",
        (long long)k, (long long)q->win, (long long)q->lose, term->loss, term->dwin, term->dlose);
    grad[q->win] += in->scale * q->weight * term->dwin;
    grad[q->lose] += in->scale * q->weight * term->dlose;
    out->loss += in->scale * q->weight * term->loss;
    out->rank_loss += q->weight * term->loss;
    out->chosen += chosen;
    out->rejected += rejected;
    out->margin += chosen - rejected;
    out->accurate += chosen > rejected;
    return PLUMB_OK;
}

plumb_status plumb_weighted_add(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                                const struct plumb_align_param *p)
{
    for (int64_t i = 0; in->weight && i < in->n; i++) {
        if (in->weight[i] == 0)
            continue;
        const double share = in->weight[i] / plumb_imitation_length(in, i, p);
        out->dlogp[i] -= in->scale * share;
        out->loss -= in->scale * share * in->logp[i];
        out->weighted_loss -= share * in->logp[i];
    }
    return PLUMB_OK;
}

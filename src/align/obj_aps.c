/* obj_aps.c - Adaptive Preference Scaling: the loss minimizes over a temperature for each pair.
 * Layer 1. Includes align/ and base/ only.
 *
 * Hong et al. 2024, arXiv:2406.02764, eq. 5, for each pair of a preferred completion w and another
 * one l. s and s_ref: log-prob sum of a completion under the policy and under the reference;
 * d = s - s_ref; h = beta (d_w - d_l):
 *
 *     L = min over t in [0.1, 5] of -t log sigma(h/t) + rho t          -log 2 < rho < 0
 *
 * The derivative by t is H(sigma(h/t)) + rho, where H(q) is the entropy, in nats, of a binary
 * choice with probability q. This derivative grows with t, so the minimum is at t = |h| / z,
 * clipped to [0.1, 5], where z solves H(sigma(z)) = -rho. At this t the derivative of L by h is
 * -sigma(-h/t). */
#include <math.h>

#include "align/pair_term.h"

static const double least_scale = 0.1, most_scale = 5.0;

static unsigned aps_needs(const struct plumb_align_param *p)
{
    (void)p;
    return PLUMB_NEED_LOGP | PLUMB_NEED_REF | PLUMB_READ_BETA;
}

/* Returns the entropy, in nats, of a binary choice with log-odds z >= 0. */
static double coin_entropy(double z)
{
    const double miss = exp(-z) / (1.0 + exp(-z));
    return log1p(exp(-z)) + z * miss;
}

/* Returns the z >= 0 with coin_entropy(z) = h, for h in (0, log 2). coin_entropy falls as z grows;
 * its derivative is -z sigma(z) sigma(-z). The search is Newton's method inside a bracket [low,
 * high]. */
static double log_odds_of(double h)
{
    double low = 0.0, high = 1.0;
    while (coin_entropy(high) > h)
        low = high, high *= 2.0;
    double z = 0.5 * (low + high);
    for (int i = 0; i < 100; i++) {
        const double off = coin_entropy(z) - h, e = exp(-z);
        if (off > 0)
            low = z;
        else
            high = z;
        const double slope = -z * e / ((1.0 + e) * (1.0 + e)), next = z - off / slope;
        const double to = next > low && next < high ? next : 0.5 * (low + high);
        if (to == z)
            break;
        z = to;
    }
    return z;
}

static plumb_status aps_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                             const struct plumb_align_param *p)
{
    const double z = log_odds_of(-p->rho);
    for (int64_t k = 0; k < in->k; k++) {
        const int64_t w = in->pair[k].win, l = in->pair[k].lose;
        PLUMB_REQUIRE(in->pair[k].smooth + p->label_smoothing == 0, PLUMB_ERR_ARG,
                      "objective aps: pair %lld has a smoothed label (label_smoothing), for which "
                      "the loss is not defined; expected label_smoothing=0",
                      (long long)k);
        const double dw = in->logp[w] - in->logp_ref[w], dl = in->logp[l] - in->logp_ref[l];
        const double t = fmin(fmax(fabs(p->beta * (dw - dl)) / z, least_scale), most_scale);
        struct plumb_pair_term term = plumb_pair_logistic(dw, dl, p->beta / t, 0.0);
        term.loss = t * term.loss + p->rho * t;
        term.dwin *= t, term.dlose *= t;
        PLUMB_TRY(plumb_pair_add(out, out->dlogp, in, k, &term, p->beta * dw, p->beta * dl));
    }
    return PLUMB_OK;
}

const struct plumb_objective plumb_obj_aps = {"aps", "arXiv:2406.02764, eq. 5", aps_needs,
                                              aps_eval};

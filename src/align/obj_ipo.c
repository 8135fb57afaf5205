/* obj_ipo.c - Identity Preference Optimization: a squared loss with a target margin.
 * Layer 1. Includes align/ and base/ only.
 *
 * Azar et al. 2023, arXiv:2310.12036, eq. 17, for each pair of a preferred completion w and another
 * one l. s and s_ref: log-prob sum of a completion under the policy and under the reference;
 * d = s - s_ref:
 *
 *     L = (d_w - d_l - 1/(2 beta))^2 */
#include "align/pair_term.h"

static unsigned ipo_needs(const struct plumb_align_param *p)
{
    (void)p;
    return PLUMB_NEED_LOGP | PLUMB_NEED_REF | PLUMB_READ_BETA;
}

static plumb_status ipo_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                             const struct plumb_align_param *p)
{
    for (int64_t k = 0; k < in->k; k++) {
        const int64_t w = in->pair[k].win, l = in->pair[k].lose;
        const double dw = in->logp[w] - in->logp_ref[w], dl = in->logp[l] - in->logp_ref[l];
        const double off = dw - dl - 1.0 / (2.0 * p->beta);
        const struct plumb_pair_term t = {off * off, 2.0 * off, -2.0 * off};
        PLUMB_TRY(plumb_pair_add(out, out->dlogp, in, k, &t, p->beta * dw, p->beta * dl));
    }
    return PLUMB_OK;
}

const struct plumb_objective plumb_obj_ipo = {"ipo", "arXiv:2310.12036, eq. 17", ipo_needs,
                                              ipo_eval};

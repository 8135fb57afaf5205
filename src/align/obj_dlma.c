/* obj_dlma.c - DPO with the policy's self-rewarded margin subtracted from the log-ratios.
 * Layer 1. Includes align/ and base/ only.
 *
 * Liu et al. 2024, arXiv:2402.11907, eq. 8, for each pair of a preferred completion w and another
 * one l. s and s_ref: log-prob sum of a completion under the policy and under the reference;
 * d = s - s_ref. r: the policy's own score of completion y to prompt x, with principles p+ and
 * contrary principles p-: r = log pi(y|p+,x) - log pi(y|p-,x).
 *
 *     h = beta (d_w - d_l) - margin_beta clip(r_w - r_l, -margin_limit, margin_limit)
 *     L = -log sigma(h)      (with label smoothing as in obj_dpo.c) */
#include <math.h>

#include "align/pair_term.h"

static unsigned dlma_needs(const struct plumb_align_param *p)
{
    (void)p;
    return PLUMB_NEED_LOGP | PLUMB_NEED_REF | PLUMB_NEED_REWARD | PLUMB_READ_BETA |
           PLUMB_READ_SMOOTHING;
}

static plumb_status dlma_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                              const struct plumb_align_param *p)
{
    for (int64_t k = 0; k < in->k; k++) {
        const int64_t w = in->pair[k].win, l = in->pair[k].lose;
        const double dw = in->logp[w] - in->logp_ref[w], dl = in->logp[l] - in->logp_ref[l];
        const double gap = in->reward[w] - in->reward[l];
        const double aim = p->margin_beta * fmax(fmin(gap, p->margin_limit), -p->margin_limit);
        const struct plumb_pair_term t = plumb_pair_logistic(
            dw - aim / p->beta, dl, p->beta, p->label_smoothing + in->pair[k].smooth);
        PLUMB_TRY(plumb_pair_add(out, out->dlogp, in, k, &t, p->beta * dw, p->beta * dl));
    }
    return PLUMB_OK;
}

const struct plumb_objective plumb_obj_dlma = {"dlma", "arXiv:2402.11907, eq. 8", dlma_needs,
                                               dlma_eval};

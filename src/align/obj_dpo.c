/* obj_dpo.c - Direct Preference Optimization, with label smoothing.
 * Layer 1. Includes align/ and base/ only.
 *
 * Rafailov et al. 2023, arXiv:2305.18290, eq. 7, for each pair of a preferred completion w and
 * another one l. s and s_ref: log-prob sum of a completion under the policy and under the
 * reference, d = s - s_ref:
 *
 *     h = beta (d_w - d_l)      L = -(1-e) log sigma(h) - e log sigma(-h)
 *
 * e = label_smoothing + plumb_pair.smooth. The method SPA (arXiv:2406.04412) sets plumb_pair.smooth
 * for pairs with a small margin. */
#include "align/pair_term.h"

static unsigned dpo_needs(const struct plumb_align_param *p)
{
    (void)p;
    return PLUMB_NEED_LOGP | PLUMB_NEED_REF | PLUMB_READ_BETA | PLUMB_READ_SMOOTHING;
}

static plumb_status dpo_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                             const struct plumb_align_param *p)
{
    for (int64_t k = 0; k < in->k; k++) {
        const int64_t w = in->pair[k].win, l = in->pair[k].lose;
        const double dw = in->logp[w] - in->logp_ref[w], dl = in->logp[l] - in->logp_ref[l];
        const struct plumb_pair_term t =
            plumb_pair_logistic(dw, dl, p->beta, p->label_smoothing + in->pair[k].smooth);
        PLUMB_TRY(plumb_pair_add(out, out->dlogp, in, k, &t, p->beta * dw, p->beta * dl));
    }
    return PLUMB_OK;
}

const struct plumb_objective plumb_obj_dpo = {"dpo", "arXiv:2305.18290, eq. 7", dpo_needs,
                                              dpo_eval};

/* obj_rdo.c - Reward Difference Optimization: DPO weighted by the reward difference.
 * Layer 1. Includes align/ and base/ only.
 *
 * Wang et al. 2024, arXiv:2408.09385, eq. 7, for each pair of a preferred completion w and another
 * one l. s and s_ref: log-prob sum of a completion under the policy and under the reference;
 * d = s - s_ref. r: reward after reward_norm; for given pairs the score in the record:
 *
 *     L = -(r_w - r_l) log sigma(beta (d_w - d_l))    (with label smoothing as in obj_dpo.c) */
#include "align/pair_term.h"

static unsigned rdo_needs(const struct plumb_align_param *p)
{
    (void)p;
    return PLUMB_NEED_LOGP | PLUMB_NEED_REF | PLUMB_NEED_REWARD | PLUMB_READ_BETA |
           PLUMB_READ_SMOOTHING;
}

static plumb_status rdo_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                             const struct plumb_align_param *p)
{
    for (int64_t k = 0; k < in->k; k++) {
        const int64_t w = in->pair[k].win, l = in->pair[k].lose;
        const double dw = in->logp[w] - in->logp_ref[w], dl = in->logp[l] - in->logp_ref[l];
        const double gap = in->reward[w] - in->reward[l];
        PLUMB_REQUIRE(gap >= 0, PLUMB_ERR_ARG,
                      "pair %lld: the winner's reward is lower than the loser's by %g",
                      (long long)k, -gap);
        struct plumb_pair_term t =
            plumb_pair_logistic(dw, dl, p->beta, p->label_smoothing + in->pair[k].smooth);
        t.loss *= gap, t.dwin *= gap, t.dlose *= gap;
        PLUMB_TRY(plumb_pair_add(out, out->dlogp, in, k, &t, p->beta * dw, p->beta * dl));
    }
    return PLUMB_OK;
}

const struct plumb_objective plumb_obj_rdo = {"rdo", "arXiv:2408.09385, eq. 7", rdo_needs,
                                              rdo_eval};

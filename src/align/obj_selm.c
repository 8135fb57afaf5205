/* obj_selm.c - SELM: DPO plus a term that lowers the log-prob of the reference's greedy answers.
 * Layer 1. Includes align/ and base/ only.
 *
 * Zhang et al. 2024, arXiv:2405.19332, algorithm 1 and its code. s and s_ref: log-prob sum of a
 * completion under the policy and under the reference, d = s - s_ref; a: plumb_imitation_length.
 * weight_i is 1 for the reference's greedy completions and 0 for all others. The paper's code does
 * not divide by a length; that is loss_aggregation: sum.
 *
 *     L = DPO loss of the pairs + optimism beta sum_i weight_i d_i / a_i */
#include "align/pair_term.h"

static unsigned selm_needs(const struct plumb_align_param *p)
{
    const unsigned aggregation =
        p->loss_aggregation == PLUMB_AGGREGATE_SEQUENCE ? PLUMB_NEED_LEN : 0u;
    return PLUMB_NEED_LOGP | PLUMB_NEED_REF | PLUMB_READ_BETA | PLUMB_READ_SMOOTHING |
           (p->optimism > 0 ? PLUMB_READ_AGGREGATION | aggregation : 0u);
}

static plumb_status selm_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                              const struct plumb_align_param *p)
{
    PLUMB_TRY(plumb_obj_dpo.eval(out, in, p));
    for (int64_t i = 0; in->weight && p->optimism > 0 && i < in->n; i++) {
        const double share =
            p->optimism * p->beta * in->weight[i] / plumb_imitation_length(in, i, p);
        const double bonus = share * (in->logp[i] - in->logp_ref[i]);
        out->dlogp[i] += in->scale * share;
        out->loss += in->scale * bonus;
        out->weighted_loss += bonus;
    }
    return PLUMB_OK;
}

const struct plumb_objective plumb_obj_selm = {"selm", "arXiv:2405.19332, algorithm 1", selm_needs,
                                               selm_eval};

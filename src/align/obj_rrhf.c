/* obj_rrhf.c - Rank Responses to align with Human Feedback: a hinge loss on all pairs, plus SFT.
 * Layer 1. Includes align/ and base/ only.
 *
 * Yuan et al. 2023, arXiv:2304.05302, eqs. 2 to 4, for each prompt; i and j run over its
 * completions. r: reward, s: log-prob sum, n: number of tokens, x = s/n, or x = s if
 * length_normalize is false; a: plumb_imitation_length; best: the completion with the highest
 * reward.
 *
 *     L = sum over r_i < r_j of max(0, x_i - x_j)  -  sft_weight s_best / a_best */
#include "align/group_term.h"

static unsigned rrhf_needs(const struct plumb_align_param *p)
{
    return PLUMB_NEED_LOGP | PLUMB_NEED_GROUP | PLUMB_NEED_LEN | PLUMB_READ_LENGTH |
           (p->sft_weight > 0 ? PLUMB_READ_AGGREGATION : 0u);
}

static plumb_status rrhf_group(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                               struct plumb_group g, const struct plumb_align_param *p)
{
    double loss = 0.0;
    for (int64_t i = g.begin; i < g.end; i++)
        for (int64_t j = g.begin; j < g.end; j++) {
            const double gap = plumb_group_x(in, i, p) - plumb_group_x(in, j, p);
            if (in->reward[i] >= in->reward[j] || gap <= 0)
                continue;
            loss += gap;
            out->dlogp[i] += in->scale / plumb_group_length(in, i, p);
            out->dlogp[j] -= in->scale / plumb_group_length(in, j, p);
        }
    loss += plumb_group_imitate(out, in, plumb_group_best(in, g), p);
    return plumb_group_add(out, in, g, loss, p);
}

static plumb_status rrhf_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                              const struct plumb_align_param *p)
{
    return plumb_groups_eval(out, in, p, rrhf_group);
}

const struct plumb_objective plumb_obj_rrhf = {"rrhf", "arXiv:2304.05302", rrhf_needs, rrhf_eval};

/* obj_vcb.c - Value-based Calibration: fits differences of log-ratios to differences of rewards.
 * Layer 1. Includes align/ and base/ only.
 *
 * Source: VCB, arXiv:2402.16030, for each prompt with m scored completions. s and s^ref: log-prob
 * sum of a completion under the policy and under the reference, r: reward after reward_norm, std:
 * population standard deviation of the prompt's r, plus 1e-6:
 *
 *     u_i = s_i - reference_weight s_i^ref - lambda r_i / std
 *     L   = mean over all pairs i < j of (u_i - u_j)^2 = 2/(m-1) sum_i (u_i - mean u)^2
 *     dL/ds_i = 4/(m-1) (u_i - mean u)
 *
 * The paper's parameters beta and gamma give reference_weight = beta/gamma and lambda = 1/gamma. */
#include <math.h>

#include "align/group_term.h"

static unsigned vcb_needs(const struct plumb_align_param *p)
{
    /* Only the metrics read beta: they report beta * (logp - logp_ref) as implicit reward. */
    return PLUMB_NEED_LOGP | PLUMB_NEED_GROUP |
           (p->reference_weight != 0 ? PLUMB_NEED_REF | PLUMB_READ_BETA : 0u);
}

/* Returns u_i of the formula in the file head for sequence i. unit = lambda / std. */
static double value_of(const struct plumb_obj_in *in, int64_t i, double unit,
                       const struct plumb_align_param *p)
{
    const double ref = p->reference_weight != 0 ? p->reference_weight * in->logp_ref[i] : 0.0;
    return in->logp[i] - ref - unit * in->reward[i];
}

static plumb_status vcb_group(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                              struct plumb_group g, const struct plumb_align_param *p)
{
    const double m = (double)(g.end - g.begin);
    const double unit = p->lambda / (plumb_group_reward_std(in, g) + 1e-6);
    double mean = 0.0, loss = 0.0;
    for (int64_t i = g.begin; i < g.end; i++)
        mean += value_of(in, i, unit, p) / m;
    for (int64_t i = g.begin; i < g.end; i++) {
        const double off = value_of(in, i, unit, p) - mean;
        loss += 2.0 / (m - 1.0) * off * off;
        out->dlogp[i] += in->scale * 4.0 / (m - 1.0) * off;
    }
    return plumb_group_add(out, in, g, loss, p);
}

static plumb_status vcb_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                             const struct plumb_align_param *p)
{
    return plumb_groups_eval(out, in, p, vcb_group);
}

const struct plumb_objective plumb_obj_vcb = {"vcb", "arXiv:2402.16030", vcb_needs, vcb_eval};

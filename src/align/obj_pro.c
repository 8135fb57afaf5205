/* obj_pro.c - Preference Ranking Optimization: each completion against all worse completions.
 * Layer 1. Includes align/ and base/ only.
 *
 * Song et al. 2023, arXiv:2306.17492, eqs. 7 and 9, for each prompt. Its m completions have the
 * indices 1 .. m in the order of falling reward r. s: log-prob sum of a completion; f: s divided by
 * its number of tokens, or s if length_normalize is false; a: plumb_imitation_length:
 *
 *     L = - sum_{k<m} log( e^{h_kk} / (e^{h_kk} + sum_{i>k} e^{h_ki}) )  -  sft_weight s_1 / a_1
 *     h_ki = f_i (r_k - r_i)      h_kk = f_k (r_k - r_m)
 *
 * r_k - r_m is the largest of the differences r_k - r_i in the term of k. */
#include <math.h>

#include "align/group_term.h"

static unsigned pro_needs(const struct plumb_align_param *p)
{
    return PLUMB_NEED_LOGP | PLUMB_NEED_GROUP | PLUMB_NEED_LEN | PLUMB_READ_LENGTH |
           (p->sft_weight > 0 ? PLUMB_READ_AGGREGATION : 0u);
}

/* Returns true if completion i ranks below completion k: the reward of i is lower, or it is equal
 * and i > k. */
static bool behind(const struct plumb_obj_in *in, int64_t i, int64_t k)
{
    return in->reward[i] < in->reward[k] || (in->reward[i] == in->reward[k] && i > k);
}

/* Returns the loss term of completion k (see the file head) and adds its derivatives to out->dlogp.
 * worst: lowest reward of the prompt. */
static double pro_term(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                       struct plumb_group g, int64_t k, double worst,
                       const struct plumb_align_param *p)
{
    const double own = plumb_group_x(in, k, p) * (in->reward[k] - worst);
    double most = own, sum = 0.0;
    for (int64_t i = g.begin; i < g.end; i++)
        if (behind(in, i, k))
            most = fmax(most, plumb_group_x(in, i, p) * (in->reward[k] - in->reward[i]));
    for (int64_t i = g.begin; i < g.end; i++)
        if (behind(in, i, k))
            sum += exp(plumb_group_x(in, i, p) * (in->reward[k] - in->reward[i]) - most);
    if (sum == 0.0)
        return 0.0; /* k ranks last, or all other terms are 0 in double */
    const double all = exp(own - most) + sum;
    for (int64_t i = g.begin; i < g.end; i++) {
        if (!behind(in, i, k))
            continue;
        const double gap = in->reward[k] - in->reward[i];
        const double share = exp(plumb_group_x(in, i, p) * gap - most) / all;
        out->dlogp[i] += in->scale * share * gap / plumb_group_length(in, i, p);
    }
    out->dlogp[k] -= in->scale * sum / all * (in->reward[k] - worst) / plumb_group_length(in, k, p);
    return most + log(all) - own;
}

static plumb_status pro_group(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                              struct plumb_group g, const struct plumb_align_param *p)
{
    double loss = 0.0, worst = in->reward[g.begin];
    for (int64_t i = g.begin; i < g.end; i++)
        worst = fmin(worst, in->reward[i]);
    for (int64_t k = g.begin; k < g.end; k++)
        loss += pro_term(out, in, g, k, worst, p);
    loss += plumb_group_imitate(out, in, plumb_group_best(in, g), p);
    return plumb_group_add(out, in, g, loss, p);
}

static plumb_status pro_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                             const struct plumb_align_param *p)
{
    return plumb_groups_eval(out, in, p, pro_group);
}

const struct plumb_objective plumb_obj_pro = {"pro", "arXiv:2306.17492", pro_needs, pro_eval};

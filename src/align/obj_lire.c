/* obj_lire.c - Listwise Reward Enhancement: the expected reward under a softmax of the log-probs.
 * Layer 1. Includes align/ and base/ only.
 *
 * Zhu et al. 2024, arXiv:2405.13516, eq. 5, for each prompt; i and j run over its completions. s:
 * log-prob sum of a completion, r: its reward after reward_norm:
 *
 *     Q = softmax(s / list_temperature)   rho = softmax(r)   L = - sum_i Q_i rho_i
 *     dL/ds_i = - Q_i (rho_i - sum_j Q_j rho_j) / list_temperature */
#include <math.h>

#include "align/group_term.h"

static unsigned lire_needs(const struct plumb_align_param *p)
{
    (void)p;
    return PLUMB_NEED_LOGP | PLUMB_NEED_GROUP;
}

/* The two numbers from which softmax(x / t) over a group follows: softmax_i = exp((x_i - most) / t)
 * / sum. most: the largest x of the group; sum: the sum of exp((x_i - most) / t) over the group. */
struct soft {
    double most, sum;
};

static struct soft soft_of(const double *x, struct plumb_group g, double t)
{
    struct soft s = {x[g.begin], 0.0};
    for (int64_t i = g.begin; i < g.end; i++)
        s.most = fmax(s.most, x[i]);
    for (int64_t i = g.begin; i < g.end; i++)
        s.sum += exp((x[i] - s.most) / t);
    return s;
}

static plumb_status lire_group(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                               struct plumb_group g, const struct plumb_align_param *p)
{
    const double t = p->list_temperature;
    const struct soft q = soft_of(in->logp, g, t), rho = soft_of(in->reward, g, 1.0);
    double expected = 0.0;
    for (int64_t i = g.begin; i < g.end; i++)
        expected +=
            exp((in->logp[i] - q.most) / t) / q.sum * exp(in->reward[i] - rho.most) / rho.sum;
    for (int64_t i = g.begin; i < g.end; i++) {
        const double share = exp((in->logp[i] - q.most) / t) / q.sum;
        const double value = exp(in->reward[i] - rho.most) / rho.sum;
        out->dlogp[i] -= in->scale * share * (value - expected) / t;
    }
    return plumb_group_add(out, in, g, -expected, p);
}

static plumb_status lire_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                              const struct plumb_align_param *p)
{
    return plumb_groups_eval(out, in, p, lire_group);
}

const struct plumb_objective plumb_obj_lire = {"lire", "arXiv:2405.13516, eq. 5", lire_needs,
                                               lire_eval};

/* group_term.c - functions that the objectives over all completions of a prompt (a group) share: a
 * loop over the groups, sums of loss and metrics, the best completion, the imitation term.
 * Layer 1. Includes align/ and base/ only. */
#include "align/group_term.h"

#include <math.h>

#include "align/pair_term.h"

plumb_status plumb_groups_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                               const struct plumb_align_param *p, plumb_group_fn *fn)
{
    for (int64_t q = 0; q < in->groups; q++)
        PLUMB_TRY(fn(out, in, (struct plumb_group){in->group[q], in->group[q + 1]}, p));
    return PLUMB_OK;
}

int64_t plumb_group_best(const struct plumb_obj_in *in, struct plumb_group g)
{
    int64_t best = g.begin;
    for (int64_t i = g.begin; i < g.end; i++)
        if (in->reward[i] > in->reward[best])
            best = i;
    return best;
}

double plumb_group_reward_std(const struct plumb_obj_in *in, struct plumb_group g)
{
    const double m = (double)(g.end - g.begin);
    double mean = 0.0, square = 0.0;
    for (int64_t i = g.begin; i < g.end; i++)
        mean += in->reward[i] / m;
    for (int64_t i = g.begin; i < g.end; i++)
        square += (in->reward[i] - mean) * (in->reward[i] - mean) / m;
    return sqrt(square);
}

plumb_status plumb_group_add(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                             struct plumb_group g, double loss, const struct plumb_align_param *p)
{
    PLUMB_REQUIRE(isfinite(loss), PLUMB_ERR_NUMERIC,
                  "group of sequences %lld to %lld: the loss is %g, expected a finite number",
                  (long long)g.begin, (long long)g.end - 1, loss);
    const int64_t best = plumb_group_best(in, g);
    int64_t worst = g.begin;
    for (int64_t i = g.begin; i < g.end; i++)
        if (in->reward[i] < in->reward[worst])
            worst = i;
    const double chosen = in->logp_ref ? p->beta * (in->logp[best] - in->logp_ref[best])
                                       : in->logp[best] / (double)(in->len ? in->len[best] : 1);
    const double rejected = in->logp_ref ? p->beta * (in->logp[worst] - in->logp_ref[worst])
                                         : in->logp[worst] / (double)(in->len ? in->len[worst] : 1);
    out->loss += in->scale * loss;
    out->rank_loss += loss;
    out->chosen += chosen;
    out->rejected += rejected;
    out->margin += chosen - rejected;
    out->accurate += chosen > rejected;
    return PLUMB_OK;
}

double plumb_group_imitate(struct plumb_obj_out *out, const struct plumb_obj_in *in, int64_t i,
                           const struct plumb_align_param *p)
{
    if (p->sft_weight == 0)
        return 0.0;
    const double share = p->sft_weight / plumb_imitation_length(in, i, p);
    out->dlogp[i] -= in->scale * share;
    return -share * in->logp[i];
}

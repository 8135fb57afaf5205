/* reads.c - which parameters a method reads, with the values that the others have.
 * Layer 1. Includes align/ and base/ only.
 *
 * tests/align/test_reads.c changes every field of struct plumb_align_param for every method and
 * compares what comes out with this table. */
#include <string.h>

#include "align/method.h"

typedef bool reads_fn(const struct plumb_method *m, const struct plumb_align_param *p);

static bool by_threshold(const struct plumb_method *m)
{
    return m->rule == plumb_threshold_branch || m->rule == plumb_threshold_weigh;
}

static bool branches(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->rule == plumb_threshold_branch;
}

static bool moves_threshold(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return by_threshold(m);
}

static bool first_tau(const struct plumb_method *m, const struct plumb_align_param *p)
{
    return by_threshold(m) && p->threshold == PLUMB_THRESHOLD_DECAY;
}

static bool decay(const struct plumb_method *m, const struct plumb_align_param *p)
{
    return first_tau(m, p) || (by_threshold(m) && p->threshold == PLUMB_THRESHOLD_MEAN_DECAY);
}

static bool quantile(const struct plumb_method *m, const struct plumb_align_param *p)
{
    return by_threshold(m) && p->threshold == PLUMB_THRESHOLD_QUANTILE;
}

static bool mean(const struct plumb_method *m, const struct plumb_align_param *p)
{
    return by_threshold(m) && p->threshold == PLUMB_THRESHOLD_MEAN_DECAY;
}

static bool reverses(const struct plumb_method *m, const struct plumb_align_param *p)
{
    return branches(m, p) && p->rank_loss != PLUMB_RANK_NONE;
}

static bool weighs(const struct plumb_method *m, const struct plumb_align_param *p)
{
    return branches(m, p) && p->weighted_loss == PLUMB_WEIGHTED_SOFTMAX;
}

static bool dpo_branch(const struct plumb_method *m, const struct plumb_align_param *p)
{
    return m->objective == &plumb_obj_psle && p->rank_loss == PLUMB_RANK_DPO;
}

/* Objectives whose every term has beta in it. */
static const struct plumb_objective *const by_beta[] = {
    &plumb_obj_dpo, &plumb_obj_ipo,  &plumb_obj_rdo,
    &plumb_obj_aps, &plumb_obj_selm, &plumb_obj_dlma,
};

static bool beta(const struct plumb_method *m, const struct plumb_align_param *p)
{
    const struct plumb_objective *o = m->objective;
    for (size_t i = 0; i < sizeof(by_beta) / sizeof(by_beta[0]); i++)
        if (o == by_beta[i])
            return true;
    return dpo_branch(m, p) || (o == &plumb_obj_psle && p->rank_loss == PLUMB_RANK_LOGISTIC) ||
           (o == &plumb_obj_vcb && p->reference_weight != 0); /* of implicit rewards it reports */
}

static bool smooths(const struct plumb_method *m, const struct plumb_align_param *p)
{
    const struct plumb_objective *o = m->objective;
    return o == &plumb_obj_dpo || o == &plumb_obj_rdo || o == &plumb_obj_selm ||
           o == &plumb_obj_dlma || dpo_branch(m, p);
}

static bool divides(const struct plumb_method *m, const struct plumb_align_param *p)
{
    const struct plumb_objective *o = m->objective;
    const bool weighted = p->weighted_loss != PLUMB_WEIGHTED_NONE;
    return o == &plumb_obj_sft || o == &plumb_obj_rrhf || o == &plumb_obj_pro ||
           (o == &plumb_obj_psle && (p->rank_loss != PLUMB_RANK_DPO || weighted));
}

static bool of_vcb(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->objective == &plumb_obj_vcb;
}

static bool of_lire(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->objective == &plumb_obj_lire;
}

static bool imitates(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->objective == &plumb_obj_rrhf || m->objective == &plumb_obj_pro;
}

static bool of_curriculum(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->rule == plumb_threshold_weigh;
}

static bool judges(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->source == PLUMB_SOURCE_IMPLICIT;
}

static bool picks(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->pick;
}

static bool doubts(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->doubt;
}

static bool renews(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->renew;
}

static bool contrasts(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->source == PLUMB_SOURCE_CONTRAST;
}

static bool by_sigmoid(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->rule == plumb_threshold_sigmoid;
}

static bool optimistic(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->optimism;
}

static bool of_aps(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->objective == &plumb_obj_aps;
}

static bool guided(const struct plumb_method *m, const struct plumb_align_param *p)
{
    (void)p;
    return m->principled || m->source == PLUMB_SOURCE_CONTRAST;
}

static const struct {
    const char *option;
    reads_fn *reads;
} table[] = {
    {"tau", first_tau},
    {"alpha", decay},
    {"rank_loss", branches},
    {"weighted_loss", branches},
    {"weight_temperature", weighs},
    {"threshold", moves_threshold},
    {"quantile_start", quantile},
    {"quantile_end", quantile},
    {"mean_k", mean},
    {"reverse", reverses},
    {"reference", plumb_method_needs_reference},
    {"beta", beta},
    {"label_smoothing", smooths},
    {"length_normalize", divides},
    {"lambda", of_vcb},
    {"reference_weight", of_vcb},
    {"list_temperature", of_lire},
    {"sft_weight", imitates},
    {"curriculum_temperature", of_curriculum},
    {"judge", judges},
    {"pick", picks},
    {"embedder", picks},
    {"keep", picks},
    {"noise_share", doubts},
    {"noise_window", doubts},
    {"noise_start", doubts},
    {"noise_smoothing", doubts},
    {"decoupling", doubts},
    {"renew", renews},
    {"contrary", contrasts},
    {"weight_beta", by_sigmoid},
    {"optimism", optimistic},
    {"margin_beta", contrasts},
    {"margin_limit", contrasts},
    {"rho", of_aps},
    {"principles", guided},
    {"principle_template", guided},
};
enum { OPTIONS = sizeof(table) / sizeof(table[0]) };

const char *plumb_method_option(int i)
{
    return i >= 0 && i < OPTIONS ? table[i].option : NULL;
}

bool plumb_method_reads(const struct plumb_method *m, const struct plumb_align_param *p,
                        const char *option)
{
    for (int i = 0; i < OPTIONS; i++)
        if (strcmp(table[i].option, option) == 0)
            return table[i].reads(m, p);
    return true; /* name; reward_norm, of which all report margins */
}

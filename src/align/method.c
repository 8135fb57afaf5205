/* method.c - checks a method's parameters, and chooses the loss term of each prompt of an
 * iteration.
 * Layer 1. Includes align/ and base/ only. */
#include "align/method.h"

#include <math.h>

plumb_status plumb_method_check(const struct plumb_method *m, const struct plumb_align_param *p,
                                int64_t group_size)
{
    PLUMB_TRY(plumb_align_param_check(p));
    PLUMB_REQUIRE(plumb_method_principled(m, group_size) >= 0, PLUMB_ERR_CONFIG,
                  "generate.group_size: %s answers half of each group under the principles: "
                  "expected an even number, found %lld",
                  m->name, (long long)group_size);
    if (m->check)
        PLUMB_TRY(m->check(p));
    PLUMB_REQUIRE(group_size >= m->selector->least_group, PLUMB_ERR_CONFIG,
                  "group_size = %lld, but method %s needs at least %lld", (long long)group_size,
                  m->name, (long long)m->selector->least_group);
    return PLUMB_OK;
}

int64_t plumb_method_principled(const struct plumb_method *m, int64_t group_size)
{
    return m->principled ? m->principled(group_size) : 0;
}

bool plumb_method_compares_tau(const struct plumb_method *m)
{
    return m->rule == plumb_threshold_branch || m->rule == plumb_threshold_weigh;
}

bool plumb_method_needs_reference(const struct plumb_method *m, const struct plumb_align_param *p)
{
    return (m->objective->needs(p) & PLUMB_NEED_REF) != 0;
}

static double prompt_entropy(const struct plumb_scoreboard *b, int64_t prompt)
{
    double h = 0.0;
    for (int64_t i = prompt * b->group_size; i < (prompt + 1) * b->group_size; i++)
        if (b->weight[i] > 0)
            h -= b->weight[i] * log(b->weight[i]);
    return h;
}

static void fill_report(struct plumb_align_report *r, const struct plumb_scoreboard *b)
{
    double entropy = 0.0;
    r->prompts = b->prompts;
    for (int64_t q = 0; q < b->prompts; q++) {
        r->branch[b->choice[q].branch]++;
        if (b->choice[q].branch == PLUMB_BRANCH_WEIGHTED)
            entropy += prompt_entropy(b, q);
    }
    for (int k = 0; k < PLUMB_BRANCH_COUNT; k++)
        r->branch_share[k] = (double)r->branch[k] / (double)b->prompts;
    const int64_t weighted = r->branch[PLUMB_BRANCH_WEIGHTED];
    r->weight_entropy = weighted > 0 ? entropy / (double)weighted : NAN;
    r->terms = b->prompts - r->branch[PLUMB_BRANCH_SKIP];
}

plumb_status plumb_align_decide(struct plumb_scoreboard *b, struct plumb_threshold_state *state,
                                struct plumb_align_report *report, const struct plumb_method *m,
                                const struct plumb_align_param *p, double progress)
{
    PLUMB_TRY(plumb_scoreboard_close(b));
    *report = (struct plumb_align_report){0};
    plumb_stats_reward(&report->stats, b, p);
    for (int64_t q = 0; q < b->prompts; q++)
        m->selector->select(b, q, p);
    plumb_stats_margin(&report->stats, b);
    report->tau =
        plumb_threshold_of(p->threshold)->tau(state, &report->stats, b->work, p, progress);
    state->iteration++;
    for (int64_t q = 0; m->rule && q < b->prompts; q++)
        if (b->choice[q].branch != PLUMB_BRANCH_SKIP)
            m->rule(b, q, report->tau, p);
    fill_report(report, b);
    return PLUMB_OK;
}

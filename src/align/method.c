/* method.c - the rows, and the one order in which an iteration's decisions are made.
 * Layer 1. Includes align/ and base/ only. */
#include "align/method.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void fix_distillation(struct plumb_align_param *p)
{
    p->rank_loss = PLUMB_RANK_NONE;
    p->weighted_loss = PLUMB_WEIGHTED_PRINCIPLED_ONLY;
}

static void fix_curriculum(struct plumb_align_param *p)
{
    p->threshold = PLUMB_THRESHOLD_QUANTILE;
}

/* Scores of the policy itself keep their unit, nats. */
static void fix_own_scores(struct plumb_align_param *p)
{
    p->reward_norm = PLUMB_NORM_NONE;
}

static const struct plumb_method table[] = {
    {.name = "psle",
     .summary = "rank principle-guided over plain answers where clearly better, weigh the rest",
     .paper = "arXiv:2408.02599",
     .selector = &plumb_sel_principled,
     .rule = plumb_threshold_branch,
     .objective = &plumb_obj_psle,
     .principled = true,
     .reward = true},
    {.name = "psle_curriculum",
     .summary = "dpo on best over worst; a growing share of the clearest pairs counts in full",
     .paper = "arXiv:2408.02599, the published code family",
     .selector = &plumb_sel_extremes,
     .rule = plumb_threshold_weigh,
     .objective = &plumb_obj_dpo,
     .principled = true,
     .reward = true,
     .fix = fix_curriculum},
    {.name = "context_distillation",
     .summary = "SFT on principle-guided answers under the plain prompt",
     .paper = "arXiv:2112.00861",
     .selector = &plumb_sel_distill,
     .objective = &plumb_obj_sft,
     .principled = true,
     .fix = fix_distillation},
    {.name = "raft",
     .summary = "SFT on the best of a prompt's plain answers",
     .paper = "arXiv:2304.06767",
     .selector = &plumb_sel_best_of,
     .objective = &plumb_obj_sft,
     .reward = true},
    {.name = "vcb",
     .summary = "match gaps of log-ratio to gaps of normalised reward",
     .paper = "arXiv:2402.16030",
     .selector = &plumb_sel_group,
     .objective = &plumb_obj_vcb,
     .reward = true},
    {.name = "dpo",
     .summary = "the best of a prompt's answers over the worst, against the reference",
     .paper = "arXiv:2305.18290",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_dpo,
     .given_pairs = true,
     .reward = true},
    {.name = "ipo",
     .summary = "as dpo, to a margin and not beyond",
     .paper = "arXiv:2310.12036",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_ipo,
     .given_pairs = true,
     .reward = true},
    {.name = "rdo",
     .summary = "as dpo, each pair weighed by its reward difference",
     .paper = "arXiv:2408.09385",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_rdo,
     .given_pairs = true,
     .reward = true},
    {.name = "aps",
     .summary = "as dpo, with a temperature of each pair's own",
     .paper = "arXiv:2406.02764",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_aps,
     .given_pairs = true,
     .reward = true},
    {.name = "spa",
     .summary = "dpo on pairs that the policy judges itself, small margins doubted",
     .paper = "arXiv:2406.04412",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_dpo,
     .reward = true,
     .source = PLUMB_SOURCE_IMPLICIT,
     .doubt = true,
     .fix = fix_own_scores},
    {.name = "real",
     .summary = "dpo on the pair of a prompt's answers that are least alike, only they are scored",
     .paper = "arXiv:2409.17169",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_dpo,
     .given_pairs = true,
     .reward = true,
     .pick = true},
    {.name = "optune",
     .summary = "dpo, answers of the worst prompts renewed, pairs weighed by their difference",
     .paper = "arXiv:2406.07657",
     .selector = &plumb_sel_extremes,
     .rule = plumb_threshold_sigmoid,
     .objective = &plumb_obj_dpo,
     .given_pairs = true,
     .reward = true,
     .renew = true},
    {.name = "selm",
     .summary = "dpo, and away from the reference's greedy answer",
     .paper = "arXiv:2405.19332",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_selm,
     .reward = true,
     .optimism = true},
    {.name = "dlma",
     .summary = "dpo towards margins that the policy gives itself under contrary principles",
     .paper = "arXiv:2402.11907",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_dlma,
     .reward = true,
     .source = PLUMB_SOURCE_CONTRAST,
     .fix = fix_own_scores},
    {.name = "rrhf",
     .summary = "rank all answers of a prompt, imitate the best",
     .paper = "arXiv:2304.05302",
     .selector = &plumb_sel_group,
     .objective = &plumb_obj_rrhf,
     .reward = true},
    {.name = "lire",
     .summary = "raise the expected reward under the policy's own shares",
     .paper = "arXiv:2405.13516",
     .selector = &plumb_sel_group,
     .objective = &plumb_obj_lire,
     .reward = true},
    {.name = "pro",
     .summary = "each answer against all that are worse, imitate the best",
     .paper = "arXiv:2306.17492",
     .selector = &plumb_sel_group,
     .objective = &plumb_obj_pro,
     .reward = true},
};
enum { METHODS = sizeof(table) / sizeof(table[0]) };

const struct plumb_method *plumb_method_at(int i)
{
    return i >= 0 && i < METHODS ? &table[i] : NULL;
}

plumb_status plumb_method_find(const struct plumb_method **out, const char *name)
{
    char known[512] = "";
    size_t len = 0;
    for (int i = 0; i < METHODS; i++) {
        if (strcmp(table[i].name, name) == 0) {
            *out = &table[i];
            return PLUMB_OK;
        }
        if (len < sizeof(known))
            len += (size_t)snprintf(known + len, sizeof(known) - len, "%s%s", i ? ", " : "",
                                    table[i].name);
    }
    PLUMB_FAIL(PLUMB_ERR_CONFIG, "unknown method \"%s\"; known are %s", name, known);
}

plumb_status plumb_method_check(const struct plumb_method *m, const struct plumb_align_param *p,
                                int64_t group_size)
{
    PLUMB_TRY(plumb_align_param_check(p));
    PLUMB_REQUIRE(!m->principled || (group_size >= 2 && group_size % 2 == 0), PLUMB_ERR_CONFIG,
                  "group_size = %lld, but method %s needs an even one: half plain, half "
                  "principle-guided",
                  (long long)group_size, m->name);
    PLUMB_REQUIRE(m->objective != &plumb_obj_aps || p->label_smoothing == 0, PLUMB_ERR_CONFIG,
                  "method.label_smoothing = %g, but aps is not defined for doubted labels",
                  p->label_smoothing);
    PLUMB_REQUIRE(!m->doubt || p->label_smoothing + p->noise_smoothing <= 0.5, PLUMB_ERR_CONFIG,
                  "method.label_smoothing + method.noise_smoothing = %g, expected at most 0.5",
                  p->label_smoothing + p->noise_smoothing);
    PLUMB_REQUIRE(group_size >= m->selector->least_group, PLUMB_ERR_CONFIG,
                  "group_size = %lld, but method %s needs at least %lld", (long long)group_size,
                  m->name, (long long)m->selector->least_group);
    return PLUMB_OK;
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

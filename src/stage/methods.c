/* methods.c - the table of all methods that `method.name` can select.
 * Layer 5. Includes stage/method.h, align/, base/. */
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "config/config.h"
#include "stage/method.h"

static void fix_distillation(struct plumb_align_param *p)
{
    p->rank_loss = PLUMB_RANK_NONE;
    p->weighted_loss = PLUMB_WEIGHTED_PRINCIPLED_ONLY;
}

static void fix_curriculum(struct plumb_align_param *p)
{
    p->threshold = PLUMB_THRESHOLD_QUANTILE;
}

/* The function `fix` of methods that compute rewards from the policy's log-probs: turns reward
 * normalization off, so that these rewards stay in nats. */
static void fix_own_scores(struct plumb_align_param *p)
{
    p->reward_norm = PLUMB_NORM_NONE;
}

/* The function `principled` of methods that sample half of each group with the principles. Returns
 * half of group_size, or -1 if group_size is odd. */
static int64_t half_principled(int64_t group_size)
{
    return group_size % 2 == 0 ? group_size / 2 : -1;
}

static plumb_status check_aps(const struct plumb_align_param *p)
{
    PLUMB_REQUIRE(p->label_smoothing == 0, PLUMB_ERR_CONFIG,
                  "method.label_smoothing = %g, but aps is not defined for smoothed labels",
                  p->label_smoothing);
    return PLUMB_OK;
}

static plumb_status check_spa(const struct plumb_align_param *p)
{
    PLUMB_REQUIRE(p->label_smoothing + p->noise_smoothing <= 0.5, PLUMB_ERR_CONFIG,
                  "method.label_smoothing + method.noise_smoothing = %g, expected at most 0.5",
                  p->label_smoothing + p->noise_smoothing);
    return PLUMB_OK;
}

const struct plumb_method_given plumb_given_all = {0};

static const struct plumb_method table[] = {
    {.name = "psle",
     .summary = "rank principle-guided over plain answers where clearly better, weigh the rest",
     .paper = "arXiv:2408.02599",
     .selector = &plumb_sel_principled,
     .rule = plumb_threshold_branch,
     .objective = &plumb_obj_psle,
     .principled = half_principled,
     .guides = PLUMB_GUIDE_PRINCIPLES,
     .reward = true},
    {.name = "psle_curriculum",
     .summary = "dpo on best over worst; a growing share of the clearest pairs counts in full",
     .paper = "arXiv:2408.02599, the published code family",
     .selector = &plumb_sel_extremes,
     .rule = plumb_threshold_weigh,
     .objective = &plumb_obj_dpo,
     .principled = half_principled,
     .guides = PLUMB_GUIDE_PRINCIPLES,
     .reward = true,
     .fix = fix_curriculum},
    {.name = "context_distillation",
     .summary = "SFT on principle-guided answers under the plain prompt",
     .paper = "arXiv:2112.00861",
     .selector = &plumb_sel_distill,
     .objective = &plumb_obj_sft,
     .principled = half_principled,
     .guides = PLUMB_GUIDE_PRINCIPLES,
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
     .given = &plumb_given_all,
     .reward = true},
    {.name = "ipo",
     .summary = "as dpo, to a margin and not beyond",
     .paper = "arXiv:2310.12036",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_ipo,
     .given = &plumb_given_all,
     .reward = true},
    {.name = "rdo",
     .summary = "as dpo, each pair weighed by its reward difference",
     .paper = "arXiv:2408.09385",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_rdo,
     .given = &plumb_given_all,
     .reward = true},
    {.name = "aps",
     .summary = "as dpo, with a temperature of each pair's own",
     .paper = "arXiv:2406.02764",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_aps,
     .given = &plumb_given_all,
     .reward = true,
     .check = check_aps},
    {.name = "spa",
     .summary = "dpo on pairs that the policy judges itself, labels of small margins smoothed",
     .paper = "arXiv:2406.04412",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_dpo,
     .reward = true,
     .fix = fix_own_scores,
     .check = check_spa,
     .add = &plumb_add_spa},
    {.name = "real",
     .summary = "dpo on the pair of a prompt's answers that are least alike, only they are scored",
     .paper = "arXiv:2409.17169",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_dpo,
     .given = &plumb_given_real,
     .reward = true,
     .add = &plumb_add_real},
    {.name = "optune",
     .summary = "dpo, answers of the worst prompts renewed, pairs weighed by their difference",
     .paper = "arXiv:2406.07657",
     .selector = &plumb_sel_extremes,
     .rule = plumb_threshold_sigmoid,
     .objective = &plumb_obj_dpo,
     .given = &plumb_given_optune,
     .reward = true,
     .add = &plumb_add_optune},
    {.name = "selm",
     .summary = "dpo, and away from the reference's greedy answer",
     .paper = "arXiv:2405.19332",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_selm,
     .reward = true,
     .add = &plumb_add_selm},
    {.name = "dlma",
     .summary = "dpo towards margins that the policy gives itself under contrary principles",
     .paper = "arXiv:2402.11907",
     .selector = &plumb_sel_extremes,
     .objective = &plumb_obj_dlma,
     .reward = true,
     .guides = PLUMB_GUIDE_PRINCIPLES | PLUMB_GUIDE_CONTRARY,
     .fix = fix_own_scores,
     .add = &plumb_add_dlma},
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
    const char *instead = plumb_alias_elsewhere(name, false);
    PLUMB_FAIL(PLUMB_ERR_CONFIG, "method.name: unknown method \"%s\"%s%s; known are %s", name,
               instead ? ": " : "", instead ? instead : "", known);
}

const struct plumb_method_stages *plumb_method_adds(const struct plumb_method *m)
{
    static const struct plumb_method_stages nothing = {0};
    return m->add ? m->add : &nothing;
}

bool plumb_method_scores(const struct plumb_method *m)
{
    return plumb_method_adds(m)->score != NULL;
}

/* Returns the largest number of completions of one prompt that the method trains on. A method of
 * pairs trains on two. The rule of psle also trains on all completions of a prompt without a pair,
 * with weights. */
static int64_t most_trained(const struct plumb_method *m, int64_t group_size)
{
    if (m->selector == &plumb_sel_best_of)
        return 1;
    if (m->selector == &plumb_sel_distill)
        return plumb_method_principled(m, group_size);
    const bool pair = m->selector == &plumb_sel_extremes && m->rule != plumb_threshold_branch;
    return pair ? plumb_min_i64(2, group_size) : group_size;
}

int64_t plumb_method_sequences(const struct plumb_method *m, int64_t group_size)
{
    return most_trained(m, group_size) + plumb_method_adds(m)->extra_sequences;
}

bool plumb_method_needs_reward(const struct plumb_method *m)
{
    return m->reward && !plumb_method_scores(m);
}

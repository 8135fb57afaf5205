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

static const struct plumb_method table[] = {
    {.name = "psle",
     .summary = "rank principle-guided over plain answers where clearly better, weigh the rest",
     .paper = "arXiv:2408.02599",
     .selector = &plumb_sel_principled,
     .objective = &plumb_obj_psle,
     .principled = true,
     .reward = true},
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
};
enum { METHODS = sizeof(table) / sizeof(table[0]) };

const struct plumb_method *plumb_method_at(int i)
{
    return i >= 0 && i < METHODS ? &table[i] : NULL;
}

plumb_status plumb_method_find(const struct plumb_method **out, const char *name)
{
    char known[256] = "";
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
    PLUMB_REQUIRE(group_size >= 1, PLUMB_ERR_CONFIG, "group_size = %lld, expected at least 1",
                  (long long)group_size);
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
                                const struct plumb_align_param *p, int64_t iterations)
{
    PLUMB_TRY(plumb_scoreboard_close(b));
    *report = (struct plumb_align_report){0};
    plumb_stats_reward(&report->stats, b, p);
    for (int64_t q = 0; q < b->prompts; q++)
        m->selector->select(b, q, p);
    plumb_stats_margin(&report->stats, b);
    report->tau =
        plumb_threshold_of(p->threshold)->tau(state, &report->stats, b->work, p, iterations);
    state->iteration++;
    for (int64_t q = 0; m->selector->compares && q < b->prompts; q++)
        if (b->choice[q].branch != PLUMB_BRANCH_SKIP)
            plumb_threshold_branch(b, q, report->tau, p);
    fill_report(report, b);
    return PLUMB_OK;
}

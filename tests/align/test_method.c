/* test_method.c - checks the decisions of iterations (branches, pairs, weights): against golden
 * values and against values computed by hand. The decisions must be equal for 1, 2, 3 and 7
 * ranks. */
#include <stdbool.h>

#include "golden.h"
#include "stage/method.h"

static void put_all(struct plumb_scoreboard *b, const plumb_json *it, int rank, int world)
{
    for (int64_t i = 0; i < b->n; i++) {
        const int64_t q = i / b->group_size;
        if (q % world == rank)
            CHECK_OK(plumb_scoreboard_put(b, q, i % b->group_size, golden_at(it, "kind", i) == 2,
                                          golden_at(it, "reward", i)));
    }
}

static void check_stats(const struct plumb_align_stats *s, const plumb_json *want)
{
    CHECK((double)s->completions == golden_real(want, "completions"));
    CHECK((double)s->missing == golden_real(want, "missing"));
    CHECK((double)s->margins == golden_real(want, "margins"));
    CHECK(golden_near(s->reward_mean, golden_real(want, "reward_mean")));
    CHECK(golden_near(s->reward_std, golden_real(want, "reward_std")));
    CHECK(golden_near(s->reward_plain_mean, golden_real(want, "reward_plain_mean")));
    CHECK(golden_near(s->reward_principled_mean, golden_real(want, "reward_principled_mean")));
    CHECK(golden_near(s->margin_mean, golden_real(want, "margin_mean")));
    CHECK(golden_near(s->margin_std, golden_real(want, "margin_std")));
    for (int k = 0; k < PLUMB_STATS_QUANTILES; k++)
        CHECK(golden_near(s->margin_quantile[k], golden_at(want, "margin_quantile", k)));
}

static void check_decisions(const struct plumb_scoreboard *b, const struct plumb_align_report *r,
                            const plumb_json *want, int64_t c)
{
    CHECKF(golden_near(r->tau, golden_real(want, "tau")), "case %lld: tau %.17g, want %.17g",
           (long long)c, r->tau, golden_real(want, "tau"));
    int64_t count[PLUMB_BRANCH_COUNT] = {0};
    double terms = 0;
    for (int64_t q = 0; q < b->prompts; q++) {
        const struct plumb_choice *d = &b->choice[q];
        const char *branch =
            plumb_json_string(plumb_json_at(plumb_json_get(want, "branch"), q), "");
        CHECKF(!strcmp(plumb_branch_names[d->branch], branch), "case %lld prompt %lld: %s, want %s",
               (long long)c, (long long)q, plumb_branch_names[d->branch], branch);
        CHECK((double)d->win == golden_at(want, "win", q));
        CHECK((double)d->lose == golden_at(want, "lose", q));
        CHECK(golden_near(d->margin, golden_at(want, "margin", q)));
        count[d->branch]++;
        CHECK(golden_near(d->weight, golden_at(want, "choice_weight", q)));
        CHECK(golden_near(d->denominator, golden_at(want, "choice_mass", q)));
        terms += d->branch == PLUMB_BRANCH_SKIP ? 0.0 : d->denominator;
    }
    for (int64_t i = 0; i < b->n; i++) {
        CHECK(golden_near(b->norm[i], golden_at(want, "norm", i)));
        CHECKF(golden_near(b->weight[i], golden_at(want, "weight", i)),
               "case %lld: weight[%lld] %.17g, want %.17g", (long long)c, (long long)i,
               b->weight[i], golden_at(want, "weight", i));
        const struct plumb_choice *d = &b->choice[i / b->group_size];
        const bool paired = d->branch == PLUMB_BRANCH_RANK || d->branch == PLUMB_BRANCH_SWAP;
        CHECK(plumb_scoreboard_uses(b, i) == (paired ? i == d->win || i == d->lose
                                              : d->branch == PLUMB_BRANCH_GROUP
                                                  ? !isnan(b->norm[i])
                                                  : b->weight[i] > 0));
    }
    for (int k = 0; k < PLUMB_BRANCH_COUNT; k++) {
        CHECK(r->branch[k] == count[k]);
        CHECK(golden_near(r->branch_share[k], (double)count[k] / (double)b->prompts));
    }
    CHECK(golden_near(r->weight_entropy, golden_real(want, "weight_entropy")));
    CHECK(r->terms == b->prompts - count[PLUMB_BRANCH_SKIP]);
    CHECK(golden_near(plumb_scoreboard_terms(b, NULL, 0), terms));
    CHECK(plumb_scoreboard_terms(b, &(int64_t){0}, 1) ==
          (b->choice[0].branch != PLUMB_BRANCH_SKIP ? b->choice[0].denominator : 0.0));
}

static void check_case(const plumb_json *v, int64_t c)
{
    enum { WORLDS = 4 };
    const int world[WORLDS] = {1, 2, 3, 7};
    const struct plumb_method *m;
    struct plumb_align_param p = golden_param(plumb_json_get(v, "param"));
    const int64_t prompts = plumb_json_int(plumb_json_get(v, "prompts"), 0);
    const int64_t group = plumb_json_int(plumb_json_get(v, "group_size"), 0);
    CHECK_OK(plumb_method_find(&m, plumb_json_string(plumb_json_get(v, "method"), "")));
    if (m->fix)
        m->fix(&p);
    CHECK_OK(plumb_method_check(m, &p, group));

    struct plumb_scoreboard *whole, *part;
    CHECK_OK(plumb_scoreboard_create(&whole, prompts, group));
    CHECK_OK(plumb_scoreboard_create(&part, prompts + 3, group));
    struct plumb_threshold_state state[WORLDS];
    for (int w = 0; w < WORLDS; w++)
        state[w] = plumb_threshold_begin(&p);
    const plumb_json *its = plumb_json_get(v, "iterations");
    const int64_t total = plumb_json_count(its);
    for (int64_t it = 0; it < total; it++) {
        struct plumb_align_report first, report;
        const plumb_json *now = plumb_json_at(its, it);
        for (int w = 0; w < WORLDS; w++) {
            CHECK_OK(plumb_scoreboard_begin(whole, prompts));
            /* stands for the allreduce: adds the slots of all ranks */
            for (int r = 0; r < world[w]; r++) {
                CHECK_OK(plumb_scoreboard_begin(part, prompts));
                put_all(part, now, r, world[w]);
                for (int64_t s = 0; s < part->slots; s++)
                    whole->slot[s] += part->slot[s];
            }
            CHECK_OK(plumb_align_decide(whole, &state[w], &report, m, &p,
                                        total > 1 ? (double)it / (double)(total - 1) : 0));
            check_decisions(whole, &report, plumb_json_get(now, "expect"), c);
            check_stats(&report.stats, plumb_json_get(plumb_json_get(now, "expect"), "stats"));
            if (w == 0)
                first = report;
            /* every number of ranks must give the same bits, also for fields that are NaN */
            CHECK(memcmp(&first.stats, &report.stats, sizeof(first.stats)) == 0);
            CHECK(memcmp(&first.tau, &report.tau, sizeof(double)) == 0);
            CHECK(memcmp(&state[0], &state[w], sizeof(state[0])) == 0);
        }
    }
    CHECK(state[0].iteration == total);
    plumb_scoreboard_destroy(&whole);
    plumb_scoreboard_destroy(&part);
}

/* Returns the decision of psle for one prompt. plain, principled: the rewards of its answer without
 * and with a principle. Sets weight to the imitation weights of these two answers. */
static struct plumb_choice one(double plain, double principled, struct plumb_align_param p,
                               double weight[2])
{
    const struct plumb_method *m;
    struct plumb_scoreboard *b;
    struct plumb_align_report r;
    struct plumb_threshold_state s = plumb_threshold_begin(&p);
    CHECK_OK(plumb_method_find(&m, "psle"));
    CHECK_OK(plumb_scoreboard_create(&b, 1, 2));
    CHECK_OK(plumb_scoreboard_begin(b, 1));
    CHECK_OK(plumb_scoreboard_put(b, 0, 0, false, plain));
    CHECK_OK(plumb_scoreboard_put(b, 0, 1, true, principled));
    CHECK_OK(plumb_align_decide(b, &s, &r, m, &p, 1));
    CHECK(r.tau == 0.25 && golden_near(s.tau, 0.225) && s.iteration == 1);
    const struct plumb_choice c = b->choice[0];
    weight[0] = b->weight[0], weight[1] = b->weight[1];
    plumb_scoreboard_destroy(&b);
    return c;
}

static void check_by_hand(void)
{
    struct plumb_align_param p = plumb_align_param_default();
    p.reward_norm = PLUMB_NORM_NONE;
    p.tau = 0.25;
    double w[2];
    struct plumb_choice c = one(1.0, 1.5, p, w);
    CHECK(c.branch == PLUMB_BRANCH_RANK && c.win == 1 && c.lose == 0 && c.margin == 0.5);
    CHECK(w[0] == 0 && w[1] == 0);
    c = one(1.0, 1.25, p, w); /* the margin equals tau, which is not above tau */
    CHECK(c.branch == PLUMB_BRANCH_WEIGHTED);
    const double e = exp(-0.25);
    CHECK(golden_near(w[0], e / (1 + e)) && golden_near(w[1], 1 / (1 + e)));
    c = one(2.0, 1.0, p, w); /* the answer without a principle has the higher reward */
    CHECK(c.branch == PLUMB_BRANCH_WEIGHTED && golden_near(w[1], exp(-1) / (1 + exp(-1))));
    p.reverse = PLUMB_REVERSE_SWAP;
    c = one(2.0, 1.0, p, w);
    CHECK(c.branch == PLUMB_BRANCH_SWAP && c.win == 0 && c.lose == 1 && c.margin == -1 &&
          w[0] == 0);
    c = one(1.25, 1.0, p, w);
    CHECK(c.branch == PLUMB_BRANCH_WEIGHTED);
    c = one(NAN, 1.0, p, w); /* a missing reward skips the prompt; it does not count as 0 */
    CHECK(c.branch == PLUMB_BRANCH_SKIP && w[0] == 0 && w[1] == 0);
    c = one(1.0, INFINITY, p, w);
    CHECK(c.branch == PLUMB_BRANCH_SKIP);
    /* the better answer has nearly all weight, and nothing overflows */
    p.weight_temperature = 1e-3;
    c = one(1000.0, 1000.2, p, w);
    CHECK(c.branch == PLUMB_BRANCH_WEIGHTED && w[1] == 1 && w[0] < 1e-80);
    p.rank_loss = PLUMB_RANK_NONE;
    CHECK(one(1.0, 9.0, p, w).branch == PLUMB_BRANCH_WEIGHTED);
}

/* Checks that among equal best rewards in a group of four, the answer with the lowest index is
 * chosen. */
static void check_ties(void)
{
    const struct plumb_method *m;
    struct plumb_align_param p = plumb_align_param_default();
    struct plumb_threshold_state s = plumb_threshold_begin(&p);
    struct plumb_align_report r;
    struct plumb_scoreboard *b;
    const char *names[] = {"psle", "raft"};
    const double reward[4] = {-1, -1, 2, 2};
    CHECK_OK(plumb_scoreboard_create(&b, 1, 4));
    for (int k = 0; k < 2; k++) {
        CHECK_OK(plumb_method_find(&m, names[k]));
        CHECK_OK(plumb_scoreboard_begin(b, 1));
        for (int i = 3; i >= 0; i--)
            CHECK_OK(plumb_scoreboard_put(b, 0, i, i >= 2, reward[i]));
        CHECK_OK(plumb_align_decide(b, &s, &r, m, &p, 1));
        CHECK(b->choice[0].win == 2 && b->choice[0].lose == (k == 0 ? 0 : -1));
        CHECK(plumb_scoreboard_uses(b, 2) && !plumb_scoreboard_uses(b, 3));
    }
    plumb_scoreboard_destroy(&b);
}

static void check_table(void)
{
    const struct plumb_method *m;
    struct plumb_align_param p = plumb_align_param_default();
    CHECK(plumb_method_find(&m, "psl") == PLUMB_ERR_CONFIG);
    CHECK(strstr(plumb_trail_message(), "psle, psle_curriculum, context_distillation, raft"));
    for (int i = 0; plumb_method_at(i); i++) {
        CHECK_OK(plumb_method_find(&m, plumb_method_at(i)->name));
        CHECK(m == plumb_method_at(i) && m->selector && m->objective && m->summary && m->paper);
    }
    CHECK_OK(plumb_method_find(&m, "psle"));
    CHECK(!plumb_method_needs_reference(m, &p));
    CHECK(plumb_method_check(m, &p, 3) == PLUMB_ERR_CONFIG);
    CHECK(strstr(plumb_trail_message(), "expected an even number, found 3"));
    p.rank_loss = PLUMB_RANK_DPO;
    CHECK(plumb_method_needs_reference(m, &p));
    CHECK_OK(plumb_method_find(&m, "aps"));
    CHECK(plumb_method_check(m, &p, 1) == PLUMB_ERR_CONFIG);
    CHECK(strstr(plumb_trail_message(), "aps needs at least 2"));
    p.label_smoothing = 0.1;
    CHECK(plumb_method_check(m, &p, 2) == PLUMB_ERR_CONFIG);
    CHECK(strstr(plumb_trail_message(), "label_smoothing = 0.1"));
    CHECK_OK(plumb_method_find(&m, "psle"));
    p.alpha = 1.5;
    CHECK(plumb_method_check(m, &p, 2) == PLUMB_ERR_CONFIG);
    CHECK(strstr(plumb_trail_message(), "method.alpha = 1.5"));
    p = plumb_align_param_default();
    p.tau = NAN;
    CHECK(plumb_align_param_check(&p) == PLUMB_ERR_CONFIG);
    p = plumb_align_param_default();
    p.rank_loss = PLUMB_RANK_NONE, p.weighted_loss = PLUMB_WEIGHTED_NONE;
    CHECK(plumb_align_param_check(&p) == PLUMB_ERR_CONFIG);
    CHECK(strstr(plumb_trail_message(), "nothing would be trained"));
}

int main(void)
{
    plumb_json *doc = golden_read("decide");
    CHECK(plumb_json_count(doc) >= 20);
    for (int64_t c = 0; c < plumb_json_count(doc); c++)
        check_case(plumb_json_at(doc, c), c);
    plumb_json_free(&doc);
    check_by_hand();
    check_ties();
    check_table();
    return 0;
}

/* test_loss.c - checks one iteration of every method, from rewards to the loss and its derivatives:
 * against golden values, and in settings in which two methods are equal.
 * Test. Includes align/, whole.h. */
#include "whole.h"

static void check_case(const plumb_json *v, int64_t c, bool *seen)
{
    struct whole w;
    whole_begin(&w, plumb_json_string(plumb_json_get(v, "method"), ""),
                plumb_json_int(plumb_json_get(v, "prompts"), 0),
                plumb_json_int(plumb_json_get(v, "group_size"), 0));
    w.p = golden_param(plumb_json_get(v, "param"));
    const int64_t n = w.prompts * w.group, all = n + w.prompts;
    for (int64_t i = 0; i < n; i++) {
        w.reward[i] = golden_at(v, "reward", i);
        CHECK(w.principled[i] == (golden_at(v, "kind", i) == 2));
    }
    for (int64_t i = 0; i < all; i++) {
        w.logp[i] = golden_at(v, "logp", i), w.ref[i] = golden_at(v, "logp_ref", i);
        w.len[i] = (int32_t)golden_at(v, "len", i);
    }
    const double loss = whole_loss(&w), want = golden_real(v, "loss");
    CHECKF(golden_near(loss, want), "case %lld %s: %.17g, want %.17g", (long long)c, w.m->name,
           loss, want);
    for (int64_t i = 0; i < all; i++)
        CHECKF(golden_near(w.dlogp[i], golden_at(v, "dlogp", i)),
               "case %lld %s: dlogp[%lld] %.17g, want %.17g", (long long)c, w.m->name, (long long)i,
               w.dlogp[i], golden_at(v, "dlogp", i));
    for (int i = 0; plumb_method_at(i); i++)
        seen[i] = seen[i] || plumb_method_at(i) == w.m;
}

/* Returns an iteration with random rewards and log-probs without ties. Every call returns the same
 * numbers. */
static struct whole world(const char *method, int64_t prompts, int64_t group)
{
    struct whole w;
    struct rng r = {0x2545f4914f6cdd1dull};
    whole_begin(&w, method, prompts, group);
    for (int64_t i = 0; i < prompts * (group + 1); i++) {
        w.reward[i] = 4 * rng_u(&r) - 2, w.len[i] = 1 + (int)(9 * rng_u(&r));
        w.logp[i] = -20 * rng_u(&r), w.ref[i] = -20 * rng_u(&r);
    }
    return w;
}

/* Returns a copy of w for another method, with the same answers and settings. */
static struct whole like(const struct whole *w, const char *method)
{
    struct whole other = *w;
    CHECK_OK(plumb_method_find(&other.m, method));
    return other;
}

static void expect_same(struct whole *a, struct whole *b, double near)
{
    const double loss = whole_loss(a), want = whole_loss(b);
    CHECKF(fabs(loss - want) <= near * fmax(1, fabs(want)), "%s %.17g, %s %.17g", a->m->name, loss,
           b->m->name, want);
    for (int64_t i = 0; i < a->prompts * a->group; i++)
        CHECKF(fabs(a->dlogp[i] - b->dlogp[i]) <= near, "%s [%lld] %.17g, %s %.17g", a->m->name,
               (long long)i, a->dlogp[i], b->m->name, b->dlogp[i]);
}

/* Checks how many of nine prompts psle ranks, with a threshold tau at the smallest margin, at the
 * median, at the largest one, and below and above all margins. */
static void check_thresholds(void)
{
    struct whole w = world("psle", 9, 2);
    w.p.threshold = PLUMB_THRESHOLD_QUANTILE;
    /* tau is the smallest margin: the eight prompts with larger margins are ranked */
    w.p.quantile_start = 0, whole_loss(&w);
    CHECK(w.report.branch[PLUMB_BRANCH_RANK] == 8 && w.report.branch[PLUMB_BRANCH_WEIGHTED] == 1);
    /* in the last iteration, tau is the largest margin */
    w.p.quantile_end = w.progress = 1, whole_loss(&w);
    CHECK(w.report.branch[PLUMB_BRANCH_RANK] == 0 && w.report.branch[PLUMB_BRANCH_WEIGHTED] == 9);
    struct whole none = w;
    none.p.threshold = PLUMB_THRESHOLD_DECAY, none.p.rank_loss = PLUMB_RANK_NONE;
    expect_same(&w, &none, 0);
    none.p.rank_loss = PLUMB_RANK_HINGE, none.p.tau = 1e6; /* tau is far above every margin */
    expect_same(&w, &none, 0);
    /* tau is the median of the nine margins, so four margins are above it */
    w.progress = 0.5, whole_loss(&w);
    CHECK(w.report.branch[PLUMB_BRANCH_RANK] == 4);
    none = w;
    none.p.threshold = PLUMB_THRESHOLD_MEAN_DECAY, none.p.alpha = 1, none.p.mean_k = -100;
    whole_loss(&none); /* tau is far below every margin, so all prompts are ranked */
    CHECK(none.report.branch[PLUMB_BRANCH_RANK] == 9);
    none.p.mean_k = 100, whole_loss(&none);
    CHECK(none.report.branch[PLUMB_BRANCH_RANK] == 0);
    none.p.mean_k = 0, whole_loss(&none);
    CHECK(none.report.tau == none.report.stats.margin_mean);
    /* with alpha = 1, tau does not decay */
    struct plumb_threshold_state s = plumb_threshold_begin(&w.p);
    w.p.alpha = 1;
    for (int i = 0; i < 5; i++)
        CHECK(plumb_thr_decay.tau(&s, NULL, NULL, &w.p, 5) == w.p.tau);
}

/* Checks the settings in which psle is another method. If all prompts are ranked with rank_loss
 * dpo, psle is dpo on the pair of the principled answer and the plain one (without a principle). If
 * all prompts are weighted, psle is raft for a weight_temperature near 0, has equal weights for a
 * high weight_temperature, and is context_distillation with weighted_loss principled_only. */
static void check_psle(void)
{
    struct whole a = world("psle", 8, 2), b = like(&a, "dpo");
    a.p.rank_loss = PLUMB_RANK_DPO, a.p.threshold = PLUMB_THRESHOLD_NONE;
    a.p.reverse = PLUMB_REVERSE_SWAP;
    expect_same(&a, &b, 1e-14);
    a.p.rank_loss = PLUMB_RANK_NONE, a.p.weight_temperature = 1e-9;
    b = like(&a, "raft");
    expect_same(&a, &b, 1e-14);
    a.limit = true, a.p.weight_temperature = 1e12, whole_loss(&a);
    a.limit = false, a.p.weight_temperature = 1;
    double tokens = 0;
    for (int64_t i = 0; i < 16; i++)
        tokens += a.len[i];
    for (int64_t i = 0; i < 16; i++)
        CHECK(fabs(a.weight[i] - 0.5) < 1e-11 && fabs(a.dlogp[i] + 1 / tokens) < 1e-11);
    CHECK(fabs(a.report.weight_entropy - log(2.0)) < 1e-11);
    a.p.weighted_loss = PLUMB_WEIGHTED_PRINCIPLED_ONLY;
    b = like(&a, "context_distillation");
    expect_same(&a, &b, 0);
    a = world("raft", 8, 1); /* with one answer per prompt, raft is SFT on all answers */
    whole_loss(&a);
    tokens = 0;
    for (int64_t i = 0; i < 8; i++)
        tokens += a.len[i];
    /* the loss is the mean over all tokens of the batch, as in Hugging Face's trainers */
    for (int64_t i = 0; i < 8; i++)
        CHECK(golden_near(a.dlogp[i], -1 / tokens));
    a.p.loss_aggregation = PLUMB_AGGREGATE_SEQUENCE, whole_loss(&a);
    for (int64_t i = 0; i < 8; i++)
        CHECK(golden_near(a.dlogp[i], -1.0 / 8 / (double)a.len[i]));
}

/* Checks psle with groups of four answers that contain each answer of a group of two twice. For
 * every rank_loss, the loss and the branches must be those of the groups of two. Each of the two
 * copies of an answer gets half of its derivative. */
static void check_group_form(void)
{
    const enum plumb_rank_loss kind[] = {PLUMB_RANK_HINGE, PLUMB_RANK_LOGISTIC,
                                         PLUMB_RANK_HINGE_PROB, PLUMB_RANK_DPO, PLUMB_RANK_NONE};
    for (int k = 0; k < 5; k++) {
        struct whole a = world("psle", 8, 2), b;
        whole_begin(&b, "psle", 8, 4);
        for (int64_t i = 0; i < 32; i++) {
            const int64_t from = i / 4 * 2 + i % 4 / 2;
            b.reward[i] = a.reward[from], b.len[i] = a.len[from];
            b.logp[i] = a.logp[from], b.ref[i] = a.ref[from];
        }
        a.p.rank_loss = b.p.rank_loss = kind[k];
        a.p.reverse = b.p.reverse = k % 2 ? PLUMB_REVERSE_SWAP : PLUMB_REVERSE_WEIGHTED;
        const double loss = whole_loss(&a);
        CHECK(golden_near(whole_loss(&b), loss));
        for (int64_t q = 0; q < 8; q++) {
            CHECK(a.choice[q].branch == b.choice[q].branch);
            /* the derivatives of the two copies add up to that of the answer */
            for (int64_t i = 0; i < 2; i++)
                CHECK(golden_near(b.dlogp[4 * q + 2 * i] + b.dlogp[4 * q + 2 * i + 1],
                                  a.dlogp[2 * q + i]));
        }
    }
}

/* Checks that replacing every reward r by 1000 r + 70 changes neither loss nor derivatives with the
 * default reward_norm, zscore. */
static void check_unit(void)
{
    for (int m = 0; plumb_method_at(m); m++) {
        const struct plumb_method *method = plumb_method_at(m);
        struct whole a = world(method->name, 8, 4), b = a;
        if (plumb_method_scores(method))
            continue; /* these methods compute rewards from log-probs and do not normalise them */
        for (int64_t i = 0; i < 32; i++)
            b.reward[i] = 1000 * a.reward[i] + 70;
        expect_same(&a, &b, 1e-9);
    }
}

/* Checks the settings in which psle_curriculum is DPO: if all pairs are in the share p with the
 * largest margins, which has weight 1, and if the pairs below this share also get weight 1. */
static void check_curriculum(void)
{
    struct whole a = world("psle_curriculum", 9, 4), b = like(&a, "dpo");
    a.p.quantile_start = a.p.quantile_end = 0; /* the quantile is 0, so the share p is 1 */
    expect_same(&a, &b, 1e-14);
    /* the share p is 0: only the pair with the largest margin has weight 1 */
    a.p.quantile_start = a.p.quantile_end = 1;
    whole_loss(&a);
    int full = 0;
    for (int64_t q = 0; q < 9; q++) {
        const double m = a.choice[q].margin;
        full += a.choice[q].weight == 1;
        CHECK(a.choice[q].weight == 1 || golden_near(a.choice[q].weight, 1 / (1 + exp(-m / 10))));
    }
    CHECK(full == 1);
    /* with a temperature this small, any margin above 0 gets weight 1 */
    a.p.curriculum_temperature = 1e-9;
    expect_same(&a, &b, 1e-14);
}

static void check_weights(void)
{
    struct whole a = world("optune", 9, 3), b = like(&a, "dpo");
    /* with a weight_beta this small, the weight of every pair is sigma(0) = 1/2 */
    a.p.weight_beta = 1e-13;
    CHECK(golden_near(2 * whole_loss(&a), whole_loss(&b)));
    for (size_t i = 0; i < sizeof(a.dlogp) / sizeof(a.dlogp[0]); i++)
        CHECK(golden_near(2 * a.dlogp[i], b.dlogp[i]));
    a.limit = true, a.p.weight_beta = 1e9;
    expect_same(&a, &b, 1e-14);
    a = like(&b, "selm");
    a.p.optimism = 0;
    expect_same(&a, &b, 0);
    b.p.reward_norm = PLUMB_NORM_NONE;
    a = like(&b, "dlma");
    a.p.margin_limit = 0;
    expect_same(&a, &b, 0);
}

/* Checks that SPA smooths no label if noise_smoothing is 0, if noise_share is 0, and before
 * noise_start. Otherwise it smooths the labels of the pairs with the smallest margins. */
static void check_spa(void)
{
    struct whole a = world("spa", 9, 2), b = like(&a, "dpo");
    b.p.reward_norm = PLUMB_NORM_NONE;
    a.p.noise_share = 0.5, whole_loss(&a);
    int doubted = 0;
    for (int64_t q = 0; q < 9; q++)
        doubted += a.choice[q].smooth == 0.1;
    CHECK(doubted == 4); /* the four margins below the median of the nine */
    a.p.noise_smoothing = 0;
    expect_same(&a, &b, 0);
    /* with noise_share 0 the limit is the smallest margin, and no margin is below it */
    a.p.noise_smoothing = 0.1, a.p.noise_share = 0;
    expect_same(&a, &b, 0);
    a.p.noise_share = 1, whole_loss(&a);
    doubted = 0;
    for (int64_t q = 0; q < 9; q++)
        doubted += a.choice[q].smooth == 0.1;
    CHECK(doubted == 8);
    struct plumb_choice c = {.smooth = 9};
    plumb_threshold_smooth(&c, -5, 0, 0.1999, &a.p);
    CHECK(c.smooth == 0);
    plumb_threshold_smooth(&c, -5, 0, 0.2, &a.p);
    CHECK(c.smooth == 0.1);
}

/* Checks that every method that compares rewards skips a prompt whose rewards are all equal. vcb
 * also skips a prompt whose rewards have a standard deviation below 1e-6. */
static void check_skipped(void)
{
    const char *const names[] = {"dpo",  "ipo",  "rdo", "aps",   "vcb",
                                 "rrhf", "lire", "pro", "optune"};
    for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
        struct whole a = world(names[k], 4, 3);
        for (int64_t i = 3; i < 6; i++)
            a.reward[i] = a.reward[3];
        whole_loss(&a);
        CHECK(a.report.branch[PLUMB_BRANCH_SKIP] == 1 && a.report.terms == 3);
        CHECK(a.choice[1].branch == PLUMB_BRANCH_SKIP);
        for (int64_t i = 3; i < 6; i++)
            CHECK(a.dlogp[i] == 0);
    }
    struct whole v = world("vcb", 4, 3);
    v.p.reward_norm = PLUMB_NORM_NONE;
    for (int64_t i = 3; i < 6; i++)
        v.reward[i] = 1 + 1.1e-6 * (double)i; /* their standard deviation is 0.9e-6 */
    whole_loss(&v);
    CHECK(v.choice[1].branch == PLUMB_BRANCH_SKIP);
    for (int64_t i = 3; i < 6; i++)
        v.reward[i] = 1 + 1.3e-6 * (double)i; /* their standard deviation is 1.06e-6 */
    whole_loss(&v);
    CHECK(v.choice[1].branch == PLUMB_BRANCH_GROUP);
}

int main(void)
{
    plumb_json *doc = golden_read("method");
    bool seen[32] = {0};
    for (int64_t c = 0; c < plumb_json_count(doc); c++)
        check_case(plumb_json_at(doc, c), c, seen);
    /* `real` needs no golden values: after it has chosen the pair, it computes as dpo */
    for (int i = 0; plumb_method_at(i); i++)
        CHECKF(seen[i] || plumb_method_at(i)->given == &plumb_given_real, "no golden for %s",
               plumb_method_at(i)->name);
    plumb_json_free(&doc);
    check_thresholds();
    check_psle();
    check_group_form();
    check_unit();
    check_curriculum();
    check_weights();
    check_spa();
    check_skipped();
    return 0;
}

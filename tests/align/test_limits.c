/* test_limits.c - checks the objectives where their value is known: closed forms, limits of
 * parameters, and settings in which two objectives are equal. Test. Includes align/, problem.h. */
#include "problem.h"

static void check_pairs(void)
{
    /* The log-probs divided by the length are -0.5 (preferred) and -0.25 (other answer). */
    struct problem q = pair_of(&plumb_obj_psle, -1, -1);
    point_in(&q);
    struct plumb_obj_out out = eval(&q);
    CHECK(out.loss == 0.25 && q.dlogp[0] == -0.5 && q.dlogp[1] == 0.25 && out.accurate == 0);
    /* now -0.5 is above -1, so the pair is in the right order: loss and gradient are 0 */
    q.logp[1] = -4;
    out = eval(&q);
    CHECK(out.loss == 0 && q.dlogp[0] == 0 && q.dlogp[1] == 0 && out.accurate == 1);
    q.in.k = 0, q.weight[0] = 0.75, q.weight[1] = 0.25;
    /* with aggregation `token`, both terms are divided by mean_len */
    q.in.mean_len = 4, out = eval(&q);
    CHECK(out.loss == 0.4375 && q.dlogp[0] == -0.1875 && q.dlogp[1] == -0.0625);
    q.p.loss_aggregation = PLUMB_AGGREGATE_SEQUENCE, out = eval(&q);
    CHECK(out.loss == 0.75 * 0.5 + 0.25 * 1 && q.dlogp[0] == -0.375 && q.dlogp[1] == -0.0625);
    q.p.loss_aggregation = PLUMB_AGGREGATE_SUM, out = eval(&q);
    CHECK(out.loss == 1.75 && q.dlogp[0] == -0.75 && q.dlogp[1] == -0.25);

    q = pair_of(&plumb_obj_dpo, -7, -9);
    point_in(&q);
    /* policy and reference have equal log-probs: the loss is log 2 and the gradient beta / 2 */
    q.ref[0] = -7, q.ref[1] = -9;
    out = eval(&q);
    CHECK(golden_near(out.loss, log(2.0)) && golden_near(q.dlogp[0], -0.05));
    CHECK(q.dlogp[1] == -q.dlogp[0] && out.margin == 0);
    q.p.label_smoothing = 0.49; /* label smoothing of 0.5 would make the gradient 0 */
    eval(&q);
    CHECK(fabs(q.dlogp[0]) < 0.0011 && q.dlogp[0] < 0);
    /* The gradient is 0 for a pair with a large positive margin, and beta for one with a large
     * negative margin. Both losses are finite. */
    q = pair_of(&plumb_obj_dpo, -1, -30000);
    point_in(&q);
    CHECK(eval(&q).loss < 1e-300 && fabs(q.dlogp[0]) < 1e-300);
    q = pair_of(&plumb_obj_dpo, -30000, -1);
    point_in(&q);
    CHECK(golden_near(eval(&q).loss, 2999.9) && golden_near(q.dlogp[0], -0.1));

    /* beta is 0.1, so the margin of 5 is the optimum 1 / (2 beta) */
    q = pair_of(&plumb_obj_ipo, 3, -2);
    point_in(&q);
    CHECK(eval(&q).loss == 0 && q.dlogp[0] == 0);
    q = pair_of(&plumb_obj_reward, 2, 2);
    point_in(&q);
    CHECK(golden_near(eval(&q).loss, log(2.0)) && golden_near(q.dscore[0], -0.5));
    CHECK(q.dscore[1] == 0.5 && q.dlogp[0] == 0);

    q = pair_of(&plumb_obj_psle, -1, -1);
    point_in(&q);
    q.p.rank_loss = PLUMB_RANK_NONE;
    expect_refusal(&q, PLUMB_ERR_ARG, "rank_loss is none");
    q = pair_of(&plumb_obj_dpo, 0, 0); /* a micro-batch without sequences and without pairs */
    q.in.n = q.in.k = 0;
    CHECK(eval(&q).loss == 0);
}

/* Checks the losses of groups, and the losses of pairs that use rewards, against closed forms. */
static void check_groups(void)
{
    struct problem q = {.o = &plumb_obj_vcb, .p = plumb_align_param_default()};
    q.in = (struct plumb_obj_in){.n = 3, .groups = 1, .scale = 1, .mean_len = 4};
    q.group[1] = 3;
    point_in(&q);
    /* the log-ratios are lambda r_i / std + 5, which is where the loss has its minimum 0 */
    for (int i = 0; i < 3; i++)
        q.len[i] = 2, q.reward[i] = i, q.ref[i] = -20 + i,
        q.logp[i] = q.ref[i] + i / (sqrt(2.0 / 3) + 1e-6) + 5;
    CHECK(eval(&q).loss < 1e-28 && fabs(q.dlogp[1]) < 1e-14);
    q.o = &plumb_obj_lire; /* with equal rewards, the loss does not depend on the log-probs */
    q.reward[1] = q.reward[2] = 0;
    CHECK(golden_near(eval(&q).loss, -1.0 / 3) && fabs(q.dlogp[0]) < 1e-15);
    /* the log-probs have the order of the rewards, so the loss is 0 */
    q.o = &plumb_obj_rrhf, q.p.sft_weight = 0;
    for (int i = 0; i < 3; i++)
        q.reward[i] = i, q.logp[i] = -9 + i;
    CHECK(eval(&q).loss == 0 && q.dlogp[2] == 0);
    q.p.sft_weight = 0.5;
    CHECK(eval(&q).loss == 0.5 * 7 / 4 && q.dlogp[2] == -0.125 && q.dlogp[1] == 0);

    q = pair_of(&plumb_obj_rdo, -3, -8); /* with equal rewards, the weight of the pair is 0 */
    point_in(&q);
    CHECK(eval(&q).loss == 0 && q.dlogp[0] == 0);
    q.reward[0] = -1;
    expect_refusal(&q, PLUMB_ERR_ARG, "lower than the loser's by 1");
    /* While the temperature t of aps is inside its bounds, t = |h| / z with a constant z
     * (obj_aps.c). The gradient has the factor sigma(-h/t), so it does not depend on h. */
    q = pair_of(&plumb_obj_aps, -10, -30);
    point_in(&q);
    eval(&q);
    const double slope = q.dlogp[0];
    q.logp[1] = -40;
    eval(&q);
    CHECK(golden_near(q.dlogp[0], slope));
    q.logp[1] = -100000; /* the margin is so large that the temperature is at its upper bound */
    CHECK(eval(&q).loss < 0 && fabs(q.dlogp[0]) < 1e-200);
    q.p.label_smoothing = 0.1;
    expect_refusal(&q, PLUMB_ERR_ARG, "smoothed label");

    /* h, the argument of sigma, is beta * 20 - margin_beta * reward gap */
    q = pair_of(&plumb_obj_dlma, -10, -30);
    point_in(&q);
    q.reward[0] = 20; /* margin_beta equals beta, so with a reward gap of 20, h = 0 */
    CHECK(golden_near(eval(&q).loss, log(2.0)));
    q.reward[0] = 1e9; /* the reward gap is clipped at margin_limit, so h = 2 - 4 */
    CHECK(golden_near(eval(&q).loss, log1p(exp(2.0))));
    q.p.margin_beta = 0;
    const double plain = eval(&q).loss;
    q.o = &plumb_obj_dpo;
    CHECK(eval(&q).loss == plain);
    q.o = &plumb_obj_selm; /* without a greedy answer of the reference, selm is dpo */
    CHECK(eval(&q).loss == plain);
    q.weight[1] = 1, q.p.optimism = 0.5;
    CHECK(golden_near(eval(&q).loss, plain + 0.5 * 0.1 * -30 / 3) && q.dlogp[1] > 0);
}

/* Returns one group of n answers with random log-probs and rewards without ties. Every call returns
 * the same numbers. */
static struct problem group_of(const struct plumb_objective *o, int n)
{
    struct problem q = {.o = o, .p = plumb_align_param_default()};
    struct rng r = {0x9e3779b97f4a7c15ull};
    q.in = (struct plumb_obj_in){.n = n, .groups = 1, .scale = 1, .mean_len = 4};
    q.group[1] = n;
    for (int i = 0; i < n; i++) {
        q.logp[i] = -20 * rng_u(&r), q.ref[i] = -20 * rng_u(&r);
        q.reward[i] = 3 * rng_u(&r), q.len[i] = 1 + (int)(9 * rng_u(&r));
    }
    return q;
}

/* Checks that loss(a) = factor * loss(b) + extra, and that the derivatives of a are factor times
 * those of b. */
static void expect_same(struct problem *a, struct problem *b, double factor, double extra)
{
    const double loss = eval(a).loss, want = factor * eval(b).loss + extra;
    CHECKF(golden_near(loss, want), "%s %.17g, %s %.17g", a->o->name, loss, b->o->name, want);
    for (int64_t i = 0; i < a->in.n; i++)
        CHECKF(golden_near(a->dlogp[i], factor * b->dlogp[i]), "%s [%lld] %.17g, %s %.17g",
               a->o->name, (long long)i, a->dlogp[i], b->o->name, factor * b->dlogp[i]);
}

/* Checks that the loss of DPO is linear in the margin for beta near 0, that it is a hinge for a
 * large beta, and that it depends only on the log-ratios of policy and reference. */
static void check_dpo(void)
{
    struct problem q = pair_of(&plumb_obj_dpo, -10, -30), moved;
    point_in(&q);
    q.p.beta = 1e-9;
    CHECK(fabs(eval(&q).loss - (log(2.0) - 0.5e-9 * 20)) < 1e-15);
    CHECK(fabs(q.dlogp[0] / q.p.beta + 0.5) < 1e-8);
    q.p.beta = 1e6;
    CHECK(eval(&q).loss == 0 && q.dlogp[0] == 0);
    q.logp[0] = -50; /* the margin is -20: the pair is in the wrong order */
    CHECK(golden_near(eval(&q).loss / q.p.beta, 20) && golden_near(q.dlogp[0], -q.p.beta));
    q.p.beta = 0.1, q.logp[0] = -10;
    moved = q;
    point_in(&moved);
    /* lowers both log-probs of answer 0 by 7, so its log-ratio stays the same */
    moved.logp[0] -= 7, moved.ref[0] -= 7;
    expect_same(&q, &moved, 1, 0);
    /* adds 3 to both log-ratios, so the margin stays the same */
    moved.logp[0] += 3, moved.logp[1] += 3;
    expect_same(&q, &moved, 1, 0);
    /* With a total smoothing of 0.5, the loss does not depend on the order of the pair. */
    q.p.label_smoothing = 0.3, q.pair[0].smooth = 0.2;
    moved = q;
    point_in(&moved);
    moved.pair[0] = (struct plumb_pair){1, 0, 0.2, 1};
    expect_same(&q, &moved, 1, 0);
}

/* Checks the label smoothing of single pairs (field smooth), which SPA uses. With smoothing 0 the
 * loss is DPO; with smoothing 1/2 the optimum is at margin 0. */
static void check_spa(void)
{
    struct problem q = pair_of(&plumb_obj_dpo, -7, -9), plain = q;
    point_in(&q), point_in(&plain);
    q.pair[0].smooth = q.p.noise_smoothing = 0;
    expect_same(&q, &plain, 1, 0);
    q.pair[0].smooth = 0.5, q.ref[0] = -7, q.ref[1] = -9;
    CHECK(golden_near(eval(&q).loss, log(2.0)) && fabs(q.dlogp[0]) < 1e-16);
    q.pair[0].smooth = 0.1; /* the optimum is where sigma(h) = 0.9; h is beta times the margin */
    q.logp[0] = -7 + log(9.0) / q.p.beta;
    eval(&q);
    CHECK(fabs(q.dlogp[0]) < 1e-15);
}

/* Checks that the optimum of IPO is a margin of 1 / (2 beta), which tends to 0 for large beta. */
static void check_ipo(void)
{
    struct problem q = pair_of(&plumb_obj_ipo, -3, -8);
    point_in(&q);
    for (q.p.beta = 0.01; q.p.beta < 100; q.p.beta *= 3) {
        q.logp[0] = -8 + 1 / (2 * q.p.beta);
        CHECK(eval(&q).loss < 1e-24 && fabs(q.dlogp[0]) < 1e-12);
        /* the margin is 2 above the optimum: the gradient is positive and lowers it */
        q.logp[0] += 2;
        CHECK(golden_near(eval(&q).loss, 4) && golden_near(q.dlogp[0], 4) && q.dlogp[1] < 0);
    }
    q.p.beta = 1e15, q.logp[0] = -3;
    CHECK(golden_near(eval(&q).loss, 25));
}

/* Checks that the loss of APS is t * (loss of DPO with beta / t) + t * rho, where t is the
 * temperature of the pair: for t = 1 and for t at its bounds 0.1 and 5. */
static void check_aps(void)
{
    struct problem a = pair_of(&plumb_obj_aps, -10, -30), d = a;
    d.o = &plumb_obj_dpo;
    point_in(&a), point_in(&d);
    const double z = a.p.beta * 20, miss = 1 / (1 + exp(z));
    /* rho is minus the entropy of sigma(2), for which t = 1 */
    a.p.rho = -(log1p(exp(-z)) + z * miss);
    expect_same(&a, &d, 1, a.p.rho);
    /* rho is so near 0 that t is at its lower bound 0.1 */
    a.p.rho = -1e-12, d.p.beta = a.p.beta / 0.1;
    expect_same(&a, &d, 0.1, 0.1 * a.p.rho);
    /* rho is so near -log 2 that t is at its upper bound 5 */
    a.p.rho = -0.6899, d.p.beta = a.p.beta / 5;
    expect_same(&a, &d, 5, 5 * a.p.rho);
    /* with h = 0, t is at its lower bound 0.1 */
    a.logp[1] = -10, a.p.rho = -0.5, d.logp[1] = -10, d.p.beta = a.p.beta / 0.1;
    expect_same(&a, &d, 0.1, 0.1 * a.p.rho);
}

/* Checks the settings in which the loss of rdo, dlma, selm or psle is a multiple of the loss of
 * DPO. */
static void check_like_dpo(void)
{
    struct problem d = pair_of(&plumb_obj_dpo, -10, -30), q = d;
    d.ref[0] = -13, d.ref[1] = -26, d.in.n = 4, d.in.k = 2;
    d.logp[2] = -5, d.logp[3] = -4, d.len[2] = 3, d.len[3] = 1;
    d.pair[1] = (struct plumb_pair){3, 2, 0, 1};
    point_in(&d);
    q = d, point_in(&q);
    /* the reward gap of both pairs is 1, then 1.75: the loss of rdo is this multiple of that of
     * DPO */
    q.o = &plumb_obj_rdo;
    q.reward[0] = 2.5, q.reward[1] = 1.5, q.reward[3] = -1, q.reward[2] = -2;
    expect_same(&q, &d, 1, 0);
    q.reward[0] = 3.25, q.reward[3] = -0.25;
    expect_same(&q, &d, 1.75, 0);
    q.o = &plumb_obj_dlma;
    q.p.margin_beta = 0;
    expect_same(&q, &d, 1, 0);
    q.p.margin_beta = 2, q.p.margin_limit = 0;
    expect_same(&q, &d, 1, 0);
    q.p.margin_limit = 40, q.reward[0] = q.reward[1] = q.reward[2] = q.reward[3] = 6;
    expect_same(&q, &d, 1, 0);
    /* first without a greedy answer of the reference, then with optimism 0 */
    q.o = &plumb_obj_selm;
    expect_same(&q, &d, 1, 0);
    q.weight[2] = 1, q.p.optimism = 0;
    expect_same(&q, &d, 1, 0);
    q.weight[2] = 0, q.o = &plumb_obj_psle, q.p.rank_loss = PLUMB_RANK_DPO;
    expect_same(&q, &d, 1, 0);
    /* psle with rank_loss `logistic` is DPO whose reference log-probs are 0. */
    q.p.rank_loss = PLUMB_RANK_LOGISTIC, q.p.length_normalize = false;
    memset(d.ref, 0, sizeof(d.ref));
    expect_same(&q, &d, 1, 0);
    q.pair[0].weight = q.pair[1].weight = 3;
    expect_same(&q, &d, 3, 0);
}

/* Checks that VCB of two answers is IPO whose optimum is the margin 2 lambda, because the std of
 * two rewards is half of their gap. Also checks VCB's reference_weight. */
static void check_vcb(void)
{
    struct problem v = group_of(&plumb_obj_vcb, 2), i = v;
    i.o = &plumb_obj_ipo;
    point_in(&v), point_in(&i);
    /* the std is so large that adding 1e-6 to it has no effect */
    v.reward[0] = 1e9, v.reward[1] = 0;
    i.in.k = 1, i.pair[0] = (struct plumb_pair){0, 1, 0, 1};
    for (v.p.lambda = 0.3; v.p.lambda < 9; v.p.lambda *= 2) {
        i.p.beta = 1 / (4 * v.p.lambda);
        expect_same(&v, &i, 1, 0);
    }
    struct problem q = group_of(&plumb_obj_vcb, 5), free = q;
    point_in(&q), point_in(&free);
    /* with reference_weight 0 the loss reads no reference log-probs; it must be the loss with
     * reference log-probs of 0 */
    free.p.reference_weight = 0;
    free.in.logp_ref = NULL;
    memset(q.ref, 0, sizeof(q.ref));
    expect_same(&free, &q, 1, 0);
    /* reference_weight w must give the same as reference_weight 1 with all reference log-probs
     * multiplied by w */
    q.p.reference_weight = 0.4, q.p.lambda = 2.5;
    q.ref[1] = -5, q.ref[3] = -2.5;
    free.p = q.p, free.p.reference_weight = 1, free.in.logp_ref = free.ref;
    for (int k = 0; k < 5; k++)
        free.ref[k] = 0.4 * q.ref[k];
    expect_same(&q, &free, 1, 0);
    double sum =
        0; /* the derivatives must add up to 0: a constant on all log-probs changes nothing */
    for (int k = 0; k < 5; k++)
        sum += q.dlogp[k];
    CHECK(fabs(sum) < 1e-13);
    /* with equal rewards, the loss is least where the log-ratios are equal */
    for (int k = 0; k < 5; k++)
        q.reward[k] = 4, q.logp[k] = 0.4 * q.ref[k] - 11;
    CHECK(eval(&q).loss < 1e-28);
}

/* Checks that for two answers RRHF is psle with the hinge loss, and that PRO is psle with the
 * logistic loss whose beta is the reward gap. */
static void check_two(void)
{
    struct problem q = group_of(&plumb_obj_rrhf, 2), p = q;
    p.o = &plumb_obj_psle, p.in.k = 1;
    point_in(&q), point_in(&p);
    for (int turn = 0; turn < 2; turn++) {
        q.p.sft_weight = 0, p.p.rank_loss = PLUMB_RANK_HINGE;
        q.reward[0] = turn ? 0.25 : 2, q.reward[1] = 0.75;
        p.pair[0] = (struct plumb_pair){turn, 1 - turn, 0, 1};
        q.o = &plumb_obj_rrhf;
        expect_same(&q, &p, 1, 0);
        q.o = &plumb_obj_pro;
        p.p.rank_loss = PLUMB_RANK_LOGISTIC, p.p.beta = fabs(q.reward[0] - q.reward[1]);
        expect_same(&q, &p, 1, 0);
        /* the same with an SFT term on the best answer */
        q.p.sft_weight = 0.05, p.weight[turn] = 0.05;
        for (int kind = 0; kind < 3; kind++) {
            q.p.loss_aggregation = p.p.loss_aggregation = (enum plumb_aggregation)kind;
            expect_same(&q, &p, 1, 0);
        }
        p.weight[turn] = 0;
    }
    /* with equal rewards, the loss of PRO is log 2 and its gradient 0 */
    q.p.sft_weight = 0, q.reward[0] = q.reward[1];
    CHECK(golden_near(eval(&q).loss, log(2.0)) && q.dlogp[0] == 0 && q.dlogp[1] == 0);
}

static void check_lire(void)
{
    struct problem q = group_of(&plumb_obj_lire, 2);
    point_in(&q);
    const double share = 1 / (1 + exp((q.logp[1] - q.logp[0]) / 2));
    const double value = 1 / (1 + exp(q.reward[1] - q.reward[0]));
    CHECK(golden_near(eval(&q).loss, -share * value - (1 - share) * (1 - value)));
    CHECK(golden_near(q.dlogp[0], -share * (1 - share) * (2 * value - 1) / 2));
    CHECK(golden_near(q.dlogp[1], -q.dlogp[0]));
    q = group_of(&plumb_obj_lire, 5);
    point_in(&q);
    /* with this temperature, the softmax over the log-probs gives every answer the same share */
    q.p.list_temperature = 1e12;
    CHECK(fabs(eval(&q).loss + 1.0 / 5) < 1e-11 && fabs(q.dlogp[1]) < 1e-11);
    /* with this temperature, the softmax gives the answer with the highest log-prob the share 1 */
    q.p.list_temperature = 1e-3;
    int top = 0;
    double sum = 0;
    for (int i = 0; i < 5; i++)
        top = q.logp[i] > q.logp[top] ? i : top;
    for (int i = 0; i < 5; i++)
        sum += exp(q.reward[i] - q.reward[top]);
    CHECK(golden_near(eval(&q).loss, -1 / sum) && q.dlogp[top] == 0);
    q.p.list_temperature = 2;
    /* only answer 2 has a high reward, so the loss is minus the share of answer 2 */
    for (int i = 0; i < 5; i++)
        q.reward[i] = i == 2 ? 900 : 0;
    sum = 0;
    for (int i = 0; i < 5; i++)
        sum += exp((q.logp[i] - q.logp[2]) / 2);
    CHECK(golden_near(eval(&q).loss, -1 / sum) && q.dlogp[2] < 0);
}

/* Checks that the losses of groups do not depend on the order of a group's answers. */
static void check_order(void)
{
    const struct plumb_objective *all[] = {&plumb_obj_vcb, &plumb_obj_rrhf, &plumb_obj_lire,
                                           &plumb_obj_pro};
    for (int k = 0; k < 4; k++) {
        struct problem a = group_of(all[k], 6), b = a;
        point_in(&a), point_in(&b);
        for (int i = 0; i < 6; i++) {
            b.logp[i] = a.logp[5 - i], b.ref[i] = a.ref[5 - i];
            b.reward[i] = a.reward[5 - i], b.len[i] = a.len[5 - i];
        }
        CHECK(golden_near(eval(&a).loss, eval(&b).loss));
        for (int i = 0; i < 6; i++)
            CHECK(golden_near(a.dlogp[i], b.dlogp[5 - i]));
    }
}

int main(void)
{
    check_pairs();
    check_groups();
    check_dpo();
    check_spa();
    check_ipo();
    check_aps();
    check_like_dpo();
    check_vcb();
    check_two();
    check_lire();
    check_order();
    return 0;
}

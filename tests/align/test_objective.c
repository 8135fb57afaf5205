/* test_objective.c - checks every objective: against golden values and finite differences, that
 * sums over parts of a batch give the whole, that certain changes of the inputs change nothing, and
 * that wrong inputs are refused. */
#include "problem.h"

static void read_problem(struct problem *q, const plumb_json *v)
{
    memset(q, 0, sizeof(*q));
    q->o = plumb_objective_find(plumb_json_string(plumb_json_get(v, "objective"), ""));
    CHECK(q->o != NULL);
    q->p = golden_param(plumb_json_get(v, "param"));
    q->in.n = plumb_json_int(plumb_json_get(v, "n"), -1);
    q->in.scale = golden_real(v, "scale");
    q->in.mean_len = golden_real(v, "mean_len");
    const plumb_json *pairs = plumb_json_get(v, "pair");
    q->in.k = plumb_json_count(pairs);
    CHECK(q->in.n > 0 && q->in.n <= N && q->in.k <= N);
    for (int64_t k = 0; k < q->in.k; k++) {
        const plumb_json *pair = plumb_json_at(pairs, k);
        q->pair[k] = (struct plumb_pair){plumb_json_int(plumb_json_at(pair, 0), -1),
                                         plumb_json_int(plumb_json_at(pair, 1), -1),
                                         plumb_json_real(plumb_json_at(pair, 2), NAN),
                                         plumb_json_real(plumb_json_at(pair, 3), NAN)};
    }
    for (int64_t i = 0; i < q->in.n; i++) {
        q->logp[i] = golden_at(v, "logp", i);
        q->ref[i] = golden_at(v, "logp_ref", i);
        q->score[i] = golden_at(v, "score", i);
        q->weight[i] = golden_at(v, "weight", i);
        q->reward[i] = golden_at(v, "reward", i);
        q->len[i] = (int32_t)golden_at(v, "len", i);
    }
    const plumb_json *group = plumb_json_get(v, "group");
    q->in.groups = plumb_json_count(group) - 1;
    CHECK(q->in.groups > 1 && q->in.groups < N);
    for (int64_t g = 0; g <= q->in.groups; g++)
        q->group[g] = plumb_json_int(plumb_json_at(group, g), -1);
    point_in(q);
}

static void check_golden(struct problem *q, const plumb_json *v, int64_t c)
{
    const struct plumb_obj_out out = eval(q);
    const double want = golden_real(v, "loss");
    CHECKF(golden_near(out.loss, want), "case %lld %s: loss %.17g, want %.17g", (long long)c,
           q->o->name, out.loss, want);
    CHECK(golden_near((out.rank_loss + out.weighted_loss) * q->in.scale, want));
    for (int64_t i = 0; i < q->in.n; i++)
        CHECKF(golden_near(q->dlogp[i], golden_at(v, "dlogp", i)) &&
                   golden_near(q->dscore[i], golden_at(v, "dscore", i)),
               "case %lld %s: dlogp[%lld] %.17g, want %.17g", (long long)c, q->o->name,
               (long long)i, q->dlogp[i], golden_at(v, "dlogp", i));
}

static void check_differences(struct problem *q, double *x, const double *grad)
{
    double analytic[N];
    eval(q);
    memcpy(analytic, grad, sizeof(analytic));
    for (int64_t i = 0; i < q->in.n; i++) {
        const double keep = x[i], h = 1e-5 * fmax(1.0, fabs(keep) * 0.1);
        x[i] = keep + h;
        const double up = eval(q).loss;
        x[i] = keep - h;
        const double down = eval(q).loss;
        x[i] = keep;
        const double numeric = (up - down) / (2 * h);
        CHECKF(fabs(numeric - analytic[i]) <= 1e-5 * fmax(fabs(analytic[i]), 1e-3),
               "%s [%lld]: %.12g, central difference %.12g", q->o->name, (long long)i, analytic[i],
               numeric);
    }
}

/* Checks that loss, derivatives and metrics add up to those of the whole problem, if each pair and
 * each weighted sequence is evaluated alone. */
static void check_split(const struct problem *whole)
{
    struct problem all = *whole;
    point_in(&all);
    const struct plumb_obj_out want = eval(&all);
    double loss = 0, dlogp[N] = {0}, dscore[N] = {0}, margin = 0;
    int64_t accurate = 0;
    for (int64_t part = 0; part < all.in.k + all.in.n; part++) {
        struct problem one = *whole;
        point_in(&one);
        one.in.k = part < all.in.k ? 1 : 0;
        one.in.pair = &one.pair[part < all.in.k ? part : 0];
        for (int64_t i = 0; i < all.in.n; i++)
            one.weight[i] = part - all.in.k == i ? whole->weight[i] : 0.0;
        const struct plumb_obj_out out = eval(&one);
        loss += out.loss, margin += out.margin, accurate += out.accurate;
        for (int64_t i = 0; i < all.in.n; i++)
            dlogp[i] += one.dlogp[i], dscore[i] += one.dscore[i];
    }
    CHECK(golden_near(loss, want.loss) && golden_near(margin, want.margin));
    CHECK(accurate == want.accurate);
    for (int64_t i = 0; i < all.in.n; i++)
        CHECK(golden_near(dlogp[i], all.dlogp[i]) && golden_near(dscore[i], all.dscore[i]));
}

/* Checks that the losses and margins of groups evaluated alone add up to those of the whole
 * problem, and that the derivatives are the same. */
static void check_split_groups(struct problem *whole)
{
    const struct plumb_obj_out want = eval(whole);
    double loss = 0, margin = 0;
    for (int64_t g = 0; g < whole->in.groups; g++) {
        const int64_t at = whole->group[g], n = whole->group[g + 1] - at, alone[2] = {0, n};
        struct problem one = *whole;
        point_in(&one);
        one.in.n = n, one.in.groups = 1, one.in.group = alone;
        one.in.logp += at, one.in.logp_ref += at, one.in.reward += at, one.in.len += at;
        one.in.weight += at, one.in.score += at;
        const struct plumb_obj_out out = eval(&one);
        loss += out.loss, margin += out.margin;
        for (int64_t i = 0; i < n; i++)
            CHECK(golden_near(one.dlogp[i], whole->dlogp[at + i]));
    }
    CHECK(golden_near(loss, want.loss) && golden_near(margin, want.margin));
}

/* Checks that the loss of groups does not change if 3 is added to all rewards, and that the loss
 * of vcb does not change if all rewards are multiplied by 7 and 50 is subtracted from all
 * log-probs. */
static void check_invariances(struct problem *q)
{
    const double want = eval(q).loss;
    for (int64_t i = 0; i < q->in.n; i++)
        q->reward[i] += 3;
    CHECKF(fabs(eval(q).loss - want) <= 1e-9 * fabs(want), "%s: rewards + 3", q->o->name);
    for (int64_t i = 0; i < q->in.n && q->o == &plumb_obj_vcb; i++)
        q->reward[i] *= 7, q->logp[i] -= 50;
    CHECKF(q->o != &plumb_obj_vcb || fabs(eval(q).loss - want) <= 1e-5 * fabs(want),
           "vcb: rewards x 7, log-ratios - 50: %.17g, before %.17g", eval(q).loss, want);
}

static void check_refusals(const struct problem *base)
{
    const bool score = base->o == &plumb_obj_reward;
    struct problem q = *base;
    point_in(&q);
    (score ? q.score : q.logp)[5] = NAN;
    expect_refusal(&q, PLUMB_ERR_NUMERIC, "sequence 5");
    (score ? q.score : q.logp)[5] = INFINITY;
    expect_refusal(&q, PLUMB_ERR_NUMERIC, "sequence 5");
    q = *base, point_in(&q);
    *(score ? &q.in.score : &q.in.logp) = NULL;
    expect_refusal(&q, PLUMB_ERR_ARG, score ? "score" : "logp");
    q = *base, point_in(&q);
    q.weight[3] = NAN;
    expect_refusal(&q, PLUMB_ERR_NUMERIC, "sequence 3");
    q.weight[3] = -1;
    expect_refusal(&q, PLUMB_ERR_ARG, "sequence 3");
    q = *base, point_in(&q);
    q.in.k = 1, q.pair[0] = (struct plumb_pair){2, q.in.n, 0, 1};
    expect_refusal(&q, PLUMB_ERR_ARG, "pair 0");
    q.pair[0] = (struct plumb_pair){2, 2, 0, 1};
    expect_refusal(&q, PLUMB_ERR_ARG, "pair 0");
    q.pair[0] = (struct plumb_pair){2, 1, 0.6, 1};
    expect_refusal(&q, PLUMB_ERR_ARG, "smooth");
    q = *base, point_in(&q);
    q.in.scale = INFINITY; /* scale is 1 / (number of terms); this is the value for 0 terms */
    expect_refusal(&q, PLUMB_ERR_ARG, "scale");
    if (base->o->needs(&base->p) & PLUMB_READ_AGGREGATION) {
        q = *base, point_in(&q);
        q.in.mean_len = 0;
        expect_refusal(&q, PLUMB_ERR_ARG, "mean length is 0 tokens");
    }
    if (base->o->needs(&base->p) & PLUMB_NEED_REF) {
        q = *base, point_in(&q);
        q.ref[1] = NAN;
        expect_refusal(&q, PLUMB_ERR_NUMERIC, "logp_ref of sequence 1");
        q.in.logp_ref = NULL;
        expect_refusal(&q, PLUMB_ERR_ARG, "logp_ref");
    }
    if (base->o->needs(&base->p) & PLUMB_NEED_GROUP) {
        q = *base, point_in(&q);
        q.reward[2] = NAN;
        expect_refusal(&q, PLUMB_ERR_NUMERIC, "reward of sequence 2");
        q = *base, point_in(&q);
        q.group[1] = q.group[2] - 1; /* group 1 gets only one sequence */
        expect_refusal(&q, PLUMB_ERR_ARG, "group 1");
        q = *base, point_in(&q);
        q.in.groups--;
        expect_refusal(&q, PLUMB_ERR_ARG, "the groups have");
        q.in.groups = 0;
        expect_refusal(&q, PLUMB_ERR_ARG, "in no group");
    }
    if (base->o->needs(&base->p) & PLUMB_NEED_LEN) {
        q = *base, point_in(&q);
        q.len[4] = 0;
        expect_refusal(&q, PLUMB_ERR_ARG, "sequence 4 has 0 tokens");
    }
}

/* Checks every case of the fixture `name`. Sets seen[i] to true for each objective i that has a
 * case. Returns the number of cases. */
static int64_t check_file(const char *name, bool *seen)
{
    plumb_json *doc = golden_read(name);
    const int64_t cases = plumb_json_count(doc);
    for (int64_t c = 0; c < cases; c++) {
        struct problem q;
        read_problem(&q, plumb_json_at(doc, c));
        check_golden(&q, plumb_json_at(doc, c), c);
        check_differences(&q, q.logp, q.dlogp);
        check_differences(&q, q.score, q.dscore);
        if (q.o->needs(&q.p) & PLUMB_NEED_GROUP)
            check_split_groups(&q);
        else
            check_split(&q);
        check_refusals(&q);
        if (q.o->needs(&q.p) & PLUMB_NEED_GROUP)
            check_invariances(&q);
        for (int i = 0; plumb_objective_at(i); i++)
            seen[i] = seen[i] || plumb_objective_at(i) == q.o;
    }
    plumb_json_free(&doc);
    return cases;
}

int main(void)
{
    bool seen[16] = {0}, in_trl[16] = {0};
    CHECK(check_file("objective", seen) >= 39);
    /* the fixture from TRL has cases of dpo, ipo, psle, reward and sft */
    CHECK(check_file("trl", in_trl) >= 14);
    for (int i = 0; plumb_objective_at(i); i++)
        CHECKF(seen[i], "no golden for %s", plumb_objective_at(i)->name);
    CHECK(plumb_objective_find("ppo") == NULL && plumb_objective_at(-1) == NULL);
    return 0;
}

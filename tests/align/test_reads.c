/* test_reads.c - checks the table of the parameters that each method reads against the parameters
 * that change its results.
 * Test. Includes harness.h, align/.
 *
 * The test changes each field of the parameters alone. If a decision, the loss or a derivative
 * changes, the table must say that the method reads the field. If the table says so, the change
 * must show in at least one of the problems. The fields are those of param_list.h. */
#include <stddef.h>

#include "base/range.h"
#include "harness.h"
#include "stage/method.h"

/* MOST: the number of sequences of selm, which has one additional greedy answer for each prompt. */
enum { PROMPTS = 12, GROUP = 4, N = PROMPTS * GROUP, MOST = N + PROMPTS, FIGURES = 8 * N };

static uint64_t seed;

static double uniform(void)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(seed >> 11) * 0x1p-53;
}

/* The decisions of two iterations, one loss and its derivatives, as a list of numbers. */
struct result {
    double figure[FIGURES];
    int n;
};

static void put(struct result *r, double x)
{
    CHECK(r->n < FIGURES);
    r->figure[r->n++] = isnan(x) ? -12345.0 : x;
}

static void run(struct result *out, const struct plumb_method *m, struct plumb_align_param p,
                uint64_t from)
{
    struct plumb_scoreboard *b = NULL;
    struct plumb_threshold_state state;
    struct plumb_align_report report;
    double logp[MOST], ref[MOST], reward[MOST], weight[MOST], dlogp[MOST];
    int32_t len[MOST];
    int64_t group[PROMPTS + 1], groups = 0, n = 0, k = 0, place[N];
    struct plumb_pair pair[PROMPTS];
    seed = from;
    *out = (struct result){0};
    if (m->fix)
        m->fix(&p);
    state = plumb_threshold_begin(&p);
    CHECK_OK(plumb_scoreboard_create(&b, PROMPTS, GROUP));
    for (int iteration = 0; iteration < 2; iteration++) {
        CHECK_OK(plumb_scoreboard_begin(b, PROMPTS));
        for (int i = 0; i < N; i++)
            CHECK_OK(plumb_scoreboard_put(b, i / GROUP, i % GROUP,
                                          m->principled && i % GROUP >= GROUP / 2,
                                          3 * uniform() - 1));
        CHECK_OK(plumb_align_decide(b, &state, &report, m, &p, iteration));
        if (m->rule == plumb_threshold_branch || m->rule == plumb_threshold_weigh)
            put(out, report.tau);
    }
    group[0] = 0;
    for (int q = 0; q < PROMPTS; q++) {
        const struct plumb_choice *c = &b->choice[q];
        put(out, c->branch);
        put(out, c->weight);
        for (int i = q * GROUP; i < (q + 1) * GROUP; i++) {
            const double s = -20 * uniform() - 1, far = 3 * uniform() - 1.5;
            const int32_t tokens = 2 + (int32_t)(20 * uniform());
            put(out, b->weight[i]);
            if (!plumb_scoreboard_uses(b, i))
                continue;
            place[i] = n;
            logp[n] = s;
            ref[n] = s + far;
            len[n] = tokens;
            reward[n] = b->norm[i];
            weight[n++] = b->weight[i];
        }
        if (plumb_method_adds(m)->extra_sequences > 0 && c->branch != PLUMB_BRANCH_SKIP) {
            logp[n] = -5;
            ref[n] = -4.5;
            len[n] = 7;
            reward[n] = 0;
            weight[n++] = 1;
        }
        if (c->branch == PLUMB_BRANCH_RANK || c->branch == PLUMB_BRANCH_SWAP)
            pair[k++] = (struct plumb_pair){place[c->win], place[c->lose], 0, c->weight};
        if (n > group[groups])
            group[++groups] = n;
    }
    const bool reads_ref = plumb_method_needs_reference(m, &p);
    const struct plumb_obj_in in = {.n = n,
                                    .k = k,
                                    .logp = logp,
                                    .logp_ref = reads_ref ? ref : NULL,
                                    .len = len,
                                    .reward = reward,
                                    .weight = weight,
                                    .pair = pair,
                                    .groups = groups,
                                    .group = group,
                                    .scale = 0.25,
                                    .mean_len = 5.5};
    struct plumb_obj_out o = {.dlogp = dlogp};
    CHECK_OK(plumb_objective_eval(m->objective, &o, &in, &p));
    put(out, o.loss);
    put(out, o.chosen);
    put(out, o.rejected);
    for (int64_t i = 0; i < n; i++)
        put(out, dlogp[i]);
    plumb_scoreboard_destroy(&b);
}

static bool differ(const struct result *a, const struct result *b)
{
    return a->n != b->n || memcmp(a->figure, b->figure, (size_t)a->n * sizeof(a->figure[0])) != 0;
}

enum type { REAL, INT, CHOICE, BOOL };
static const struct field {
    const char *name, *range;
    enum type type;
    size_t offset;
} fields[] = {
#define FIELD(X, type, c_type, name, value, range, ...)                                            \
    {#name, range, type, offsetof(struct plumb_align_param, name)},
    PLUMB_METHOD_LIST(FIELD, PLUMB_PARAM_NONE, )};
enum { FIELDS = sizeof(fields) / sizeof(fields[0]), VALUES = 5 };

/* Parameters that may change nothing in this test: those that are read outside of align/, and
 * reward_norm, which for some methods changes only the reported margins. */
static const char *const elsewhere[] = {"noise_share",     "noise_window", "noise_start",
                                        "noise_smoothing", "decoupling",   "reward_norm"};

static bool is_elsewhere(const char *name)
{
    for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
        if (!strcmp(elsewhere[i], name))
            return true;
    return false;
}

/* Sets the field to test value number v. Returns false if the field has that value already. */
static bool change(struct plumb_align_param *p, const struct field *f, int v)
{
    static const double values[VALUES] = {0.1, 0.3, 0.85, 3, -0.3};
    void *at = (char *)p + f->offset;
    switch (f->type) {
    case REAL: {
        const bool same = *(double *)at == values[v];
        *(double *)at = values[v];
        return !same;
    }
    case INT:
        *(int64_t *)at += v + 1;
        return true;
    case CHOICE: /* an enum with the words of f->range as values */
        if (*(int *)at == v || v >= plumb_range_words(f->range))
            return false;
        *(int *)at = v;
        return true;
    case BOOL:
        *(bool *)at = !*(bool *)at;
        return v == 0;
    }
    return false;
}

/* Returns parameter set number k: a combination of rank_loss, weighted_loss and other parameters
 * that decide which further parameters psle reads. */
static struct plumb_align_param base_of(int k)
{
    struct plumb_align_param p = plumb_align_param_default();
    p.rank_loss = (enum plumb_rank_loss)(k % 5);
    p.weighted_loss = (enum plumb_weighted_loss)(k / 5 % 3);
    p.threshold = (enum plumb_threshold_kind)(k / 15 % 4);
    p.reverse = (enum plumb_reverse)(k / 60 % 2);
    p.length_normalize = k / 120 % 2 == 0;
    p.loss_aggregation = (enum plumb_aggregation)(k % 3);
    return p;
}

static void check(const struct plumb_method *m)
{
    bool seen[FIELDS] = {0}, said[FIELDS] = {0};
    static struct result a, b;
    for (int k = 0; k < 240; k++) {
        const struct plumb_align_param p = base_of(k);
        struct plumb_align_param fixed = p;
        /* this combination is refused, because nothing would be trained */
        if (plumb_align_param_check(&p) != PLUMB_OK)
            continue;
        if (m->fix)
            m->fix(&fixed);
        run(&a, m, p, (uint64_t)k + 1);
        for (int f = 0; f < FIELDS * VALUES; f++) {
            const struct field *field = &fields[f / VALUES];
            struct plumb_align_param q = p;
            if (!change(&q, field, f % VALUES) || plumb_align_param_check(&q) != PLUMB_OK ||
                (m->objective == &plumb_obj_aps && q.label_smoothing > 0))
                continue;
            run(&b, m, q, (uint64_t)k + 1);
            const bool reads = plumb_method_reads(m, &fixed, field->name), shows = differ(&a, &b);
            CHECKF(reads || !shows, "%s reads %s, param_list.h does not say so (setting %d)",
                   m->name, field->name, k);
            seen[f / VALUES] |= reads && shows;
            said[f / VALUES] |= reads;
        }
    }
    for (int f = 0; f < FIELDS; f++) {
        const char *name = fields[f].name;
        /* the method sets the threshold itself (fix), so changing it has no effect */
        const bool decided = m->fix && !strcmp(name, "threshold");
        CHECKF(seen[f] || !said[f] || decided || is_elsewhere(name),
               "%s does not read %s, param_list.h says that it does", m->name, name);
    }
}

int main(void)
{
    const struct plumb_method *m;
    for (int i = 0; (m = plumb_method_at(i)); i++)
        check(m);
    CHECK(!plumb_method_option(-1) && plumb_method_option(0) && !plumb_method_option(1000));
    CHECK(plumb_method_reads(plumb_method_at(0), &(struct plumb_align_param){0}, "name"));
    return 0;
}

/* compare.c - checks that runs are comparable, groups them, and computes means over seeds.
 * Layer 5. Includes eval/compare.h, eval/interval.h, base/, train/inputs.h. */
#include "eval/compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "eval/interval.h"
#include "train/inputs.h"

static const char *const aspects[] = {"start",  "prompts",    "reward",
                                      "budget", "evaluation", "unfinished"};
enum { ASPECTS = sizeof(aspects) / sizeof(aspects[0]) };
/* The largest accepted relative difference between the number of tokens that a run generated and
 * its budget, train.generated_tokens. */
#define USED_WITHIN 0.05

static bool allowed(const struct plumb_compare *c, const char *aspect)
{
    const struct plumb_texts *t = &c->cfg->compare.allow;
    for (int64_t i = 0; i < t->n; i++)
        if (strcmp(t->item[i], aspect) == 0)
            return true;
    return false;
}

static bool starts_with(const char *text, const char *head)
{
    return strncmp(text, head, strlen(head)) == 0;
}

/* Returns the aspect (see aspects[]) that an option belongs to, or NULL if comparable runs may
 * differ in the option. */
static const char *aspect_of(const char *path)
{
    static const char *const budget[] = {"train.iterations",    "train.prompts_per_iteration",
                                         "generate.group_size", "generate.max_new_tokens",
                                         "train.max_steps",     "train.generated_tokens"};
    for (size_t i = 0; i < sizeof(budget) / sizeof(budget[0]); i++)
        if (strcmp(path, budget[i]) == 0)
            return "budget";
    /* a training run only evaluates on data.eval, so this option does not change the run */
    if (strcmp(path, "data.eval") == 0)
        return NULL;
    return starts_with(path, "data.") ? "prompts" : starts_with(path, "reward.") ? "reward" : NULL;
}

/* Two runs that are being compared. */
struct pair {
    const struct plumb_compare *c;
    const struct plumb_run_results *a, *b;
    bool same_tokens; /* true if the token budgets are equal: budget options may then differ */
};

static plumb_status refuse(const struct pair *p, const char *aspect, const char *what,
                           const char *here, const char *there)
{
    if (allowed(p->c, aspect))
        return PLUMB_OK;
    PLUMB_FAIL(PLUMB_ERR_CONFIG,
               "%s and %s differ in %s: %s%s%s in the first, %s in the second; give "
               "compare.allow=%s to compare them all the same",
               p->a->dir, p->b->dir, aspect, what, *what ? " is " : "", here, there, aspect);
}

static const plumb_json *inputs_of(const plumb_json *root)
{
    return plumb_json_get(root, "inputs");
}

/* Compares the files or models of an option by their hashes. Returns 1 if they are equal, -1 if
 * they differ, 0 if a hash is unknown. */
static int same_content(const plumb_json *a, const plumb_json *b, const char *key)
{
    switch (plumb_inputs_compare(NULL, 0, inputs_of(a), inputs_of(b), key)) {
    case PLUMB_INPUTS_SAME:
        return 1;
    case PLUMB_INPUTS_DIFFER:
        return -1;
    default:
        return 0;
    }
}

/* Compares the hashes of the files and models that two runs have read. Fails if an option in which
 * comparable runs must agree names different contents, or if the evaluations used different prompts
 * or reward models. */
static plumb_status check_contents(const struct pair *p)
{
    for (int64_t i = 0; i < plumb_json_count(inputs_of(p->a->run)); i++) {
        const char *key, *aspect;
        const plumb_json *value;
        PLUMB_TRY(plumb_json_member_at(inputs_of(p->a->run), i, &key, &value));
        aspect = aspect_of(key);
        if (aspect && same_content(p->a->run, p->b->run, key) < 0)
            PLUMB_TRY(refuse(p, aspect, key, "of one content", "of another content"));
    }
    static const char *const judged[] = {"data.eval", "reward.model"};
    for (int i = 0; i < 2; i++)
        if (same_content(p->a->eval, p->b->eval, judged[i]) < 0)
            PLUMB_TRY(refuse(p, "evaluation", judged[i], "of one content", "of another content"));
    return PLUMB_OK;
}

static plumb_status check_option(void *arg, const char *path, const char *then, const char *now)
{
    const struct pair *p = arg;
    const char *aspect = aspect_of(path);
    if (!aspect || (p->same_tokens && !strcmp(aspect, "budget")) ||
        same_content(p->a->run, p->b->run, path) > 0)
        return PLUMB_OK;
    return refuse(p, aspect, path, then, now);
}

/* Returns the largest number of tokens that a run without train.generated_tokens may generate: all
 * its completions times generate.max_new_tokens. Returns 0 if the number is unknown, because
 * train.prompts_per_iteration is 0 and the run therefore uses all prompts of its file. */
static int64_t most_of(const struct plumb_config *cfg)
{
    return cfg->train.iterations * cfg->train.prompts_per_iteration * cfg->generate.group_size *
           cfg->generate.max_new_tokens;
}

static bool same_tokens(const struct plumb_config *a, const struct plumb_config *b)
{
    if (a->train.generated_tokens > 0 || b->train.generated_tokens > 0)
        return a->train.generated_tokens == b->train.generated_tokens;
    return most_of(a) > 0 && most_of(a) == most_of(b);
}

/* Fails if the number of tokens that a run generated differs from train.generated_tokens by more
 * than USED_WITHIN, for example because train.iterations ended it earlier. */
static plumb_status check_used(const struct plumb_compare *c, const struct plumb_run_results *r)
{
    const double budget = (double)r->cfg->train.generated_tokens;
    const double used = r->own.figure[PLUMB_FIGURE_GENERATED];
    PLUMB_REQUIRE(budget == 0 || fabs(used / budget - 1) <= USED_WITHIN || allowed(c, "budget"),
                  PLUMB_ERR_CONFIG,
                  "%s generated %.0f tokens, and its train.generated_tokens is %.0f; give "
                  "compare.allow=budget to compare it all the same",
                  r->dir, used, budget);
    return PLUMB_OK;
}

static plumb_status check_pair(const struct plumb_compare *c, const struct plumb_run_results *a,
                               const struct plumb_run_results *b)
{
    struct pair p = {.c = c, .a = a, .b = b};
    char here[32], there[32];
    snprintf(here, sizeof(here), "%016" PRIx64, a->start);
    snprintf(there, sizeof(there), "%016" PRIx64, b->start);
    if (a->start != b->start)
        PLUMB_TRY(refuse(&p, "start", "the fingerprint of the first weights", here, there));
    if (a->evaluated && b->evaluated && strcmp(a->evaluation, b->evaluation) != 0)
        PLUMB_TRY(refuse(&p, "evaluation", "", a->evaluation, b->evaluation));
    if (a->evaluated != b->evaluated)
        PLUMB_TRY(refuse(&p, "evaluation", "", a->evaluated ? a->evaluation : "none",
                         b->evaluated ? b->evaluation : "none"));
    PLUMB_TRY(check_contents(&p));
    if (strcmp(a->command, b->command) != 0)
        return refuse(&p, "budget", "the command", a->command, b->command);
    p.same_tokens = !strcmp(a->command, "align") && same_tokens(a->cfg, b->cfg);
    return plumb_config_changes(a->cfg, b->cfg, a->command, check_option, &p);
}

plumb_status plumb_compare_check(const struct plumb_compare *c)
{
    const struct plumb_texts *allow = &c->cfg->compare.allow;
    for (int64_t i = 0; i < allow->n; i++) {
        bool known = false;
        for (int k = 0; k < ASPECTS; k++)
            known = known || !strcmp(allow->item[i], aspects[k]);
        PLUMB_REQUIRE(known, PLUMB_ERR_CONFIG,
                      "compare.allow: found \"%s\", expected start, prompts, reward, budget, "
                      "evaluation or unfinished",
                      allow->item[i]);
    }
    for (int64_t i = 0; i < c->n; i++) {
        PLUMB_REQUIRE(c->run[i].ended || allowed(c, "unfinished"), PLUMB_ERR_CONFIG,
                      "%s: this run has not ended, or ended with a failure (its run.json says "
                      "which); give compare.allow=unfinished to compare it all the same",
                      c->run[i].dir);
        PLUMB_TRY(check_used(c, &c->run[i]));
        if (i > 0)
            PLUMB_TRY(check_pair(c, &c->run[0], &c->run[i]));
    }
    return PLUMB_OK;
}

/* ---- groups ------------------------------------------------------------------------------- */

struct setting {
    int64_t different;
    char text[128]; /* the option's value in the second run, as ", learning_rate 0.0002" */
};

bool plumb_compare_is_setting(const char *path)
{
    static const char *const other[] = {"seed", "model", "tokenizer", "device"};
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
        if (strcmp(path, other[i]) == 0)
            return false;
    return true;
}

static plumb_status note_setting(void *arg, const char *path, const char *then, const char *now)
{
    struct setting *s = arg;
    (void)then;
    if (!plumb_compare_is_setting(path))
        return PLUMB_OK;
    const char *dot = strrchr(path, '.');
    const size_t used = strlen(s->text);
    snprintf(s->text + used, sizeof(s->text) - used, ", %s %s", dot ? dot + 1 : path, now);
    s->different++;
    return PLUMB_OK;
}

static plumb_status compare_settings(struct setting *s, const struct plumb_run_results *a,
                                     const struct plumb_run_results *b)
{
    *s = (struct setting){0};
    if (strcmp(a->command, b->command) == 0)
        return plumb_config_changes(a->cfg, b->cfg, a->command, note_setting, s);
    snprintf(s->text, sizeof(s->text), ", %s", b->command);
    s->different = 1;
    return PLUMB_OK;
}

static plumb_status add_run(struct plumb_compare *c, int64_t i, int64_t *first_of_label)
{
    const struct plumb_run_results *r = &c->run[i];
    struct setting s = {0};
    char suffix[128] = "";
    struct plumb_compare_group *g = NULL;
    for (int64_t k = 0; k < c->groups && !g; k++) {
        struct plumb_compare_group *other = &c->group[k];
        if (strcmp(c->label[first_of_label[k]], c->label[i]) != 0)
            continue;
        PLUMB_TRY(compare_settings(&s, other->run[0], r));
        if (!s.different)
            g = other;
        else if (!*suffix)
            memcpy(suffix, s.text, sizeof(suffix));
    }
    if (!g) {
        first_of_label[c->groups] = i;
        g = &c->group[c->groups++];
        g->first = i;
        snprintf(g->name, sizeof(g->name), "%.64s%s", c->label[i], suffix);
        g->run = calloc((size_t)c->n, sizeof(const struct plumb_run_results *));
        PLUMB_REQUIRE(g->run, PLUMB_ERR_NOMEM, "list of %lld runs", (long long)c->n);
    }
    for (int64_t k = 0; k < g->n; k++)
        PLUMB_REQUIRE(g->run[k]->cfg->seed != r->cfg->seed, PLUMB_ERR_CONFIG,
                      "%s and %s are the same run: %s, seed %" PRIu64, g->run[k]->dir, r->dir,
                      g->name, r->cfg->seed);
    g->run[g->n++] = r;
    return PLUMB_OK;
}

/* Orders groups for qsort by falling reward. Groups without a reward come last. Of equal groups,
 * the one that the command line names first comes first. */
static int by_rank(const void *a, const void *b)
{
    const struct plumb_compare_group *x = a, *y = b;
    const double p = plumb_compare_rank(x), q = plumb_compare_rank(y);
    if (isnan(p) != isnan(q))
        return isnan(p) ? 1 : -1;
    if (isnan(p) || p == q)
        return (x->first > y->first) - (x->first < y->first);
    return p > q ? -1 : 1;
}

plumb_status plumb_compare_sort(struct plumb_compare *c)
{
    int64_t *first_of_label = calloc((size_t)c->n, sizeof(*first_of_label));
    c->group = calloc((size_t)c->n, sizeof(*c->group));
    plumb_status st = PLUMB_OK;
    if (!first_of_label || !c->group)
        st = plumb_fail_at(PLUMB_ERR_NOMEM, __FILE__, __LINE__, "groups of %lld runs",
                           (long long)c->n);
    for (int64_t i = 0; i < c->n && st == PLUMB_OK; i++)
        st = add_run(c, i, first_of_label);
    if (st == PLUMB_OK)
        qsort(c->group, (size_t)c->groups, sizeof(*c->group), by_rank);
    free(first_of_label);
    return st;
}

/* ---- means over seeds --------------------------------------------------------------------- */

static struct plumb_compare_mean mean_of(const struct plumb_moments *m)
{
    const double variance = m->count > 1 ? m->m2 / (double)(m->count - 1) : NAN;
    return (struct plumb_compare_mean){.n = m->count,
                                       .mean = m->count > 0 ? m->mean : NAN,
                                       .std = sqrt(variance),
                                       .half_width = plumb_t_half_width(variance, m->count)};
}

struct plumb_compare_mean plumb_compare_figure(const struct plumb_compare_group *g,
                                               enum plumb_figure id, bool first)
{
    struct plumb_moments m = {0};
    for (int64_t i = 0; i < g->n; i++) {
        const double x = first ? g->run[i]->first.figure[id] : g->run[i]->own.figure[id];
        if (isfinite(x))
            plumb_moments_add(&m, x);
    }
    return mean_of(&m);
}

double plumb_compare_rank(const struct plumb_compare_group *g)
{
    const enum plumb_figure by =
        g->run[0]->evaluated ? PLUMB_FIGURE_REWARD : PLUMB_FIGURE_LAST_REWARD;
    return plumb_compare_figure(g, by, false).mean;
}

struct plumb_compare_mean plumb_compare_paired(const struct plumb_compare_group *a,
                                               const struct plumb_compare_group *b,
                                               enum plumb_figure id)
{
    struct plumb_moments m = {0};
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t k = 0; k < b->n; k++) {
            const double gap = a->run[i]->own.figure[id] - b->run[k]->own.figure[id];
            if (a->run[i]->cfg->seed == b->run[k]->cfg->seed && isfinite(gap))
                plumb_moments_add(&m, gap);
        }
    return mean_of(&m);
}

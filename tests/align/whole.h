/* whole.h - computes one iteration of a method on one batch, from rewards to the loss and its
 * derivatives. It calls the functions of align/ in the order of src/stage/update.c.
 * Test. Includes align/, golden.h. */
#ifndef PLUMB_TESTS_ALIGN_WHOLE_H
#define PLUMB_TESTS_ALIGN_WHOLE_H

#include "golden.h"
#include "stage/method.h"

enum { ENTRIES = 128 };

struct whole {
    const struct plumb_method *m;
    struct plumb_align_param p;
    int64_t prompts, group;
    double progress; /* progress of the run at this iteration: 0 for the first, 1 for the last */
    /* true if a parameter is outside of its option's range, to reach a limit of a formula */
    bool limit;
    /* prompts * group completions, followed by one greedy answer of the reference per prompt */
    double reward[ENTRIES], logp[ENTRIES], ref[ENTRIES], dlogp[ENTRIES];
    int32_t len[ENTRIES];
    bool principled[ENTRIES];
    double weight[ENTRIES]; /* set by whole_loss: the imitation weights of the completions */
    struct plumb_choice choice[ENTRIES];
    struct plumb_align_report report;
};

static inline void whole_begin(struct whole *w, const char *method, int64_t prompts, int64_t group)
{
    memset(w, 0, sizeof(*w));
    CHECK_OK(plumb_method_find(&w->m, method));
    CHECK(prompts * (group + 1) <= ENTRIES);
    w->p = plumb_align_param_default();
    w->prompts = prompts, w->group = group;
    for (int64_t i = 0; i < prompts * group; i++)
        w->principled[i] = w->m->principled && i % group >= group / 2;
}

/* Smooths the labels of pairs with small margins, as SPA does after the decisions of an
 * iteration. */
static inline void whole_doubt(struct whole *w, struct plumb_scoreboard *b)
{
    double margin[ENTRIES], work[ENTRIES];
    for (int64_t q = 0; q < b->prompts; q++)
        margin[q] = b->choice[q].branch == PLUMB_BRANCH_RANK ? b->choice[q].margin : NAN;
    const double tau = plumb_threshold_noise(margin, b->prompts, &w->p, work);
    for (int64_t q = 0; q < b->prompts; q++)
        plumb_threshold_smooth(&b->choice[q], margin[q], tau, 1.0, &w->p);
}

static inline void whole_sequence(struct whole *w, int64_t from, double weight, double *const to[3],
                                  int32_t *len, int64_t *source, int64_t n)
{
    to[0][n] = w->logp[from], to[1][n] = w->ref[from], to[2][n] = weight;
    len[n] = w->len[from], source[n] = from;
}

/* Returns the loss of the iteration. Sets w->dlogp, w->choice, w->weight and w->report. */
static inline double whole_loss(struct whole *w)
{
    struct plumb_scoreboard *b;
    struct plumb_threshold_state state;
    double logp[ENTRIES], ref[ENTRIES], weight[ENTRIES], reward[ENTRIES] = {0}, dlogp[ENTRIES];
    double *const to[3] = {logp, ref, weight};
    int32_t len[ENTRIES];
    int64_t source[ENTRIES], group[ENTRIES + 1] = {0}, n = 0, k = 0, groups = 0;
    struct plumb_pair pair[ENTRIES];
    if (w->m->fix)
        w->m->fix(&w->p);
    CHECK(w->limit || plumb_method_check(w->m, &w->p, w->group) == PLUMB_OK);
    state = plumb_threshold_begin(&w->p);
    CHECK_OK(plumb_scoreboard_create(&b, w->prompts, w->group));
    CHECK_OK(plumb_scoreboard_begin(b, w->prompts));
    for (int64_t i = 0; i < b->n; i++)
        CHECK_OK(
            plumb_scoreboard_put(b, i / w->group, i % w->group, w->principled[i], w->reward[i]));
    CHECK_OK(plumb_align_decide(b, &state, &w->report, w->m, &w->p, w->progress));
    if (!strcmp(w->m->name, "spa"))
        whole_doubt(w, b);
    for (int64_t q = 0; q < b->prompts; q++) {
        const struct plumb_choice *c = &b->choice[q];
        struct plumb_pair one = {-1, -1, c->smooth, c->weight};
        for (int64_t i = q * w->group; i < (q + 1) * w->group; i++) {
            if (!plumb_scoreboard_uses(b, i))
                continue;
            reward[n] = b->norm[i];
            one.win = i == c->win ? n : one.win;
            one.lose = i == c->lose ? n : one.lose;
            whole_sequence(w, i, b->weight[i], to, len, source, n++);
        }
        if (plumb_method_adds(w->m)->extra_sequences > 0 && c->branch != PLUMB_BRANCH_SKIP)
            whole_sequence(w, b->n + q, 1, to, len, source, n++);
        if (n > group[groups])
            group[++groups] = n;
        if (c->branch == PLUMB_BRANCH_RANK || c->branch == PLUMB_BRANCH_SWAP)
            pair[k++] = one;
    }
    int64_t every[ENTRIES];
    double tokens[ENTRIES];
    for (int64_t i = 0; i < b->n; i++)
        every[i % b->prompts] = i % b->prompts, tokens[i] = w->len[i];
    struct plumb_imitated sums = plumb_scoreboard_imitated(b, every, b->prompts, tokens, 1);
    for (int64_t i = 0; i < n; i++)
        if (source[i] >= b->n) /* an answer that the method adds to the sampled ones */
            sums.weight += 1, sums.tokens += len[i];
    const struct plumb_obj_in in = {.n = n,
                                    .k = k,
                                    .logp = logp,
                                    .logp_ref = ref,
                                    .len = len,
                                    .reward = reward,
                                    .weight = weight,
                                    .pair = pair,
                                    .groups = groups,
                                    .group = group,
                                    .scale = 1 / plumb_scoreboard_terms(b, NULL, 0),
                                    .mean_len = plumb_imitated_mean(sums)};
    struct plumb_obj_out out = {.dlogp = dlogp};
    CHECK_OK(plumb_objective_eval(w->m->objective, &out, &in, &w->p));
    memset(w->dlogp, 0, sizeof(w->dlogp));
    for (int64_t i = 0; i < n; i++)
        w->dlogp[source[i]] = dlogp[i];
    memcpy(w->weight, b->weight, (size_t)b->n * sizeof(double));
    memcpy(w->choice, b->choice, (size_t)b->prompts * sizeof(*b->choice));
    plumb_scoreboard_destroy(&b);
    return out.loss;
}

#endif

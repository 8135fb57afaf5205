/* problem.h - the inputs and outputs of one call of an objective (a loss with its derivatives).
 * Test. Includes align/, golden.h. */
#ifndef PLUMB_TESTS_ALIGN_PROBLEM_H
#define PLUMB_TESTS_ALIGN_PROBLEM_H

#include <stdbool.h>

#include "align/objective.h"
#include "golden.h"

enum { N = 16 };

struct problem {
    const struct plumb_objective *o;
    struct plumb_align_param p;
    struct plumb_obj_in in;
    double logp[N], ref[N], score[N], weight[N], reward[N], dlogp[N], dscore[N];
    int64_t group[N];
    int32_t len[N];
    struct plumb_pair pair[N];
};

static inline void point_in(struct problem *q)
{
    q->in.logp = q->logp, q->in.logp_ref = q->ref, q->in.score = q->score;
    q->in.weight = q->weight, q->in.len = q->len, q->in.pair = q->pair;
    q->in.reward = q->reward, q->in.group = q->group;
}

static inline struct plumb_obj_out eval(struct problem *q)
{
    struct plumb_obj_out out = {.dlogp = q->dlogp, .dscore = q->dscore};
    for (int i = 0; i < N; i++)
        q->dlogp[i] = q->dscore[i] = NAN; /* eval() must overwrite every element */
    CHECK_OK(plumb_objective_eval(q->o, &out, &q->in, &q->p));
    return out;
}

/* Returns a problem of two sequences with the log-probs a and b, and one pair in which sequence 0
 * is preferred to sequence 1. */
static inline struct problem pair_of(const struct plumb_objective *o, double a, double b)
{
    struct problem q = {.o = o, .p = plumb_align_param_default()};
    q.in = (struct plumb_obj_in){.n = 2, .k = 1, .scale = 1, .mean_len = 3};
    q.pair[0] = (struct plumb_pair){0, 1, 0, 1};
    q.logp[0] = q.score[0] = a, q.logp[1] = q.score[1] = b;
    q.len[0] = 2, q.len[1] = 4;
    return q;
}

static inline void expect_refusal(struct problem *q, plumb_status want, const char *words)
{
    struct plumb_obj_out out = {.dlogp = q->dlogp, .dscore = q->dscore};
    const plumb_status st = plumb_objective_eval(q->o, &out, &q->in, &q->p);
    CHECKF(st == want && strstr(plumb_trail_message(), words), "%s: status %d, %s", q->o->name,
           (int)st, plumb_trail_message());
}

#endif

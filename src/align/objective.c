/* objective.c - the table of objectives, and the checks of their inputs.
 * Layer 1. Includes align/ and base/ only. */
#include "align/objective.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const struct plumb_objective *const table[] = {
    &plumb_obj_psle, &plumb_obj_sft,  &plumb_obj_dpo,  &plumb_obj_ipo,  &plumb_obj_reward,
    &plumb_obj_rdo,  &plumb_obj_aps,  &plumb_obj_vcb,  &plumb_obj_rrhf, &plumb_obj_lire,
    &plumb_obj_pro,  &plumb_obj_selm, &plumb_obj_dlma,
};

const struct plumb_objective *plumb_objective_at(int i)
{
    return i >= 0 && (size_t)i < sizeof(table) / sizeof(table[0]) ? table[i] : NULL;
}

const struct plumb_objective *plumb_objective_find(const char *name)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    return NULL;
}

static plumb_status check_values(const char *objective, const char *what, const double *x,
                                 int64_t n)
{
    PLUMB_REQUIRE(x || n == 0, PLUMB_ERR_ARG, "objective %s: %s is NULL, expected an array",
                  objective, what);
    for (int64_t i = 0; i < n; i++)
        PLUMB_REQUIRE(isfinite(x[i]), PLUMB_ERR_NUMERIC,
                      "objective %s: %s of sequence %lld is %g, expected a finite number",
                      objective, what, (long long)i, x[i]);
    return PLUMB_OK;
}

static plumb_status check_pairs(const char *objective, const struct plumb_obj_in *in, double smooth)
{
    for (int64_t k = 0; k < in->k; k++) {
        const struct plumb_pair *q = &in->pair[k];
        PLUMB_REQUIRE(
            q->win >= 0 && q->win < in->n && q->lose >= 0 && q->lose < in->n && q->win != q->lose,
            PLUMB_ERR_ARG,
            "objective %s: pair %lld compares sequences %lld and %lld, expected two different "
            "indices below %lld",
            objective, (long long)k, (long long)q->win, (long long)q->lose, (long long)in->n);
        PLUMB_REQUIRE(q->smooth >= 0 && q->smooth + smooth <= 0.5, PLUMB_ERR_ARG,
                      "objective %s: pair %lld: smooth %g + label_smoothing %g, expected a sum in "
                      "[0, 0.5]",
                      objective, (long long)k, q->smooth, smooth);
        PLUMB_REQUIRE(
            isfinite(q->weight) && q->weight >= 0, PLUMB_ERR_NUMERIC,
            "objective %s: weight of pair %lld is %g, expected a finite number of at least 0",
            objective, (long long)k, q->weight);
    }
    return PLUMB_OK;
}

static plumb_status check_groups(const char *objective, const struct plumb_obj_in *in)
{
    PLUMB_REQUIRE(in->groups >= 0 && (in->group || in->groups == 0), PLUMB_ERR_ARG,
                  "objective %s: the number of groups is negative, or the array of groups is NULL",
                  objective);
    PLUMB_REQUIRE(in->groups > 0 || in->n == 0, PLUMB_ERR_ARG,
                  "objective %s: %lld sequences in no group", objective, (long long)in->n);
    for (int64_t q = 0; q < in->groups; q++)
        PLUMB_REQUIRE((q > 0 || in->group[0] == 0) && in->group[q + 1] >= in->group[q] + 2 &&
                          in->group[q + 1] <= in->n,
                      PLUMB_ERR_ARG,
                      "objective %s: group %lld is sequences %lld to %lld of %lld, expected two or "
                      "more, beginning at 0 in group 0",
                      objective, (long long)q, (long long)in->group[q],
                      (long long)in->group[q + 1] - 1, (long long)in->n);
    PLUMB_REQUIRE(in->groups == 0 || in->group[in->groups] == in->n, PLUMB_ERR_ARG,
                  "objective %s: the groups have %lld sequences, expected all %lld", objective,
                  (long long)in->group[in->groups], (long long)in->n);
    return PLUMB_OK;
}

static plumb_status check_inputs(const struct plumb_objective *o, const struct plumb_obj_out *out,
                                 const struct plumb_obj_in *in, const struct plumb_align_param *p)
{
    const unsigned needs = o->needs(p);
    PLUMB_REQUIRE(in->n >= 0 && in->k >= 0 && (in->pair || in->k == 0), PLUMB_ERR_ARG,
                  "objective %s: %lld sequences and %lld pairs, expected no negative count, and an "
                  "array of pairs if there are any",
                  o->name, (long long)in->n, (long long)in->k);
    PLUMB_REQUIRE(isfinite(in->scale) && in->scale > 0, PLUMB_ERR_ARG,
                  "objective %s: the scale is %g, expected a finite number above 0", o->name,
                  in->scale);
    if (needs & PLUMB_NEED_LOGP)
        PLUMB_TRY(check_values(o->name, "logp", in->logp, in->n));
    if (needs & PLUMB_NEED_REF)
        PLUMB_TRY(check_values(o->name, "logp_ref", in->logp_ref, in->n));
    if (needs & PLUMB_NEED_SCORE)
        PLUMB_TRY(check_values(o->name, "score", in->score, in->n));
    if (needs & (PLUMB_NEED_REWARD | PLUMB_NEED_GROUP))
        PLUMB_TRY(check_values(o->name, "reward", in->reward, in->n));
    if (needs & PLUMB_NEED_GROUP)
        PLUMB_TRY(check_groups(o->name, in));
    PLUMB_REQUIRE(out->dlogp || !(needs & PLUMB_NEED_LOGP) || in->n == 0, PLUMB_ERR_ARG,
                  "objective %s: out->dlogp is NULL, expected an array for the derivatives",
                  o->name);
    PLUMB_REQUIRE(out->dscore || !(needs & PLUMB_NEED_SCORE) || in->n == 0, PLUMB_ERR_ARG,
                  "objective %s: out->dscore is NULL, expected an array for the derivatives",
                  o->name);
    PLUMB_REQUIRE(!(needs & PLUMB_READ_AGGREGATION) || (isfinite(in->mean_len) && in->mean_len > 0),
                  PLUMB_ERR_ARG,
                  "objective %s: the mean length is %g tokens, expected a finite number above 0",
                  o->name, in->mean_len);
    if (needs & PLUMB_NEED_LEN) {
        PLUMB_REQUIRE(in->len || in->n == 0, PLUMB_ERR_ARG,
                      "objective %s: len is NULL, expected an array", o->name);
        for (int64_t i = 0; i < in->n; i++)
            PLUMB_REQUIRE(in->len[i] > 0, PLUMB_ERR_ARG,
                          "objective %s: sequence %lld has %d tokens, expected 1 or more", o->name,
                          (long long)i, (int)in->len[i]);
    }
    if (in->weight) {
        PLUMB_TRY(check_values(o->name, "weight", in->weight, in->n));
        for (int64_t i = 0; i < in->n; i++)
            PLUMB_REQUIRE(in->weight[i] >= 0, PLUMB_ERR_ARG,
                          "objective %s: weight of sequence %lld is %g, expected at least 0",
                          o->name, (long long)i, in->weight[i]);
    }
    return check_pairs(o->name, in, p->label_smoothing);
}

plumb_status plumb_objective_eval(const struct plumb_objective *o, struct plumb_obj_out *out,
                                  const struct plumb_obj_in *in, const struct plumb_align_param *p)
{
    PLUMB_TRY(check_inputs(o, out, in, p));
    *out = (struct plumb_obj_out){.dlogp = out->dlogp, .dscore = out->dscore};
    if (out->dlogp)
        memset(out->dlogp, 0, (size_t)in->n * sizeof(double));
    if (out->dscore)
        memset(out->dscore, 0, (size_t)in->n * sizeof(double));
    PLUMB_TRY(o->eval(out, in, p));
    PLUMB_REQUIRE(isfinite(out->loss), PLUMB_ERR_NUMERIC,
                  "objective %s: the loss is %g, expected a finite number", o->name, out->loss);
    return PLUMB_OK;
}

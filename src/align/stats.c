/* stats.c - computes mean and std of rewards in entry order, and quantiles of sorted margins.
 * Layer 1. Includes align/ and base/ only. */
#include "align/stats.h"

#include <math.h>
#include <stdlib.h>

#include "base/num.h"

static void moments_out(double *mean, double *std, const struct plumb_moments *m)
{
    *mean = m->count > 0 ? m->mean : NAN;
    *std = m->count > 0 ? sqrt(plumb_moments_var(m)) : NAN;
}

static double normalise(double r, const struct plumb_align_stats *s, enum plumb_reward_norm norm)
{
    switch (norm) {
    case PLUMB_NORM_ZSCORE:
        /* If rewards differ by rounding only, all of them become 0. */
        return s->reward_std > PLUMB_SAME_SCORE * fabs(s->reward_mean)
                   ? (r - s->reward_mean) / s->reward_std
                   : 0.0;
    case PLUMB_NORM_SIGMOID:
        return r >= 0 ? 1.0 / (1.0 + exp(-r)) : exp(r) / (1.0 + exp(r));
    case PLUMB_NORM_NONE:
        break;
    }
    return r;
}

void plumb_stats_reward(struct plumb_align_stats *out, struct plumb_scoreboard *b,
                        const struct plumb_align_param *p)
{
    struct plumb_moments all = {0}, plain = {0}, principled = {0};
    *out = (struct plumb_align_stats){0};
    for (int64_t i = 0; i < b->n; i++) {
        if (b->kind[i] == PLUMB_ENTRY_ABSENT)
            continue;
        out->completions++;
        if (isnan(b->reward[i])) {
            out->missing++;
            continue;
        }
        plumb_moments_add(&all, b->reward[i]);
        plumb_moments_add(b->kind[i] == PLUMB_ENTRY_PRINCIPLED ? &principled : &plain,
                          b->reward[i]);
    }
    moments_out(&out->reward_mean, &out->reward_std, &all);
    moments_out(&out->reward_plain_mean, &out->reward_plain_std, &plain);
    moments_out(&out->reward_principled_mean, &out->reward_principled_std, &principled);
    for (int64_t i = 0; i < b->n; i++)
        b->norm[i] = isnan(b->reward[i]) ? NAN : normalise(b->reward[i], out, p->reward_norm);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void plumb_sort_values(double *x, int64_t n)
{
    qsort(x, (size_t)n, sizeof(*x), by_value);
}

double plumb_quantile(const double *sorted, int64_t n, double q)
{
    if (n == 0)
        return NAN;
    const double at = (double)(n - 1) * q;
    const int64_t low = plumb_min_i64((int64_t)at, n - 1), high = plumb_min_i64(low + 1, n - 1);
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

void plumb_stats_margin(struct plumb_align_stats *out, struct plumb_scoreboard *b)
{
    static const double q[PLUMB_STATS_QUANTILES] = {0.05, 0.25, 0.5, 0.75, 0.95};
    struct plumb_moments m = {0};
    for (int64_t p = 0; p < b->prompts; p++)
        if (!isnan(b->choice[p].margin)) {
            b->work[m.count] = b->choice[p].margin;
            plumb_moments_add(&m, b->choice[p].margin);
        }
    plumb_sort_values(b->work, m.count);
    out->margins = m.count;
    moments_out(&out->margin_mean, &out->margin_std, &m);
    for (int k = 0; k < PLUMB_STATS_QUANTILES; k++)
        out->margin_quantile[k] = plumb_quantile(b->work, m.count, q[k]);
}

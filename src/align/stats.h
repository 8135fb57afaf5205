/* stats.h - the numbers of one iteration over all ranks; the dynamic threshold reads them.
 * Layer 1. Includes base/ only. All sums run in entry order: the same bits on every rank. */
#ifndef PLUMB_ALIGN_STATS_H
#define PLUMB_ALIGN_STATS_H

#include "align/param.h"
#include "align/scoreboard.h"

#define PLUMB_STATS_QUANTILES 5 /* 0.05, 0.25, 0.5, 0.75, 0.95 */

struct plumb_align_stats {
    int64_t completions, missing;               /* of those, without a finite reward */
    double reward_mean, reward_std;             /* all scored; population std */
    double reward_plain_mean, reward_plain_std; /* NaN when there are none */
    double reward_principled_mean, reward_principled_std;
    int64_t margins; /* prompts with a margin */
    double margin_mean, margin_std;
    double margin_quantile[PLUMB_STATS_QUANTILES];
};

/* Fills the reward part, and board->norm by p->reward_norm:
 *   zscore   (r - mean) / std over all scored entries (0 when std is below 1e-8 of |mean| or 0)
 *   sigmoid  1 / (1 + exp(-r))
 *   none     r                                       Source: ours (the paper is silent) */
void plumb_stats_reward(struct plumb_align_stats *out, struct plumb_scoreboard *b,
                        const struct plumb_align_param *p);
/* Fills the margin part from choice[].margin, and b->work with the margins, sorted. */
void plumb_stats_margin(struct plumb_align_stats *out, struct plumb_scoreboard *b);
void plumb_sort_values(double *x, int64_t n); /* ascending; no NaN */
/* q-quantile of n sorted values by linear interpolation at (n-1) q; NaN when n = 0. */
double plumb_quantile(const double *sorted, int64_t n, double q);

#endif

/* stats.h - statistics of one iteration's rewards and margins; the threshold is computed from them.
 * Layer 1. Includes base/ only. All sums run in the order of the scoreboard's entries, so every
 * rank gets the same bits. */
#ifndef PLUMB_ALIGN_STATS_H
#define PLUMB_ALIGN_STATS_H

#include "align/param.h"
#include "align/scoreboard.h"

#define PLUMB_STATS_QUANTILES 5 /* the quantiles 0.05, 0.25, 0.5, 0.75 and 0.95 */

struct plumb_align_stats {
    int64_t completions, missing;               /* number of completions; number of those without a
                                                 * finite reward */
    double reward_mean, reward_std;             /* over all finite rewards; NaN if there are none */
    double reward_plain_mean, reward_plain_std; /* over the finite rewards of plain completions; NaN
                                                 * if there are none */
    double reward_principled_mean, reward_principled_std; /* the same for principled completions */
    int64_t margins;                                      /* number of prompts with a margin */
    double margin_mean, margin_std;                       /* NaN if no prompt has a margin */
    double margin_quantile[PLUMB_STATS_QUANTILES];
};

/* Sets the reward statistics in *out (all std are population std). Sets b->norm from the rewards r
 * by p->reward_norm:
 *   zscore   (r - mean) / std over all scored entries (0 if std is at most 1e-8 |mean|)
 *   sigmoid  1 / (1 + exp(-r))
 *   none     r
 * Source: ours; the paper of PSLE, arXiv:2408.02599, does not say how it normalizes rewards. */
void plumb_stats_reward(struct plumb_align_stats *out, struct plumb_scoreboard *b,
                        const struct plumb_align_param *p);
/* Sets the margin statistics in *out from choice[].margin, and writes the sorted margins to
 * b->work.
 */
void plumb_stats_margin(struct plumb_align_stats *out, struct plumb_scoreboard *b);
void plumb_sort_values(double *x, int64_t n); /* sorts in ascending order; x must not have NaN */
/* Returns the q-quantile of n sorted values: linear interpolation at position (n-1) q. NaN if n is
 * 0. */
double plumb_quantile(const double *sorted, int64_t n, double q);

#endif

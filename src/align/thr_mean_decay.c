/* thr_mean_decay.c - the threshold tau is alpha^i (mean + mean_k std) in iteration i >= 0, where
 * mean and std are those of this iteration's margins. Without a margin it keeps its last value.
 * Layer 1. Includes align/ and base/ only. Source: ours. */
#include <math.h>

#include "align/threshold.h"

static double mean_decay_tau(struct plumb_threshold_state *s, const struct plumb_align_stats *stats,
                             const double *sorted_margin, const struct plumb_align_param *p,
                             double progress)
{
    (void)sorted_margin;
    (void)progress;
    if (stats->margins > 0)
        s->tau = pow(p->alpha, (double)s->iteration) *
                 (stats->margin_mean + p->mean_k * stats->margin_std);
    return s->tau;
}

const struct plumb_threshold plumb_thr_mean_decay = {"mean_decay", mean_decay_tau};

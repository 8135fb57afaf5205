/* thr_quantile.c - the threshold tau is the q-quantile of this iteration's margins, so a share of
 * about 1 - q of the margins is above tau. q changes linearly over the run, from quantile_start to
 * quantile_end.
 * Layer 1. Includes align/ and base/ only. Source: ours. */
#include "align/threshold.h"

static double quantile_tau(struct plumb_threshold_state *s, const struct plumb_align_stats *stats,
                           const double *sorted_margin, const struct plumb_align_param *p,
                           double progress)
{
    const double q = p->quantile_start + progress * (p->quantile_end - p->quantile_start);
    if (stats->margins > 0)
        s->tau = plumb_quantile(sorted_margin, stats->margins, q);
    return s->tau;
}

const struct plumb_threshold plumb_thr_quantile = {"quantile", quantile_tau};

/* thr_none.c - the threshold is 0 in every iteration. With the rule plumb_threshold_branch and a
 * loss of pairs, every prompt with a positive margin then takes the branch RANK.
 * Layer 1. Includes align/ and base/ only. Source: ours. */
#include "align/threshold.h"

static double none_tau(struct plumb_threshold_state *s, const struct plumb_align_stats *stats,
                       const double *sorted_margin, const struct plumb_align_param *p,
                       double progress)
{
    (void)stats;
    (void)sorted_margin;
    (void)p;
    (void)progress;
    s->tau = 0.0;
    return 0.0;
}

const struct plumb_threshold plumb_thr_none = {"none", none_tau};

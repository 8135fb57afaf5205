/* thr_decay.c - the threshold tau is multiplied by alpha after each iteration, as in the paper.
 * Layer 1. Includes align/ and base/ only. Source: PSLE, arXiv:2408.02599. */
#include "align/threshold.h"

static double decay_tau(struct plumb_threshold_state *s, const struct plumb_align_stats *stats,
                        const double *sorted_margin, const struct plumb_align_param *p,
                        double progress)
{
    (void)stats;
    (void)sorted_margin;
    (void)progress;
    const double tau = s->tau;
    s->tau = p->alpha * tau;
    return tau;
}

const struct plumb_threshold plumb_thr_decay = {"decay", decay_tau};

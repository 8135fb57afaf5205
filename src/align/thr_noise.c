/* thr_noise.c - smooths the labels of pairs whose margin is below a quantile of the last margins.
 * Layer 1. Includes align/ and base/ only.
 * Source: SPA, arXiv:2406.04412, eq. 12-13. The paper's code keeps one buffer of margins per GPU.
 * plumb keeps one buffer for the pairs of all ranks, in their global order, so the result does not
 * depend on the number of ranks. */
#include <math.h>

#include "align/threshold.h"

double plumb_threshold_noise(const double *margin, int64_t n, const struct plumb_align_param *p,
                             double *work)
{
    int64_t k = 0;
    for (int64_t i = n; i-- > 0 && k < p->noise_window;)
        if (!isnan(margin[i]))
            work[k++] = margin[i];
    plumb_sort_values(work, k);
    return plumb_quantile(work, k, p->noise_share);
}

void plumb_threshold_smooth(struct plumb_choice *c, double margin, double tau, double done,
                            const struct plumb_align_param *p)
{
    c->smooth = done >= p->noise_start && margin < tau ? p->noise_smoothing : 0.0;
}

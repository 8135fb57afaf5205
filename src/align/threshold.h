/* threshold.h - the only stage of a method with memory: which branch a prompt takes.
 * Layer 1. Includes base/ only. */
#ifndef PLUMB_ALIGN_THRESHOLD_H
#define PLUMB_ALIGN_THRESHOLD_H

#include "align/param.h"
#include "align/scoreboard.h"
#include "align/stats.h"

/* Everything a threshold remembers; stored in the checkpoint as it is. */
struct plumb_threshold_state {
    double tau;        /* decay: of the next iteration; others: of the last one */
    int64_t iteration; /* iterations decided so far */
};

struct plumb_threshold {
    const char *name;
    /* tau of this iteration. progress: of the iteration between the run's first (0) and its last
     * (1). May update *s. */
    double (*tau)(struct plumb_threshold_state *s, const struct plumb_align_stats *stats,
                  const double *sorted_margin, const struct plumb_align_param *p, double progress);
};

extern const struct plumb_threshold plumb_thr_decay;      /* tau, alpha tau, alpha^2 tau ... */
extern const struct plumb_threshold plumb_thr_quantile;   /* q-quantile of the margins */
extern const struct plumb_threshold plumb_thr_mean_decay; /* alpha^i (mean + mean_k std) */
extern const struct plumb_threshold plumb_thr_none;       /* 0 */

struct plumb_threshold_state plumb_threshold_begin(const struct plumb_align_param *p);
const struct plumb_threshold *plumb_threshold_of(enum plumb_threshold_kind kind);

/* What a threshold makes of one prompt that the selector did not skip. */
typedef void plumb_threshold_rule(struct plumb_scoreboard *b, int64_t prompt, double tau,
                                  const struct plumb_align_param *p);

/* Final branch and weights:
 *   margin > tau           rank branch, when rank_loss is not none
 *   -margin > tau          swap branch, when reverse = swap and rank_loss is not none
 *   otherwise              weighted branch: weight_i = softmax(norm_i / weight_temperature) over
 *                          the scored entries of the prompt (or equal over the principled ones) */
plumb_threshold_rule plumb_threshold_branch;
/* The pair's weight: 1 from tau on, sigma(margin / curriculum_temperature) below.
 * Source: the code family of PSLE's authors; see plumb_choice.weight for what is divided by. */
plumb_threshold_rule plumb_threshold_weigh;

/* The pair's weight: sigma(weight_beta margin).        Source: OPTune, arXiv:2406.07657, eq. 7 */
plumb_threshold_rule plumb_threshold_sigmoid;
double plumb_sigmoid_weight(double margin, const struct plumb_align_param *p);

/* The margin below which a label is doubted: the noise_share quantile of the last noise_window
 * margins among margin[0 .. n-1], which are in global order, NaN where a prompt had no pair. NaN
 * when there is none.   work (>= min(n, noise_window),) is overwritten */
double plumb_threshold_noise(const double *margin, int64_t n, const struct plumb_align_param *p,
                             double *work);
/* The doubt of a pair with this margin; done: the share of the steps that lie behind. */
void plumb_threshold_smooth(struct plumb_choice *c, double margin, double tau, double done,
                            const struct plumb_align_param *p);

#endif

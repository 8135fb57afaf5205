/* threshold.h - the threshold tau of reward margins, by which a rule sets the branch or the weight
 * of a prompt.
 * Layer 1. Includes base/ only. The threshold's state is the only state in align/ that lasts from
 * one iteration to the next. */
#ifndef PLUMB_ALIGN_THRESHOLD_H
#define PLUMB_ALIGN_THRESHOLD_H

#include "align/param.h"
#include "align/scoreboard.h"
#include "align/stats.h"

/* The state of a threshold across iterations; a checkpoint stores it. */
struct plumb_threshold_state {
    double tau;        /* tau of the next iteration if the kind is decay, else of the last one */
    int64_t iteration; /* number of plumb_align_decide calls so far */
};

struct plumb_threshold {
    const char *name;
    /* Returns tau of this iteration and may update *s. sorted_margin (stats->margins,) ascending;
     * progress: position of the iteration in the run, 0 (first) to 1 (last). */
    double (*tau)(struct plumb_threshold_state *s, const struct plumb_align_stats *stats,
                  const double *sorted_margin, const struct plumb_align_param *p, double progress);
};

extern const struct plumb_threshold plumb_thr_decay;      /* alpha^i tau in iteration i >= 0 */
extern const struct plumb_threshold plumb_thr_quantile;   /* q-quantile of the margins */
extern const struct plumb_threshold plumb_thr_mean_decay; /* alpha^i (mean + mean_k std) */
extern const struct plumb_threshold plumb_thr_none;       /* tau is always 0 */

struct plumb_threshold_state plumb_threshold_begin(const struct plumb_align_param *p);
const struct plumb_threshold *plumb_threshold_of(enum plumb_threshold_kind kind);

/* Changes b->choice[prompt], and b->weight of the prompt's entries, according to tau. It is called
 * only for prompts whose branch is not SKIP. */
typedef void plumb_threshold_rule(struct plumb_scoreboard *b, int64_t prompt, double tau,
                                  const struct plumb_align_param *p);

/* Sets the branch (enum plumb_branch) and the weights of a prompt by its margin:
 *   margin > tau           rank branch, when rank_loss is not none
 *   -margin > tau          swap branch, when reverse = swap and rank_loss is not none
 *   otherwise              weighted branch: weight_i = softmax(norm_i / weight_temperature) over
 *                          the scored entries of the prompt (or equal over the scored principled
 *                          ones); skip branch, when weighted_loss is none */
plumb_threshold_rule plumb_threshold_branch;
/* Sets the weight of a prompt's pair, and the prompt's part of the loss denominator, to 1 if margin
 * >= tau, else to sigma(margin / curriculum_temperature). Source: the published code of PSLE's
 * authors. */
plumb_threshold_rule plumb_threshold_weigh;

/* Sets the weight of a prompt's pair to plumb_sigmoid_weight. The prompt's part of the loss
 * denominator stays 1. */
plumb_threshold_rule plumb_threshold_sigmoid;
/* Returns sigma(weight_beta margin).                   Source: OPTune, arXiv:2406.07657, eq. 7 */
double plumb_sigmoid_weight(double margin, const struct plumb_align_param *p);

/* Returns the margin below which the label of a pair is smoothed: the noise_share quantile of the
 * last noise_window margins in margin (n,), which are in the global order of the prompts. A NaN,
 * which stands for a prompt without a pair, is left out. Returns NaN if no margin is left. work
 * (min(n, noise_window),) is scratch. */
double plumb_threshold_noise(const double *margin, int64_t n, const struct plumb_align_param *p,
                             double *work);
/* Sets c->smooth to noise_smoothing if margin < tau and done >= noise_start, else to 0. done: the
 * share of the iteration's optimizer steps that are done. */
void plumb_threshold_smooth(struct plumb_choice *c, double margin, double tau, double done,
                            const struct plumb_align_param *p);

#endif

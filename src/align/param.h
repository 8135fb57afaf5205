/* param.h - the parameters of the alignment methods, in one struct that is generated from
 * param_list.h.
 * Layer 1. Includes base/ only. Field names are the YAML keys under `method:`. */
#ifndef PLUMB_ALIGN_PARAM_H
#define PLUMB_ALIGN_PARAM_H

#include <stdbool.h>
#include <stdint.h>

#include "align/param_list.h"
#include "base/status.h"

/* Loss of a pair (w, l), where w is the preferred completion. s: log-prob sum of a completion; n:
 * its number of tokens, or 1 if length_normalize is false; d: s minus the same sum under the
 * reference. */
enum plumb_rank_loss {
    PLUMB_RANK_HINGE,      /* max(0, s_l/n_l - s_w/n_w) */
    PLUMB_RANK_LOGISTIC,   /* -log sigma(beta (s_w/n_w - s_l/n_l)) */
    PLUMB_RANK_HINGE_PROB, /* max(0, exp(s_l/n_l) - exp(s_w/n_w)) */
    PLUMB_RANK_DPO,        /* -log sigma(beta (d_w - d_l)); needs the reference */
    PLUMB_RANK_NONE,       /* no loss of pairs: every prompt takes the weighted branch */
};
/* Weights of a prompt's completions in the weighted branch (PLUMB_BRANCH_WEIGHTED), whose loss is
 * the weighted sum of -logp. */
enum plumb_weighted_loss {
    /* softmax(normalised reward / weight_temperature) over the prompt's scored completions */
    PLUMB_WEIGHTED_SOFTMAX,
    /* equal weights for the prompt's scored principled completions (those sampled with the
     * principles), 0 for the others */
    PLUMB_WEIGHTED_PRINCIPLED_ONLY,
    PLUMB_WEIGHTED_NONE, /* no weighted branch: a prompt that would take it is skipped */
};
/* The divisor of the log-prob sum of an imitated completion (one with a -logp term); see
 * plumb_imitation_length. */
enum plumb_aggregation {
    PLUMB_AGGREGATE_TOKEN,    /* mean length of the imitated completions of the global batch: gives
                               * a mean over all their tokens */
    PLUMB_AGGREGATE_SEQUENCE, /* the completion's own length: gives a mean over sequences of the
                               * mean over their tokens */
    PLUMB_AGGREGATE_SUM,      /* 1: gives a mean over prompts of sums over tokens */
};
enum plumb_reward_norm { PLUMB_NORM_ZSCORE, PLUMB_NORM_SIGMOID, PLUMB_NORM_NONE };
/* How tau, the threshold of reward margins, is computed in each iteration. alpha, mean_k and q are
 * parameters. */
enum plumb_threshold_kind {
    PLUMB_THRESHOLD_DECAY,      /* alpha^i tau_0 in iteration i >= 0 */
    PLUMB_THRESHOLD_QUANTILE,   /* the q-quantile of this iteration's margins */
    PLUMB_THRESHOLD_MEAN_DECAY, /* alpha^i (mean + mean_k std of the margins) in iteration i >= 0 */
    PLUMB_THRESHOLD_NONE,       /* tau is always 0 */
};
/* Treatment of a prompt whose best plain completion has a reward higher by more than tau than its
 * best principled one, which was sampled with the principles. */
enum plumb_reverse {
    PLUMB_REVERSE_WEIGHTED, /* the prompt takes the weighted branch */
    PLUMB_REVERSE_SWAP,     /* the two completions become a pair, in which the plain one is
                             * preferred */
};

/* The YAML names of the values of each enum above, in the order of the values; the last element is
 * NULL. */
extern const char *const plumb_rank_loss_names[];
extern const char *const plumb_weighted_loss_names[];
extern const char *const plumb_reward_norm_names[];
extern const char *const plumb_threshold_names[];
extern const char *const plumb_reverse_names[];

/* struct plumb_align_param has one field for each PARAM line of param_list.h. The help text in that
 * line explains the field. */
#define PLUMB_PARAM_FIELD(X, type, c_type, name, ...) c_type name;
#define PLUMB_PARAM_NONE(...)
struct plumb_align_param {
    PLUMB_METHOD_LIST(PLUMB_PARAM_FIELD, PLUMB_PARAM_NONE, )
};

/* Returns the parameters with the defaults of param_list.h. */
struct plumb_align_param plumb_align_param_default(void);

/* Fails with PLUMB_ERR_CONFIG, naming the field and its allowed range, if a field is out of its
 * range, or if rank_loss and weighted_loss are both none. */
plumb_status plumb_align_param_check(const struct plumb_align_param *p);

#endif

/* param.h - the parameters of the alignment methods, one struct made from param_list.h.
 * Layer 1. Includes base/ only. Field names are the YAML keys under `method:`. */
#ifndef PLUMB_ALIGN_PARAM_H
#define PLUMB_ALIGN_PARAM_H

#include <stdbool.h>
#include <stdint.h>

#include "align/param_list.h"
#include "base/status.h"

/* Loss of a pair (w, l). s: log-prob sum of a completion, n: its tokens, d: s minus the reference's
 * log-prob sum. s/n is s without length_normalize. */
enum plumb_rank_loss {
    PLUMB_RANK_HINGE,      /* max(0, s_l/n_l - s_w/n_w) */
    PLUMB_RANK_LOGISTIC,   /* -log sigma(beta (s_w/n_w - s_l/n_l)) */
    PLUMB_RANK_HINGE_PROB, /* max(0, exp(s_l/n_l) - exp(s_w/n_w)) */
    PLUMB_RANK_DPO,        /* -log sigma(beta (d_w - d_l)); needs the reference */
    PLUMB_RANK_NONE,       /* no pairs: every prompt takes the weighted branch */
};
/* Weights of the completions of a prompt in the weighted branch. */
enum plumb_weighted_loss {
    /* softmax(normalised reward / weight_temperature) over the prompt's scored completions */
    PLUMB_WEIGHTED_SOFTMAX,
    /* equal weights for the prompt's scored principled completions, 0 for its others */
    PLUMB_WEIGHTED_PRINCIPLED_ONLY,
    PLUMB_WEIGHTED_NONE, /* no weighted branch: such a prompt is skipped */
};
/* What the log-prob sum of an imitated completion is divided by; see plumb_imitation_length. */
enum plumb_aggregation {
    PLUMB_AGGREGATE_TOKEN,    /* the mean length over the global batch: one mean over all tokens */
    PLUMB_AGGREGATE_SEQUENCE, /* its own length: a mean over sequences of means over tokens */
    PLUMB_AGGREGATE_SUM,      /* nothing: a mean over prompts of sums over tokens */
};
enum plumb_reward_norm { PLUMB_NORM_ZSCORE, PLUMB_NORM_SIGMOID, PLUMB_NORM_NONE };
/* How tau, the threshold of reward margins, changes over the iterations. */
enum plumb_threshold_kind {
    PLUMB_THRESHOLD_DECAY,      /* tau, then alpha tau, alpha^2 tau ... once per iteration */
    PLUMB_THRESHOLD_QUANTILE,   /* the q-quantile of this iteration's margins */
    PLUMB_THRESHOLD_MEAN_DECAY, /* alpha^i (mean + mean_k std of the margins) in iteration i >= 0 */
    PLUMB_THRESHOLD_NONE,       /* tau is always 0 */
};
/* Treatment of a prompt whose best plain completion beats its best principled one by more than tau.
 */
enum plumb_reverse {
    PLUMB_REVERSE_WEIGHTED, /* it takes the weighted branch */
    PLUMB_REVERSE_SWAP,     /* it becomes a pair: the plain completion wins */
};

/* The YAML names of each enum's values, in their order; the last element is NULL. */
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

/* param.h - every choice the alignment methods leave open, one struct, with names and defaults.
 * Layer 1. Includes base/ only. Field names are the YAML keys under `method:`. */
#ifndef PLUMB_ALIGN_PARAM_H
#define PLUMB_ALIGN_PARAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum plumb_rank_loss {
    PLUMB_RANK_HINGE,      /* max(0, s_l/n_l - s_w/n_w) */
    PLUMB_RANK_LOGISTIC,   /* -log sigma(beta (s_w/n_w - s_l/n_l)) */
    PLUMB_RANK_HINGE_PROB, /* max(0, exp(s_l/n_l) - exp(s_w/n_w)) */
    PLUMB_RANK_DPO,        /* -log sigma(beta (d_w - d_l)); needs the reference */
    PLUMB_RANK_NONE,       /* no prompt takes the ranking branch */
};
enum plumb_weighted_loss {
    PLUMB_WEIGHTED_SOFTMAX,         /* over the scored completions of the prompt, by reward */
    PLUMB_WEIGHTED_PRINCIPLED_ONLY, /* the principled completions, equally */
    PLUMB_WEIGHTED_NONE,            /* prompts outside the ranking branch are skipped */
};
enum plumb_reward_norm { PLUMB_NORM_ZSCORE, PLUMB_NORM_SIGMOID, PLUMB_NORM_NONE };
enum plumb_threshold_kind {
    PLUMB_THRESHOLD_DECAY,      /* tau, then alpha tau, alpha^2 tau ... once per iteration */
    PLUMB_THRESHOLD_QUANTILE,   /* the q-quantile of this iteration's margins */
    PLUMB_THRESHOLD_MEAN_DECAY, /* alpha^i (mean + mean_k std of the margins), i = 0, 1 ... */
    PLUMB_THRESHOLD_NONE,       /* 0, always */
};
enum plumb_reverse {
    PLUMB_REVERSE_WEIGHTED, /* plain better than principled by more than tau: as a near tie */
    PLUMB_REVERSE_SWAP,     /* rank the plain one over the principled one */
};

/* The YAML values, indexed by the enums above, NULL at the end. */
extern const char *const plumb_rank_loss_names[];
extern const char *const plumb_weighted_loss_names[];
extern const char *const plumb_reward_norm_names[];
extern const char *const plumb_threshold_names[];
extern const char *const plumb_reverse_names[];

struct plumb_align_param {
    double tau;   /* 0.2; threshold of the first iteration, in units of the normalised reward */
    double alpha; /* 0.9; decay per iteration, (0, 1] */
    enum plumb_rank_loss rank_loss;
    enum plumb_weighted_loss weighted_loss;
    double weight_temperature; /* 1; > 0; of the softmax over normalised rewards */
    enum plumb_reward_norm reward_norm;
    enum plumb_threshold_kind threshold;
    double quantile_start, quantile_end; /* 0.5, 0.5; in [0, 1], linear from the first iteration
                                          * to the last */
    double mean_k;                       /* 0; standard deviations above the mean */
    enum plumb_reverse reverse;
    double beta;             /* 0.1; > 0; scale of the implicit reward */
    double label_smoothing;  /* 0; in [0, 0.5): doubt in every pair's label (dpo) */
    bool length_normalize;   /* true; psle, sft, rrhf and pro use s/n instead of s */
    double lambda;           /* 1; > 0; vcb: log-ratio per standard deviation of reward */
    double reference_weight; /* 1; in [0, 1]; vcb: of the reference's log-prob, 0 = none needed */
    double list_temperature; /* 2; > 0; lire: of the policy's shares */
    double sft_weight;       /* 1; >= 0; rrhf and pro: imitation of the best completion */
    double curriculum_temperature; /* 10; > 0; psle_curriculum: of the pairs below the threshold */
    double noise_share;            /* 0.1; in [0, 1]; spa: of the pairs with the smallest margins */
    int64_t noise_window;          /* 200; >= 1; spa: pairs among which */
    double noise_start; /* 0.2; in [0, 1]; spa: share of the steps before any label is doubted */
    double noise_smoothing; /* 0.1; in [0, 0.5]; spa: the doubt */
    double decoupling;      /* 0.5; >= 0; spa: how far the logits that judge go beyond the policy's,
                             * away from the reference's */
    double weight_beta;     /* 1; > 0; optune: a pair counts sigma(weight_beta margin) */
    double optimism;        /* 0.001; >= 0; selm: weight of the reference's greedy answer */
    double margin_beta;     /* 0.1; >= 0; dlma: of the margin that a pair is to have */
    double margin_limit;    /* 40; >= 0; dlma: largest such margin, before margin_beta */
    double rho;             /* -0.5; in (-0.69, 0); aps: price of a pair's temperature */
};

struct plumb_align_param plumb_align_param_default(void);

/* PLUMB_ERR_CONFIG naming the field and its allowed range. */
plumb_status plumb_align_param_check(const struct plumb_align_param *p);

#endif

/* objective.h - the one interface of every alignment loss.
 * Layer 1. Includes base/ only: an objective is a pure function of a few scalars per sequence. It
 * touches no tensor, device, file or rank and keeps nothing between calls. */
#ifndef PLUMB_ALIGN_OBJECTIVE_H
#define PLUMB_ALIGN_OBJECTIVE_H

#include "align/param.h"

/* One comparison; both sequences are in the same call. */
struct plumb_pair {
    int64_t win, lose; /* sequence indices */
    double smooth;     /* in [0, 0.5]: how far this label is doubted, on top of label_smoothing */
    double weight;     /* factor of this pair's term; 1 normally */
};

/* What an objective may read. Borrowed for the call. n sequences with k pairs among them. */
struct plumb_obj_in {
    int64_t n, k;
    const double *logp; /* (n,) sum over completion tokens of log pi, nats; if PLUMB_NEED_LOGP */
    const double *logp_ref;        /* (n,) same, frozen reference; if PLUMB_NEED_REF */
    const double *score;           /* (n,) reward-model output; if PLUMB_NEED_SCORE */
    const int32_t *len;            /* (n,) completion tokens, > 0; if PLUMB_NEED_LEN */
    const double *reward;          /* (n,) normalised; if PLUMB_NEED_REWARD or _GROUP */
    const double *weight;          /* (n,) share of a weighted term, >= 0; NULL = all 0 */
    const struct plumb_pair *pair; /* (k,) */
    int64_t groups;                /* prompts whose completions are here together; */
    const int64_t *group;          /* (groups + 1,) first sequence of each; if PLUMB_NEED_GROUP */
    double scale;                  /* 1 / (terms over ALL ranks): makes the loss a mean */
};

/* What it writes. Metrics are plain sums over the pairs of this call; the caller divides by the
 * global number of pairs. */
struct plumb_obj_out {
    double loss; /* = share of the mean loss; the sum over micro-batches is the loss */
    double
        *dlogp; /* (n,) = d loss / d logp; every element is written; NULL without PLUMB_NEED_LOGP */
    double *dscore;                  /* (n,) = d loss / d score; NULL without PLUMB_NEED_SCORE */
    double rank_loss, weighted_loss; /* unscaled sums of the terms by kind */
    double chosen, rejected;         /* sums of (implicit) reward of win and lose */
    double margin;                   /* sum of their difference */
    int64_t accurate;                /* pairs with a positive one */
};

enum {
    PLUMB_NEED_LOGP = 1u << 0,
    PLUMB_NEED_REF = 1u << 1,
    PLUMB_NEED_SCORE = 1u << 2,
    PLUMB_NEED_LEN = 1u << 3,
    PLUMB_NEED_REWARD = 1u << 4,
    PLUMB_NEED_GROUP = 1u << 5, /* and reward: the loss is one of whole groups */
    /* Shared parameters that the objective reads; its own ones are in align/param_list.h. */
    PLUMB_READ_BETA = 1u << 8,
    PLUMB_READ_SMOOTHING = 1u << 9, /* label_smoothing */
    PLUMB_READ_LENGTH = 1u << 10,   /* length_normalize */
};

struct plumb_objective {
    const char *name;
    const char *paper;
    /* PLUMB_NEED_* and PLUMB_READ_* of this objective with these parameters. */
    unsigned (*needs)(const struct plumb_align_param *p);
    /* Checked by plumb_objective_eval, which callers use instead. */
    plumb_status (*eval)(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                         const struct plumb_align_param *p);
};

extern const struct plumb_objective plumb_obj_psle;   /* rank_loss on pairs, weights on the rest */
extern const struct plumb_objective plumb_obj_sft;    /* sum of weight_i * -(s_i or s_i/n_i) */
extern const struct plumb_objective plumb_obj_dpo;    /* arXiv:2305.18290 */
extern const struct plumb_objective plumb_obj_ipo;    /* arXiv:2310.12036 */
extern const struct plumb_objective plumb_obj_reward; /* -log sigma(r_w - r_l), on score */
extern const struct plumb_objective plumb_obj_rdo;    /* arXiv:2408.09385 */
extern const struct plumb_objective plumb_obj_aps;    /* arXiv:2406.02764 */
extern const struct plumb_objective plumb_obj_vcb;    /* arXiv:2402.16030 */
extern const struct plumb_objective plumb_obj_rrhf;   /* arXiv:2304.05302 */
extern const struct plumb_objective plumb_obj_lire;   /* arXiv:2405.13516 */
extern const struct plumb_objective plumb_obj_selm;   /* arXiv:2405.19332 */
extern const struct plumb_objective plumb_obj_dlma;   /* arXiv:2402.11907 */
extern const struct plumb_objective plumb_obj_pro;    /* arXiv:2306.17492 */

/* Checks the inputs (non-finite value: PLUMB_ERR_NUMERIC with the sequence index; missing array,
 * bad index or length: PLUMB_ERR_ARG), clears the outputs, evaluates. */
plumb_status plumb_objective_eval(const struct plumb_objective *o, struct plumb_obj_out *out,
                                  const struct plumb_obj_in *in, const struct plumb_align_param *p);

const struct plumb_objective *plumb_objective_find(const char *name); /* NULL: unknown */
const struct plumb_objective *plumb_objective_at(int i);              /* NULL past the end */

#endif

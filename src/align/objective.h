/* objective.h - the interface of the alignment losses.
 * Layer 1. Includes base/ only: an objective is a pure function of a few scalars per sequence (a
 * completion after its prompt). It uses no tensor, device, file or communication, and keeps no
 * state between calls. */
#ifndef PLUMB_ALIGN_OBJECTIVE_H
#define PLUMB_ALIGN_OBJECTIVE_H

#include "align/param.h"

/* One preference pair: two sequences of the same struct plumb_obj_in. */
struct plumb_pair {
    int64_t win, lose; /* indices of the preferred sequence and of the other one */
    double smooth;     /* label smoothing of this pair, in [0, 0.5]; the method's label_smoothing is
                        * added to it */
    double weight;     /* factor of this pair's loss term; 1 by default */
};

/* Inputs of an objective: n sequences and k pairs of them. The arrays are borrowed for the call.
 * "If PLUMB_NEED_X": the array is read only if the objective's `needs` has this flag. */
struct plumb_obj_in {
    int64_t n, k;
    const double *logp; /* (n,) sum over completion tokens of log pi, nats; if PLUMB_NEED_LOGP */
    const double *logp_ref;        /* (n,) the same sum under the reference; if PLUMB_NEED_REF */
    const double *score;           /* (n,) reward-model output; if PLUMB_NEED_SCORE */
    const int32_t *len;            /* (n,) number of completion tokens, > 0; if PLUMB_NEED_LEN */
    const double *reward;          /* (n,) reward after reward_norm; if PLUMB_NEED_REWARD or _GROUP
                                    */
    const double *weight;          /* (n,) weight of the term that sequence i has by itself, outside
                                    * pairs; >= 0; NULL: all 0 */
    const struct plumb_pair *pair; /* (k,) */
    int64_t groups;                /* number of groups; a group is the sequences of one prompt */
    const int64_t *group;          /* (groups + 1,) first sequence of each group, then n; if
                                    * PLUMB_NEED_GROUP */
    double scale;    /* 1 / loss denominator of the global batch; equal on every rank */
    double mean_len; /* mean number of completion tokens of all sequences with a weight in the
                      * global batch, weighted, over all ranks (plumb_imitated_mean); > 0; if
                      * PLUMB_READ_AGGREGATION */
};

/* Outputs of an objective. The metrics are sums over the pairs (or groups) of this call; the caller
 * divides by their number over all ranks. */
struct plumb_obj_out {
    double loss; /* this call's part of the loss; the sum over all micro-batches and ranks is the
                  * loss of the step */
    /* (n,) = d loss / d logp; every element is written. NULL is allowed without PLUMB_NEED_LOGP */
    double *dlogp;
    double *dscore; /* (n,) = d loss / d score; NULL is allowed without PLUMB_NEED_SCORE */
    /* rank_loss: sum of the terms of pairs, each times its pair's weight, or of groups.
     * weighted_loss: sum of the terms of single sequences, each times its weight. Neither is
     * multiplied by plumb_obj_in.scale. */
    double rank_loss, weighted_loss;
    double chosen, rejected; /* sums over this call's pairs (or groups) of the reward of win and
                              * lose (or best and worst). The reward is score if a reward model is
                              * trained, else beta (logp - logp_ref), or without a reference logp,
                              * which is divided by len if the loss does so */
    double margin;           /* sum of chosen - rejected */
    int64_t accurate;        /* number of pairs with chosen > rejected */
};

/* Flags that plumb_objective.needs returns: which arrays of struct plumb_obj_in and which
 * parameters the objective reads. */
enum {
    PLUMB_NEED_LOGP = 1u << 0,
    PLUMB_NEED_REF = 1u << 1,
    PLUMB_NEED_SCORE = 1u << 2,
    PLUMB_NEED_LEN = 1u << 3,
    PLUMB_NEED_REWARD = 1u << 4,
    PLUMB_NEED_GROUP =
        1u << 5, /* group and reward: the loss has one term per prompt, over all its completions */
    /* Flags for parameters that several objectives read. For every other parameter, the last column
     * of param_list.h says which methods read it. */
    PLUMB_READ_BETA = 1u << 8,
    PLUMB_READ_SMOOTHING = 1u << 9,    /* the objective reads label_smoothing */
    PLUMB_READ_LENGTH = 1u << 10,      /* the objective reads length_normalize */
    PLUMB_READ_AGGREGATION = 1u << 11, /* the objective reads loss_aggregation */
};

struct plumb_objective {
    const char *name;
    const char *paper;
    /* Returns the PLUMB_NEED_* and PLUMB_READ_* flags of the objective with these parameters. */
    unsigned (*needs)(const struct plumb_align_param *p);
    /* Evaluates the objective without checking its inputs. Callers use plumb_objective_eval
     * instead. */
    plumb_status (*eval)(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                         const struct plumb_align_param *p);
};

extern const struct plumb_objective plumb_obj_psle;   /* terms of pairs, by rank_loss, plus weighted
                                                       * -logp terms */
extern const struct plumb_objective plumb_obj_sft;    /* weighted -logp of completions */
extern const struct plumb_objective plumb_obj_dpo;    /* arXiv:2305.18290 */
extern const struct plumb_objective plumb_obj_ipo;    /* arXiv:2310.12036 */
extern const struct plumb_objective plumb_obj_reward; /* -log sigma(score_w - score_l) for a pair
                                                       * (w, l) */
extern const struct plumb_objective plumb_obj_rdo;    /* arXiv:2408.09385 */
extern const struct plumb_objective plumb_obj_aps;    /* arXiv:2406.02764 */
extern const struct plumb_objective plumb_obj_vcb;    /* arXiv:2402.16030 */
extern const struct plumb_objective plumb_obj_rrhf;   /* arXiv:2304.05302 */
extern const struct plumb_objective plumb_obj_lire;   /* arXiv:2405.13516 */
extern const struct plumb_objective plumb_obj_selm;   /* arXiv:2405.19332 */
extern const struct plumb_objective plumb_obj_dlma;   /* arXiv:2402.11907 */
extern const struct plumb_objective plumb_obj_pro;    /* arXiv:2306.17492 */

/* Checks the inputs, sets all outputs to 0 and evaluates the objective. Errors: PLUMB_ERR_NUMERIC,
 * with the sequence index, if a value is not finite; PLUMB_ERR_ARG if an array is missing, or an
 * index or length is out of range. */
plumb_status plumb_objective_eval(const struct plumb_objective *o, struct plumb_obj_out *out,
                                  const struct plumb_obj_in *in, const struct plumb_align_param *p);

/* Returns the objective of that name, or NULL if there is none. */
const struct plumb_objective *plumb_objective_find(const char *name);
/* Returns objective i (from 0) of the table of all objectives, or NULL if there is none. */
const struct plumb_objective *plumb_objective_at(int i);

#endif

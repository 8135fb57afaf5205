/* micro.h - one micro-batch: its sequences, and the computation of its loss and gradient.
 * Layer 5. Includes align/, model/, train/pack.h.
 *
 * Training and `plumb replay` both use this code, so a replayed micro-batch gives the same bits.
 * The order of calls is clear, add, forward, loss, backward. */
#ifndef PLUMB_TRAIN_MICRO_H
#define PLUMB_TRAIN_MICRO_H

#include "align/objective.h"
#include "train/pack.h"

enum plumb_micro_kind {
    PLUMB_MICRO_TOKENS, /* SFT: loss = -scale * sum of all trained tokens' log-probs */
    PLUMB_MICRO_LOGP,   /* loss = objective of the log-prob sum of every sequence */
    PLUMB_MICRO_SCORE,  /* loss = objective of the reward model's score of every sequence */
    PLUMB_MICRO_KINDS
};
extern const char *const plumb_micro_names[]; /* "tokens", "logp", "score"; NULL at the end */

struct plumb_micro {
    enum plumb_micro_kind kind;
    const struct plumb_objective *objective; /* NULL for PLUMB_MICRO_TOKENS */
    struct plumb_align_param param;
    bool reference; /* true if the objective reads logp_ref */
    /* (max_tokens,) entropy and mean logit at each completion token, in the order of pack.logp;
     * NULL without plumb_micro_want_entropy */
    float *entropy, *mean_logit;

    /* inputs of the micro-batch */
    /* 1 / loss denominator of the global batch: its number of loss terms, or of trained tokens
     * (PLUMB_MICRO_TOKENS) */
    double scale;
    double mean_len; /* mean tokens of the global batch's imitated sequences, see objective.h; 1 if
                      * there are none */
    struct plumb_pack pack;
    int64_t *record; /* (max_seq,) data record of each sequence, from 0 */
    int32_t *sample; /* (max_seq,) index in the prompt's group; chosen 0, rejected 1 */
    int32_t *len;    /* (max_seq,) completion tokens */
    double *logp_ref, *weight, *reward; /* (max_seq,) inputs of the objective */
    int64_t *group;                     /* (max_seq + 1,) first sequence of each prompt */
    int64_t groups;                     /* number of prompts */
    struct plumb_pair *pair;            /* (max_seq,) */
    int64_t pairs;                      /* number of pairs */

    /* results of the micro-batch */
    double *logp, *dlogp;   /* (max_seq,) log-prob sums of the completions; d loss / d logp */
    double *score, *dscore; /* (max_seq,) scores; d loss / d score */
    float *score_f32;       /* (max_seq,) scores as the forward pass gives them; plumb_micro_loss
                             * replaces them by dscore, which the backward pass reads */
    struct plumb_obj_out out;
};

/* Sets kind and allocates the arrays of *m; the caller sets objective, param, reference and scale.
 * PLUMB_ERR_NOMEM. */
plumb_status plumb_micro_init(struct plumb_micro *m, enum plumb_micro_kind kind, int64_t max_tokens,
                              int64_t max_seq);
/* Allocates entropy and mean_logit, which plumb_micro_forward then also fills. The pass must have
 * been created with limit.entropy. PLUMB_ERR_NOMEM. */
plumb_status plumb_micro_want_entropy(struct plumb_micro *m);
void plumb_micro_fini(struct plumb_micro *m);
void plumb_micro_clear(struct plumb_micro *m);
/* Appends a sequence; its weight and reward are 0 and its logp_ref NaN until the caller sets them
 * at index pack.n_seq - 1. Errors: those of plumb_pack_add. */
plumb_status plumb_micro_add(struct plumb_micro *m, int64_t record, int32_t sample,
                             const int32_t *prompt, int64_t n_prompt, const int32_t *completion,
                             int64_t n_completion);

/* Ends a group: the sequences added since the last call of this function belong to one prompt. Does
 * nothing if no sequence was added. */
void plumb_micro_end_group(struct plumb_micro *m);

/* Computes pack.logp and logp, or score. The log-probs of a sequence are added in token order, in
 * double. This function does not fail on values that are not finite. */
plumb_status plumb_micro_forward(struct plumb_micro *m, plumb_pass *pass, const plumb_model *model);
/* Sets logp[q] to the sum of the log-probs pack.logp of the completion tokens of sequence q.
 * plumb_micro_forward calls it. */
void plumb_micro_sum(struct plumb_micro *m);
/* Fails with PLUMB_ERR_NUMERIC if a result of the forward pass is not finite, and names record,
 * sample and token of the first one. */
plumb_status plumb_micro_check(const struct plumb_micro *m);
/* Computes out.loss and its derivatives from the results of plumb_micro_forward:
 *     PLUMB_MICRO_TOKENS   pack.dlogp
 *     PLUMB_MICRO_LOGP     dlogp, and from it pack.dlogp
 *     PLUMB_MICRO_SCORE    dscore, and from it score_f32
 * Errors: those of plumb_objective_eval; PLUMB_ERR_NUMERIC if the loss is not finite. */
plumb_status plumb_micro_loss(struct plumb_micro *m);
/* Adds the gradient of out.loss to grad (count,) device. */
plumb_status plumb_micro_backward(struct plumb_micro *m, plumb_pass *pass, const plumb_model *model,
                                  float *grad);

/* Reads "STEP:MICRO_BATCH", the value of train.replay. If text is "", sets *step and *micro_batch
 * to -1. PLUMB_ERR_CONFIG. */
plumb_status plumb_micro_parse(int64_t *step, int64_t *micro_batch, const char *text);
/* Writes "record 4 samples 0 1, record 9 sample 2"; a text that does not fit into size bytes is cut
 * and ends in dots. */
void plumb_micro_describe(char *out, int64_t size, const struct plumb_micro *m);

#endif

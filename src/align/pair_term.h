/* pair_term.h - loss terms of pairs and imitated sequences, shared by the objectives.
 * Layer 1. Includes align/ and base/. For src/align/obj_*.c and group_term.c only. */
#ifndef PLUMB_ALIGN_PAIR_TERM_H
#define PLUMB_ALIGN_PAIR_TERM_H

#include "align/objective.h"

/* The loss of one pair and its derivatives d loss / d win and d loss / d lose, by the two compared
 * values (log-probs, log-ratios or scores). */
struct plumb_pair_term {
    double loss, dwin, dlose;
};

/* Returns the logistic loss of a pair, with e = smooth (label smoothing, cDPO):
 *     -(1-e) log sigma(h) - e log sigma(-h),  h = beta (win - lose)
 * Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7. */
struct plumb_pair_term plumb_pair_logistic(double win, double lose, double beta, double smooth);

/* Adds the term of pair k, times its weight and in->scale, to out->loss and its derivatives to grad
 * (n,): out->dlogp or out->dscore. Adds the (implicit) rewards `chosen` and `rejected` to the
 * metrics. Returns PLUMB_ERR_NUMERIC if the term is not finite. */
plumb_status plumb_pair_add(struct plumb_obj_out *out, double *grad, const struct plumb_obj_in *in,
                            int64_t k, const struct plumb_pair_term *term, double chosen,
                            double rejected);

/* Returns the number a_i by which the imitation term -weight_i s_i / a_i of sequence i is divided:
 *
 *     token      in->mean_len, the same for all sequences of the global batch
 *     sequence   the sequence's own completion tokens
 *     sum        1
 *
 * Why it matters: for completions that the policy itself sampled, E[grad s_i] = 0. With a common
 * a, equal weights have an expected gradient of 0 (up to the correlation of mean_len with one of
 * its own terms, which falls as 1 / sequences). With a_i = n_i, the tokens of the completion, the
 * expected gradient is that of E[-1 / n], so the loss shortens the answers. Source: ours; Liu et
 * al. 2025, arXiv:2503.20783, show the same for policy gradients. */
static inline double plumb_imitation_length(const struct plumb_obj_in *in, int64_t i,
                                            const struct plumb_align_param *p)
{
    switch (p->loss_aggregation) {
    case PLUMB_AGGREGATE_SEQUENCE:
        return (double)in->len[i];
    case PLUMB_AGGREGATE_SUM:
        return 1.0;
    case PLUMB_AGGREGATE_TOKEN:
        break;
    }
    return in->mean_len;
}

/* Adds the imitation terms of all sequences: loss -= scale sum_i weight_i s_i / a_i, see obj_sft.c.
 */
plumb_status plumb_weighted_add(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                                const struct plumb_align_param *p);

#endif

/* pair_term.h - loss terms that several objectives share: of a pair, and of an imitated sequence,
 * which is one with a weighted -logp term.
 * Layer 1. Includes align/ and base/. For src/align/obj_*.c and group_term.c only. */
#ifndef PLUMB_ALIGN_PAIR_TERM_H
#define PLUMB_ALIGN_PAIR_TERM_H

#include "align/objective.h"

/* The loss of one pair, and its derivatives by the two values that the loss compares: dwin by the
 * value of the preferred sequence, dlose by the value of the other. The values are log-probs,
 * log-ratios or scores. */
struct plumb_pair_term {
    double loss, dwin, dlose;
};

/* Returns the logistic loss of a pair and its derivatives. win and lose: the compared values; e =
 * smooth (label smoothing, as in cDPO):
 *     -(1-e) log sigma(h) - e log sigma(-h),  h = beta (win - lose)
 * Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7. */
struct plumb_pair_term plumb_pair_logistic(double win, double lose, double beta, double smooth);

/* Adds in->scale * weight of pair k * term->loss to out->loss, and the derivatives, with the same
 * factor, to grad (n,), which is out->dlogp or out->dscore. Adds `chosen` and `rejected`, the
 * explicit or implicit rewards of the two sequences, to the metrics. Returns PLUMB_ERR_NUMERIC if
 * the term is not finite. */
plumb_status plumb_pair_add(struct plumb_obj_out *out, double *grad, const struct plumb_obj_in *in,
                            int64_t k, const struct plumb_pair_term *term, double chosen,
                            double rejected);

/* Returns a_i, the divisor of the imitation term -weight_i s_i / a_i of sequence i (s_i: log-prob
 * sum of the completion), by p->loss_aggregation:
 *
 *     token      in->mean_len, the same for all sequences of the global batch
 *     sequence   the sequence's own completion tokens
 *     sum        1
 *
 * Why it matters: for completions that the policy itself sampled, E[grad s_i] = 0. With the same a
 * for all sequences, the loss with equal weights therefore has the expected gradient 0 (except for
 * the correlation of mean_len with each sequence's length, which falls as 1 / number of sequences).
 * With a_i = n_i, the number of completion tokens, the expected gradient is that of E[-1 / n], so
 * the loss makes completions shorter. Source: ours; Liu et al. 2025, arXiv:2503.20783, show the
 * same for policy gradients. */
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

/* Adds the imitation terms of all sequences to *out: loss -= scale sum_i weight_i s_i / a_i
 * (obj_sft.c), and the derivatives to out->dlogp. */
plumb_status plumb_weighted_add(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                                const struct plumb_align_param *p);

#endif

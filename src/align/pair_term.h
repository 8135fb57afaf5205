/* pair_term.h - one term's loss and its derivatives: what the objectives share.
 * Layer 1. Includes align/ and base/. For src/align/obj_*.c only. */
#ifndef PLUMB_ALIGN_PAIR_TERM_H
#define PLUMB_ALIGN_PAIR_TERM_H

#include "align/objective.h"

/* d(loss)/d(win) and d(loss)/d(lose) with respect to the two values compared. */
struct plumb_pair_term {
    double loss, dwin, dlose;
};

/* -(1-e) log sigma(h) - e log sigma(-h),  h = beta (win - lose)
 * Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7; e: label smoothing, cDPO. */
struct plumb_pair_term plumb_pair_logistic(double win, double lose, double beta, double smooth);

/* Adds a term with d = its derivative by logp of both sides, and the metrics of the pair:
 * implicit rewards `chosen` and `rejected`. PLUMB_ERR_NUMERIC when the term is not finite. */
plumb_status plumb_pair_add(struct plumb_obj_out *out, double *grad, const struct plumb_obj_in *in,
                            int64_t k, const struct plumb_pair_term *term, double chosen,
                            double rejected);

/* The weighted terms of all sequences: loss += scale sum_i weight_i (-x_i), see obj_sft.c. */
plumb_status plumb_weighted_add(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                                const struct plumb_align_param *p);

#endif

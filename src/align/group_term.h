/* group_term.h - functions that the objectives over all completions of a prompt share.
 * Layer 1. Includes align/ and base/. For src/align/obj_*.c and group_term.c only. */
#ifndef PLUMB_ALIGN_GROUP_TERM_H
#define PLUMB_ALIGN_GROUP_TERM_H

#include "align/objective.h"

/* The sequences [begin, end) of one prompt; at least two. */
struct plumb_group {
    int64_t begin, end;
};

typedef plumb_status plumb_group_fn(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                                    struct plumb_group g, const struct plumb_align_param *p);
/* Calls fn for every group of *in, in order. */
plumb_status plumb_groups_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                               const struct plumb_align_param *p, plumb_group_fn *fn);

/* Adds scale * loss of a group to out->loss, loss to out->rank_loss, and the group to the metrics.
 * The metrics compare the completion with the highest reward (chosen) with that of the lowest
 * (rejected): by beta * log-ratio if there is a reference, else by logp, divided by the length if
 * in->len is set. Returns PLUMB_ERR_NUMERIC if the loss is not finite. */
plumb_status plumb_group_add(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                             struct plumb_group g, double loss, const struct plumb_align_param *p);

/* Returns the sequence with the highest reward in the group; of equal rewards the first. */
int64_t plumb_group_best(const struct plumb_obj_in *in, struct plumb_group g);
/* Returns the population standard deviation of the group's rewards. */
double plumb_group_reward_std(const struct plumb_obj_in *in, struct plumb_group g);

/* Returns the number of completion tokens of sequence i with length_normalize, else 1. */
static inline double plumb_group_length(const struct plumb_obj_in *in, int64_t i,
                                        const struct plumb_align_param *p)
{
    return p->length_normalize ? (double)in->len[i] : 1.0;
}
/* Returns x_i = logp_i / plumb_group_length of sequence i. */
static inline double plumb_group_x(const struct plumb_obj_in *in, int64_t i,
                                   const struct plumb_align_param *p)
{
    return in->logp[i] / plumb_group_length(in, i, p);
}

/* Returns the loss -sft_weight s_i / a_i of sequence i and adds in->scale times its derivative to
 * out->dlogp. s_i: log-prob sum of the completion; a_i: plumb_imitation_length. */
double plumb_group_imitate(struct plumb_obj_out *out, const struct plumb_obj_in *in, int64_t i,
                           const struct plumb_align_param *p);

#endif

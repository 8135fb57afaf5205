/* group_term.h - functions that the objectives over all completions of a prompt (a group) share.
 * Layer 1. Includes align/ and base/. For src/align/obj_*.c and group_term.c only. */
#ifndef PLUMB_ALIGN_GROUP_TERM_H
#define PLUMB_ALIGN_GROUP_TERM_H

#include "align/objective.h"

/* A group: the sequences [begin, end) of struct plumb_obj_in, which are at least two completions of
 * one prompt. */
struct plumb_group {
    int64_t begin, end;
};

typedef plumb_status plumb_group_fn(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                                    struct plumb_group g, const struct plumb_align_param *p);
/* Calls fn for every group of *in in ascending order. Stops at the first failure and returns it. */
plumb_status plumb_groups_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                               const struct plumb_align_param *p, plumb_group_fn *fn);

/* Adds in->scale * loss of a group to out->loss, loss to out->rank_loss, and the group to the
 * metrics. The metrics compare the completion with the highest reward (chosen) with the one with
 * the lowest reward (rejected). The compared value is beta * (logp - logp_ref) if in->logp_ref is
 * not NULL; else logp / len, or logp if in->len is NULL. Returns PLUMB_ERR_NUMERIC if the loss is
 * not finite. */
plumb_status plumb_group_add(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                             struct plumb_group g, double loss, const struct plumb_align_param *p);

/* Returns the index of the sequence with the highest reward in the group; among equal rewards the
 * lowest index. */
int64_t plumb_group_best(const struct plumb_obj_in *in, struct plumb_group g);
/* Returns the population standard deviation of the group's rewards. */
double plumb_group_reward_std(const struct plumb_obj_in *in, struct plumb_group g);

/* Returns the number of completion tokens of sequence i, or 1 if p->length_normalize is false. */
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

/* Returns the imitation loss -sft_weight s_i / a_i of sequence i and adds in->scale times its
 * derivative by s_i to out->dlogp[i]. s_i: log-prob sum of the completion (in->logp[i]); a_i:
 * plumb_imitation_length. */
double plumb_group_imitate(struct plumb_obj_out *out, const struct plumb_obj_in *in, int64_t i,
                           const struct plumb_align_param *p);

#endif

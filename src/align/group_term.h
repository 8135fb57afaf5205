/* group_term.h - what the objectives over all completions of a prompt share.
 * Layer 1. Includes align/ and base/. For src/align/obj_*.c and group_term.c only. */
#ifndef PLUMB_ALIGN_GROUP_TERM_H
#define PLUMB_ALIGN_GROUP_TERM_H

#include "align/objective.h"

/* The sequences of one prompt; at least two. */
struct plumb_group {
    int64_t begin, end;
};

typedef plumb_status plumb_group_fn(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                                    struct plumb_group g, const struct plumb_align_param *p);
/* Runs fn on every group of the call, in order. */
plumb_status plumb_groups_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                               const struct plumb_align_param *p, plumb_group_fn *fn);

/* Adds a group's loss (unscaled) and its metrics: best against worst by reward, compared by
 * log-ratio where there is a reference, by plumb_group_x otherwise. PLUMB_ERR_NUMERIC when the
 * loss is not finite. */
plumb_status plumb_group_add(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                             struct plumb_group g, double loss, const struct plumb_align_param *p);

/* Index of the highest reward (ties: the first), population standard deviation of the rewards. */
int64_t plumb_group_best(const struct plumb_obj_in *in, struct plumb_group g);
double plumb_group_reward_std(const struct plumb_obj_in *in, struct plumb_group g);

/* n_i, or 1 without length_normalize; s_i over that. */
static inline double plumb_group_length(const struct plumb_obj_in *in, int64_t i,
                                        const struct plumb_align_param *p)
{
    return p->length_normalize ? (double)in->len[i] : 1.0;
}
static inline double plumb_group_x(const struct plumb_obj_in *in, int64_t i,
                                   const struct plumb_align_param *p)
{
    return in->logp[i] / plumb_group_length(in, i, p);
}

/* Adds the derivative of -sft_weight x_i and returns that loss. */
double plumb_group_imitate(struct plumb_obj_out *out, const struct plumb_obj_in *in, int64_t i,
                           const struct plumb_align_param *p);

#endif

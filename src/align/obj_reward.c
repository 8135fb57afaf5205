/* obj_reward.c - the loss for training a reward model on preference pairs.
 * Layer 1. Includes align/ and base/ only.
 *
 * Ouyang et al. 2022, arXiv:2203.02155, eq. 1 (Bradley-Terry), for each pair of a preferred
 * completion w and another one l. r: the reward model's score of a completion:
 *
 *     L = -log sigma(r_w - r_l)    (with the label smoothing plumb_pair.smooth as in obj_dpo.c) */
#include "align/pair_term.h"

static unsigned reward_needs(const struct plumb_align_param *p)
{
    (void)p;
    return PLUMB_NEED_SCORE;
}

static plumb_status reward_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                                const struct plumb_align_param *p)
{
    (void)p;
    for (int64_t k = 0; k < in->k; k++) {
        const double rw = in->score[in->pair[k].win], rl = in->score[in->pair[k].lose];
        const struct plumb_pair_term t = plumb_pair_logistic(rw, rl, 1.0, in->pair[k].smooth);
        PLUMB_TRY(plumb_pair_add(out, out->dscore, in, k, &t, rw, rl));
    }
    return PLUMB_OK;
}

const struct plumb_objective plumb_obj_reward = {"reward", "arXiv:2203.02155, eq. 1", reward_needs,
                                                 reward_eval};

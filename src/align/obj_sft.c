/* obj_sft.c - weighted negative log-likelihood.
 * Layer 1. Includes align/ and base/ only.
 *
 *     L = -scale sum_i weight_i s_i / a_i
 *
 * s_i: log-prob sum of completion i; n_i: its number of tokens; a_i: plumb_imitation_length. If the
 * global batch has P prompts, the weights of each prompt add up to 1, and scale = 1 / P, then
 * loss_aggregation=token gives the mean over tokens of plain SFT: L = - sum weight_i s_i / sum
 * weight_i n_i, where the sums run over the global batch of all ranks. */
#include "align/pair_term.h"

static unsigned sft_needs(const struct plumb_align_param *p)
{
    return PLUMB_NEED_LOGP | PLUMB_READ_AGGREGATION |
           (p->loss_aggregation == PLUMB_AGGREGATE_SEQUENCE ? PLUMB_NEED_LEN : 0u);
}

const struct plumb_objective plumb_obj_sft = {"sft", "arXiv:2203.02155, section 3.5", sft_needs,
                                              plumb_weighted_add};

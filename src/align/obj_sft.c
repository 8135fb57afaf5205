/* obj_sft.c - weighted negative log-likelihood.
 * Layer 1. Includes align/ and base/ only.
 *
 *     L = scale sum_i weight_i (-x_i),   x_i = s_i / n_i, or s_i without length_normalize
 *
 * s_i: log-prob sum of completion i, n_i: its tokens. The token mean of plain SFT is the case
 * weight 1, no length_normalize, scale = 1 / tokens of the global batch on all ranks. */
#include "align/pair_term.h"

static unsigned sft_needs(const struct plumb_align_param *p)
{
    return PLUMB_NEED_LOGP | PLUMB_READ_LENGTH | (p->length_normalize ? PLUMB_NEED_LEN : 0u);
}

const struct plumb_objective plumb_obj_sft = {"sft", "arXiv:2203.02155, section 3.5", sft_needs,
                                              plumb_weighted_add};

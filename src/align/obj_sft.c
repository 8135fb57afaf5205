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

plumb_status plumb_weighted_add(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                                const struct plumb_align_param *p)
{
    for (int64_t i = 0; in->weight && i < in->n; i++) {
        if (in->weight[i] == 0)
            continue;
        const double share = in->weight[i] / (p->length_normalize ? (double)in->len[i] : 1.0);
        out->dlogp[i] -= in->scale * share;
        out->loss -= in->scale * share * in->logp[i];
        out->weighted_loss -= share * in->logp[i];
    }
    return PLUMB_OK;
}

const struct plumb_objective plumb_obj_sft = {"sft", "arXiv:2203.02155, section 3.5", sft_needs,
                                              plumb_weighted_add};

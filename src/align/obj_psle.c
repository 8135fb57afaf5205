/* obj_psle.c - Progressively Selective Label Enhancement: a loss of pairs plus a weighted negative
 * log-likelihood.
 * Layer 1. Includes align/ and base/ only.
 *
 * Source: PSLE, arXiv:2408.02599, has these two kinds of terms. The paper does not give their exact
 * form; these forms are ours. s and s_ref: log-prob sum of a completion under the policy and under
 * the reference, n: its number of tokens, x_i = s_i / n_i, or x_i = s_i if length_normalize is
 * false; a_i: plumb_imitation_length. w: preferred completion of a pair, l: the other one.
 * method.rank_loss names the form of the pair term:
 *
 *     pair (w,l)   hinge       max(0, x_l - x_w)
 *                  logistic    -log sigma(beta (x_w - x_l))
 *                  hinge_prob  max(0, exp(x_l) - exp(x_w))
 *                  dpo         arXiv:2305.18290, on s - s_ref, never length-normalised
 *     sequence i   -weight_i s_i / a_i
 *
 * Label smoothing (formula in obj_dpo.c) is plumb_pair.smooth for logistic, and plumb_pair.smooth +
 * label_smoothing for dpo. */
#include <math.h>

#include "align/pair_term.h"

static unsigned psle_needs(const struct plumb_align_param *p)
{
    const bool dpo = p->rank_loss == PLUMB_RANK_DPO, logistic = p->rank_loss == PLUMB_RANK_LOGISTIC;
    const bool divides = !dpo && p->rank_loss != PLUMB_RANK_NONE;
    const bool imitates = p->weighted_loss != PLUMB_WEIGHTED_NONE;
    return PLUMB_NEED_LOGP | PLUMB_NEED_LEN | (dpo ? PLUMB_NEED_REF | PLUMB_READ_SMOOTHING : 0u) |
           (dpo || logistic ? PLUMB_READ_BETA : 0u) | (divides ? PLUMB_READ_LENGTH : 0u) |
           (imitates ? PLUMB_READ_AGGREGATION : 0u);
}

static struct plumb_pair_term rank_term(double win, double lose, const struct plumb_align_param *p,
                                        double smooth)
{
    switch (p->rank_loss) {
    case PLUMB_RANK_HINGE:
        return lose > win ? (struct plumb_pair_term){lose - win, -1.0, 1.0}
                          : (struct plumb_pair_term){0};
    case PLUMB_RANK_HINGE_PROB:
        return lose > win ? (struct plumb_pair_term){exp(lose) - exp(win), -exp(win), exp(lose)}
                          : (struct plumb_pair_term){0};
    case PLUMB_RANK_LOGISTIC:
    case PLUMB_RANK_DPO:
        return plumb_pair_logistic(win, lose, p->beta, smooth);
    case PLUMB_RANK_NONE:
        break;
    }
    return (struct plumb_pair_term){0};
}

static plumb_status psle_eval(struct plumb_obj_out *out, const struct plumb_obj_in *in,
                              const struct plumb_align_param *p)
{
    const bool dpo = p->rank_loss == PLUMB_RANK_DPO;
    PLUMB_REQUIRE(in->k == 0 || p->rank_loss != PLUMB_RANK_NONE, PLUMB_ERR_ARG,
                  "objective psle: %lld pairs, but rank_loss is none", (long long)in->k);
    for (int64_t k = 0; k < in->k; k++) {
        const int64_t w = in->pair[k].win, l = in->pair[k].lose;
        const bool divide = p->length_normalize && !dpo;
        const double nw = divide ? (double)in->len[w] : 1.0, nl = divide ? (double)in->len[l] : 1.0;
        const double xw = (in->logp[w] - (dpo ? in->logp_ref[w] : 0.0)) / nw;
        const double xl = (in->logp[l] - (dpo ? in->logp_ref[l] : 0.0)) / nl;
        struct plumb_pair_term t =
            rank_term(xw, xl, p, in->pair[k].smooth + (dpo ? p->label_smoothing : 0.0));
        t.dwin /= nw, t.dlose /= nl;
        const double unit = dpo ? p->beta : 1.0;
        PLUMB_TRY(plumb_pair_add(out, out->dlogp, in, k, &t, unit * xw, unit * xl));
    }
    return plumb_weighted_add(out, in, p);
}

const struct plumb_objective plumb_obj_psle = {"psle", "arXiv:2408.02599", psle_needs, psle_eval};

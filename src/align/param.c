/* param.c - names, defaults and ranges of the method parameters.
 * Layer 1. Includes align/ and base/ only. */
#include "align/param.h"

#include <math.h>
#include <stddef.h>

const char *const plumb_rank_loss_names[] = {[PLUMB_RANK_HINGE] = "hinge",
                                             [PLUMB_RANK_LOGISTIC] = "logistic",
                                             [PLUMB_RANK_HINGE_PROB] = "hinge_prob",
                                             [PLUMB_RANK_DPO] = "dpo",
                                             [PLUMB_RANK_NONE] = "none",
                                             NULL};
const char *const plumb_weighted_loss_names[] = {[PLUMB_WEIGHTED_SOFTMAX] = "softmax",
                                                 [PLUMB_WEIGHTED_PRINCIPLED_ONLY] =
                                                     "principled_only",
                                                 [PLUMB_WEIGHTED_NONE] = "none",
                                                 NULL};
const char *const plumb_reward_norm_names[] = {[PLUMB_NORM_ZSCORE] = "zscore",
                                               [PLUMB_NORM_SIGMOID] = "sigmoid",
                                               [PLUMB_NORM_NONE] = "none",
                                               NULL};
const char *const plumb_threshold_names[] = {[PLUMB_THRESHOLD_DECAY] = "decay",
                                             [PLUMB_THRESHOLD_QUANTILE] = "quantile",
                                             [PLUMB_THRESHOLD_MEAN_DECAY] = "mean_decay",
                                             [PLUMB_THRESHOLD_NONE] = "none",
                                             NULL};
const char *const plumb_reverse_names[] = {
    [PLUMB_REVERSE_WEIGHTED] = "weighted", [PLUMB_REVERSE_SWAP] = "swap", NULL};

struct plumb_align_param plumb_align_param_default(void)
{
    return (struct plumb_align_param){
        .tau = 0.2,
        .alpha = 0.9,
        .rank_loss = PLUMB_RANK_HINGE,
        .weighted_loss = PLUMB_WEIGHTED_SOFTMAX,
        .weight_temperature = 1.0,
        .reward_norm = PLUMB_NORM_ZSCORE,
        .threshold = PLUMB_THRESHOLD_DECAY,
        .quantile_start = 0.5,
        .quantile_end = 0.5,
        .mean_k = 0.0,
        .reverse = PLUMB_REVERSE_WEIGHTED,
        .beta = 0.1,
        .label_smoothing = 0.0,
        .length_normalize = true,
        .lambda = 1.0,
        .reference_weight = 1.0,
        .list_temperature = 2.0,
        .sft_weight = 1.0,
        .curriculum_temperature = 10.0,
        .noise_share = 0.1,
        .noise_window = 200,
        .noise_start = 0.2,
        .noise_smoothing = 0.1,
        .decoupling = 0.5,
        .weight_beta = 1.0,
        .optimism = 0.001,
        .margin_beta = 0.1,
        .margin_limit = 40.0,
        .rho = -0.5,
    };
}

plumb_status plumb_align_param_check(const struct plumb_align_param *p)
{
#define RANGE(ok, field, want)                                                                     \
    PLUMB_REQUIRE(isfinite(p->field) && (ok), PLUMB_ERR_CONFIG,                                    \
                  "method." #field " = %g, expected " want, p->field)
    RANGE(p->tau >= 0, tau, ">= 0");
    RANGE(p->alpha > 0 && p->alpha <= 1, alpha, "a number in (0, 1]");
    RANGE(p->weight_temperature > 0, weight_temperature, "> 0");
    RANGE(p->quantile_start >= 0 && p->quantile_start <= 1, quantile_start, "a number in [0, 1]");
    RANGE(p->quantile_end >= 0 && p->quantile_end <= 1, quantile_end, "a number in [0, 1]");
    RANGE(1, mean_k, "a number");
    RANGE(p->beta > 0, beta, "> 0");
    RANGE(p->label_smoothing >= 0 && p->label_smoothing < 0.5, label_smoothing,
          "a number in [0, 0.5)");
    RANGE(p->lambda > 0, lambda, "> 0");
    RANGE(p->reference_weight >= 0 && p->reference_weight <= 1, reference_weight,
          "a number in [0, 1]");
    RANGE(p->list_temperature > 0, list_temperature, "> 0");
    RANGE(p->sft_weight >= 0, sft_weight, ">= 0");
    RANGE(p->curriculum_temperature > 0, curriculum_temperature, "> 0");
    RANGE(p->noise_share >= 0 && p->noise_share <= 1, noise_share, "a number in [0, 1]");
    PLUMB_REQUIRE(p->noise_window >= 1, PLUMB_ERR_CONFIG,
                  "method.noise_window = %lld, expected >= 1", (long long)p->noise_window);
    RANGE(p->noise_start >= 0 && p->noise_start <= 1, noise_start, "a number in [0, 1]");
    RANGE(p->noise_smoothing >= 0 && p->noise_smoothing <= 0.5, noise_smoothing,
          "a number in [0, 0.5]");
    RANGE(p->decoupling >= 0, decoupling, ">= 0");
    RANGE(p->weight_beta > 0, weight_beta, "> 0");
    RANGE(p->optimism >= 0, optimism, ">= 0");
    RANGE(p->margin_beta >= 0, margin_beta, ">= 0");
    RANGE(p->margin_limit >= 0, margin_limit, ">= 0");
    RANGE(p->rho > -0.69 && p->rho < 0, rho, "a number in (-0.69, 0)");
#undef RANGE
    PLUMB_REQUIRE(p->rank_loss != PLUMB_RANK_NONE || p->weighted_loss != PLUMB_WEIGHTED_NONE,
                  PLUMB_ERR_CONFIG,
                  "method.rank_loss and method.weighted_loss are both none: nothing would be "
                  "trained");
    return PLUMB_OK;
}

/* method_param.c - a configuration's method and its parameters.
 * Layer 5. Includes train/loops.h, align/. */
#include "train/loops.h"

static struct plumb_align_param param_of(const struct plumb_config *cfg)
{
    return (struct plumb_align_param){
        .tau = cfg->method.tau,
        .alpha = cfg->method.alpha,
        .rank_loss = (enum plumb_rank_loss)cfg->method.rank_loss,
        .weighted_loss = (enum plumb_weighted_loss)cfg->method.weighted_loss,
        .weight_temperature = cfg->method.weight_temperature,
        .reward_norm = (enum plumb_reward_norm)cfg->method.reward_norm,
        .threshold = (enum plumb_threshold_kind)cfg->method.threshold,
        .quantile_start = cfg->method.quantile_start,
        .quantile_end = cfg->method.quantile_end,
        .mean_k = cfg->method.mean_k,
        .reverse = (enum plumb_reverse)cfg->method.reverse,
        .beta = cfg->method.beta,
        .label_smoothing = cfg->method.label_smoothing,
        .length_normalize = cfg->method.length_normalize,
        .lambda = cfg->method.lambda,
        .reference_weight = cfg->method.reference_weight,
        .list_temperature = cfg->method.list_temperature,
        .sft_weight = cfg->method.sft_weight,
        .curriculum_temperature = cfg->method.curriculum_temperature,
        .noise_share = cfg->method.noise_share,
        .noise_window = cfg->method.noise_window,
        .noise_start = cfg->method.noise_start,
        .noise_smoothing = cfg->method.noise_smoothing,
        .decoupling = cfg->method.decoupling,
        .weight_beta = cfg->method.weight_beta,
        .optimism = cfg->method.optimism,
        .margin_beta = cfg->method.margin_beta,
        .margin_limit = cfg->method.margin_limit,
        .rho = cfg->method.rho,
    };
}

plumb_status plumb_method_of(const struct plumb_method **method, struct plumb_align_param *param,
                             const struct plumb_config *cfg)
{
    PLUMB_TRY(plumb_method_find(method, cfg->method.name));
    *param = param_of(cfg);
    if ((*method)->fix)
        (*method)->fix(param);
    return PLUMB_OK;
}

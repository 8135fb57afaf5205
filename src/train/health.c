/* health.c - warns if a metric of a run is beyond its limit, and says what to try.
 * Layer 5. Includes train/health.h, base/. */
#include "train/health.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "base/num.h"

plumb_status plumb_health_say(const struct plumb_config *cfg, const char *option, const char *text)
{
    PLUMB_REQUIRE(cfg->health.action == PLUMB_HEALTH_WARN, PLUMB_ERR_NUMERIC,
                  "health.%s: %s; the run ends, as health.action is stop: resume=auto continues "
                  "from the last checkpoint",
                  option, text);
    plumb_log_alike("health.%s: %s", option, text);
    return PLUMB_OK;
}

/* Calls plumb_health_say with the text of fmt if the metric is beyond its limit now (`beyond`), but
 * was not at the last check. */
static plumb_status check(struct plumb_health *h, const struct plumb_config *cfg,
                          enum plumb_health_limit limit, const char *option, bool beyond,
                          const char *fmt, ...) __attribute__((format(printf, 6, 7)));

static plumb_status check(struct plumb_health *h, const struct plumb_config *cfg,
                          enum plumb_health_limit limit, const char *option, bool beyond,
                          const char *fmt, ...)
{
    const bool fresh = beyond && !h->beyond[limit];
    char text[700];
    va_list ap;
    h->beyond[limit] = beyond;
    if (!fresh)
        return PLUMB_OK;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return plumb_health_say(cfg, option, text);
}

plumb_status plumb_health_loss(struct plumb_health *h, const struct plumb_config *cfg, int64_t step,
                               double loss)
{
    const double limit = cfg->health.max_loss_jump;
    const int64_t n = plumb_min_i64(h->count, PLUMB_HEALTH_WINDOW);
    struct plumb_moments m = {0};
    for (int64_t i = 0; i < n; i++)
        plumb_moments_add(&m, h->loss[i]);
    h->loss[h->count++ % PLUMB_HEALTH_WINDOW] = loss;
    if (limit == 0 || n < PLUMB_HEALTH_LEAST)
        return PLUMB_OK;
    /* The lower bound of std is for losses that hardly differ: a loss counts as a jump only if it
     * is more than 1 % of the mean above the mean. */
    const double std = fmax(sqrt(plumb_moments_var(&m)), 0.01 * fabs(m.mean) / limit);
    return check(h, cfg, PLUMB_HEALTH_LOSS, "max_loss_jump", loss > m.mean + limit * std,
                 "step %lld: the loss is %.4g; the %lld steps before it have a mean of %.4g and a "
                 "standard deviation of %.2g (limit: %g standard deviations above the mean, at "
                 "least 1 %% of it); usually a learning rate that is too high, or a record unlike "
                 "the others: try a lower train.learning_rate, train.warmup_ratio, or train.replay "
                 "to look at the step",
                 (long long)step, loss, (long long)n, m.mean, sqrt(plumb_moments_var(&m)), limit);
}

static double value_of(const struct plumb_metrics_row *row, enum plumb_metric id)
{
    return row->set[id] ? row->value[id] : NAN; /* no comparison with NaN is true */
}

plumb_status plumb_health_rollouts(struct plumb_health *h, const struct plumb_config *cfg,
                                   int64_t iteration, const struct plumb_metrics_row *row)
{
    const long long it = (long long)iteration;
    const double length = value_of(row, PLUMB_METRIC_COMPLETION_LENGTH);
    const double kl = value_of(row, PLUMB_METRIC_KL) / length;
    const double entropy = value_of(row, PLUMB_METRIC_ENTROPY);
    const double clipped = value_of(row, PLUMB_METRIC_CLIPPED_RATIO);
    const double duplicates = value_of(row, PLUMB_METRIC_DUPLICATE_RATIO);
    PLUMB_TRY(check(h, cfg, PLUMB_HEALTH_KL, "max_kl",
                    cfg->health.max_kl > 0 && kl > cfg->health.max_kl,
                    "iteration %lld: the policy is %.3g nats per token from the start (limit %g); "
                    "usually it exploits the reward: read its answers, then try fewer iterations, "
                    "a lower train.learning_rate, or a method with a reference (dpo, vcb)",
                    it, kl, cfg->health.max_kl));
    PLUMB_TRY(check(h, cfg, PLUMB_HEALTH_ENTROPY, "min_entropy",
                    cfg->generate.temperature > 0 && entropy < cfg->health.min_entropy,
                    "iteration %lld: the sampled answers have an entropy of %.3g nats per token "
                    "(limit %g): the policy hardly varies any more; try a lower "
                    "train.learning_rate, fewer iterations, or a higher generate.temperature",
                    it, entropy, cfg->health.min_entropy));
    PLUMB_TRY(check(h, cfg, PLUMB_HEALTH_CLIPPED, "max_clipped",
                    cfg->health.max_clipped < 1 && clipped > cfg->health.max_clipped,
                    "iteration %lld: %.0f %% of the answers are cut at generate.max_new_tokens "
                    "(limit %.0f %%): rewards see unfinished answers, and the end token is hardly "
                    "trained; try a higher generate.max_new_tokens, or check that the model has "
                    "learned its end token",
                    it, 100 * clipped, 100 * cfg->health.max_clipped));
    return check(h, cfg, PLUMB_HEALTH_DUPLICATES, "max_duplicates",
                 cfg->health.max_duplicates < 1 && duplicates > cfg->health.max_duplicates,
                 "iteration %lld: %.0f %% of the answers repeat another answer to their prompt "
                 "(limit %.0f %%), so there is little to compare; try a higher "
                 "generate.temperature, a higher top_p or top_k, or prompts that leave more open",
                 it, 100 * duplicates, 100 * cfg->health.max_duplicates);
}

/* best_metric.c - the metrics by which the best checkpoint may be selected.
 * Layer 5. Includes train/best_metric.h, base/. */
#include "train/best_metric.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

/* The values of checkpoint.best_metric. The default of a command is the first row with this command
 * in `commands`; if data.eval is not set, rows whose name begins with "eval_" are skipped. */
static const struct plumb_best_metric best_table[] = {
    {"eval_reward", "align", PLUMB_METRIC_EVAL_REWARD, false},
    {"eval_loss", "sft reward prefer", PLUMB_METRIC_EVAL_LOSS, true},
    {"eval_rewards/accuracies", "reward prefer", PLUMB_METRIC_EVAL_ACCURACIES, false},
    {"eval_rewards/margins", "reward prefer", PLUMB_METRIC_EVAL_MARGINS, false},
    {"reward", "align", PLUMB_METRIC_REWARD, false},
    {"psle/reward_plain", "align", PLUMB_METRIC_REWARD_PLAIN, false},
    {"psle/reward_principled", "align", PLUMB_METRIC_REWARD_PRINCIPLED, false},
    {"loss", "align sft reward prefer", PLUMB_METRIC_LOSS, true},
    {"rewards/accuracies", "reward prefer", PLUMB_METRIC_REWARDS_ACCURACIES, false},
    {"rewards/margins", "reward prefer", PLUMB_METRIC_REWARDS_MARGINS, false},
};
enum { BEST_METRICS = sizeof(best_table) / sizeof(best_table[0]) };

static bool is_held_out(const struct plumb_best_metric *m)
{
    return strncmp(m->name, "eval_", 5) == 0;
}

const struct plumb_best_metric *plumb_best_metric_of(const struct plumb_config *cfg,
                                                     const char *command)
{
    const char *name = cfg->checkpoint.best_metric;
    for (int i = 0; i < BEST_METRICS; i++)
        if (strstr(best_table[i].commands, command) &&
            (*name ? !strcmp(best_table[i].name, name)
                   : *cfg->data.eval || !is_held_out(&best_table[i])))
            return &best_table[i];
    return NULL;
}

/* Checks that the run measures the metric `best`. With checkpoint.keep_best, the run must measure
 * this metric at the step of every checkpoint, because the metric decides which checkpoints are
 * kept. */
static plumb_status check_steps(const struct plumb_config *cfg,
                                const struct plumb_best_metric *best)
{
    const int64_t every = cfg->checkpoint.every, eval = cfg->train.eval_every;
    PLUMB_REQUIRE(!is_held_out(best) || *cfg->data.eval, PLUMB_ERR_CONFIG,
                  "checkpoint.best_metric: %s needs data.eval, which is not set", best->name);
    if (cfg->checkpoint.keep_best > 0 && every == 0 && !is_held_out(best))
        plumb_log_once(PLUMB_LOG_WARN,
                       "checkpoint.keep_best: with checkpoint.every: 0 there is one checkpoint, at "
                       "the end, which is then the best; to choose among several set "
                       "checkpoint.every, or data.eval and train.eval_every");
    PLUMB_REQUIRE(cfg->checkpoint.keep_best == 0 || every == 0 || !is_held_out(best) ||
                      (eval > 0 && every % eval == 0),
                  PLUMB_ERR_CONFIG,
                  "checkpoint.keep_best: %s must be measured at every checkpoint, but "
                  "checkpoint.every is %lld and train.eval_every is %lld; expected a "
                  "train.eval_every above 0 that divides checkpoint.every, or checkpoint.every: 0",
                  best->name, (long long)every, (long long)eval);
    return PLUMB_OK;
}

plumb_status plumb_best_metric_check(const struct plumb_config *cfg, const char *command)
{
    char names[256] = "";
    size_t at = 0;
    PLUMB_REQUIRE(cfg->train.eval_every == 0 || *cfg->data.eval, PLUMB_ERR_CONFIG,
                  "train.eval_every: data.eval is not set; name the file of held-out records");
    if (plumb_best_metric_of(cfg, command))
        return check_steps(cfg, plumb_best_metric_of(cfg, command));
    for (int i = 0; i < BEST_METRICS; i++)
        if (strstr(best_table[i].commands, command))
            at += (size_t)snprintf(names + at, sizeof(names) - at, "%s%s", at ? ", " : "",
                                   best_table[i].name);
    PLUMB_FAIL(PLUMB_ERR_CONFIG,
               "checkpoint.best_metric: found '%s', expected one of the metrics of %s: %s",
               cfg->checkpoint.best_metric, command, names);
}

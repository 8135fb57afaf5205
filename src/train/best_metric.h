/* best_metric.h - the metric that selects the best checkpoint (checkpoint.best_metric).
 * Layer 5. Includes base/, config/, report/metrics.h. */
#ifndef PLUMB_TRAIN_BEST_METRIC_H
#define PLUMB_TRAIN_BEST_METRIC_H

#include <stdbool.h>

#include "base/status.h"
#include "config/config.h"
#include "report/metrics.h"

struct plumb_best_metric {
    const char *name;     /* as in metrics.jsonl */
    const char *commands; /* the commands that have it, separated by blanks */
    enum plumb_metric metric;
    bool least; /* a lower value is better */
};

/* Returns the metric that checkpoint.best_metric names. If the option is not set, returns the first
 * one that the command has: a figure of data.eval if that is set. NULL: the command has no metric
 * of that name. */
const struct plumb_best_metric *plumb_best_metric_of(const struct plumb_config *cfg,
                                                     const char *command);

/* Checks checkpoint.best_metric, checkpoint.keep_best and train.eval_every against each other: the
 * metric must be known at every checkpoint that is compared. Errors: PLUMB_ERR_CONFIG names the
 * option and what was expected. Not collective; the same on every rank. */
plumb_status plumb_best_metric_check(const struct plumb_config *cfg, const char *command);

#endif

/* best_metric.h - the metric that selects the best checkpoint (checkpoint.best_metric).
 * Layer 5. Includes base/, config/, report/metrics.h. */
#ifndef PLUMB_TRAIN_BEST_METRIC_H
#define PLUMB_TRAIN_BEST_METRIC_H

#include <stdbool.h>

#include "base/status.h"
#include "config/config.h"
#include "report/metrics.h"

struct plumb_best_metric {
    const char *name;     /* name of the metric in metrics.jsonl */
    const char *commands; /* names of the commands with this metric, separated by blanks */
    enum plumb_metric metric;
    bool least; /* true if a lower value is better */
};

/* Returns the metric that checkpoint.best_metric names, or NULL if the command has no metric of
 * that name. If the option is not set, returns the command's default: a metric of data.eval if
 * data.eval is set, else a metric of the training data. */
const struct plumb_best_metric *plumb_best_metric_of(const struct plumb_config *cfg,
                                                     const char *command);

/* Checks checkpoint.best_metric, checkpoint.keep_best, checkpoint.every, train.eval_every and
 * data.eval against each other: the command must have the metric, and with keep_best the run must
 * measure the metric at every checkpoint. Errors: PLUMB_ERR_CONFIG names the option and what was
 * expected. Not collective; the result is the same on every rank. */
plumb_status plumb_best_metric_check(const struct plumb_config *cfg, const char *command);

#endif

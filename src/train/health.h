/* health.h - compares metrics of a run with the limits of the options health.*.
 * Layer 5. Includes config/, report/.
 *
 * A metric beyond its limit causes a warning, or with health.action=stop an error. The warning is
 * logged once, and again only after the metric was back within its limit. All inputs are equal on
 * all ranks, so the results are equal, too. No function is collective. */
#ifndef PLUMB_TRAIN_HEALTH_H
#define PLUMB_TRAIN_HEALTH_H

#include "config/config.h"
#include "report/metrics.h"

enum plumb_health_limit {
    PLUMB_HEALTH_KL,
    PLUMB_HEALTH_ENTROPY,
    PLUMB_HEALTH_CLIPPED,
    PLUMB_HEALTH_DUPLICATES,
    PLUMB_HEALTH_LOSS,
    PLUMB_HEALTH_LIMITS
};

enum { PLUMB_HEALTH_WINDOW = 32, PLUMB_HEALTH_LEAST = 16 };

/* The latest losses, and which metrics are beyond their limits. Initialise the struct with zeros.
 * Checkpoints do not contain it, so a resumed run starts without earlier losses. */
struct plumb_health {
    bool beyond[PLUMB_HEALTH_LIMITS]; /* the metric was beyond its limit when last checked */
    double loss[PLUMB_HEALTH_WINDOW]; /* ring buffer: loss i of this process is at [i % WINDOW] */
    int64_t count;                    /* number of losses that this process has added */
};

/* Adds the loss of a step. If there are at least PLUMB_HEALTH_LEAST earlier losses, compares the
 * loss with up to PLUMB_HEALTH_WINDOW of them, the latest. If the loss is beyond
 * health.max_loss_jump, logs a warning, or fails with PLUMB_ERR_NUMERIC if health.action=stop. */
plumb_status plumb_health_loss(struct plumb_health *h, const struct plumb_config *cfg, int64_t step,
                               double loss);
/* Compares the rollout metrics of an iteration (counted from 1) with their limits: kl per token,
 * entropy (only if generate.temperature > 0), completions/clipped_ratio and
 * completions/duplicate_ratio. A metric that is not set in row is not compared. If a metric is
 * beyond its limit, fails with PLUMB_ERR_NUMERIC if health.action=stop, else logs a warning. */
plumb_status plumb_health_rollouts(struct plumb_health *h, const struct plumb_config *cfg,
                                   int64_t iteration, const struct plumb_metrics_row *row);
/* Logs the warning `text` on rank 0, or returns it as PLUMB_ERR_NUMERIC with health.action=stop.
 * option: the name of the limit, without "health.". */
plumb_status plumb_health_say(const struct plumb_config *cfg, const char *option, const char *text);

#endif

/* monitor.h - writes the metrics of a run to the outputs that the option report.to names:
 * TensorBoard, Prometheus, MLPerf.
 * Layer 4. Includes base/, config/, report/metrics.h.
 *
 * Rank 0 writes to them after each line of metrics.jsonl. If a write fails after the start, for
 * example on a full disk, the run continues, and a warning is logged once for each output. */
#ifndef PLUMB_REPORT_MONITOR_H
#define PLUMB_REPORT_MONITOR_H

#include "config/config.h"
#include "report/metrics.h"

typedef struct plumb_monitor plumb_monitor;

struct plumb_monitor_start {
    const struct plumb_config *cfg; /* borrowed until the monitor is closed */
    const char *command;            /* borrowed */
    int world_size;
    /* what a resumed run has already done; otherwise 0 */
    int64_t steps_done, iterations_done;
    /* planned_iterations: 0 if the run has no iterations */
    int64_t planned_steps, planned_iterations;
    /* largest number of micro-batches of a step, on all ranks together */
    int64_t most_micro_batches;
    /* length of the model's longest sequence, in tokens */
    int64_t max_tokens;
    double began; /* plumb_now() at the start of the program */
};

/* Checks report.to and report.prometheus_file. PLUMB_ERR_CONFIG names an unknown output. */
plumb_status plumb_monitor_check(const struct plumb_config *cfg);
/* Opens the outputs; call it on rank 0 after plumb_metrics_open has shortened metrics.jsonl. *out
 * is NULL if report.to names none. Errors of the outputs: PLUMB_ERR_IO, PLUMB_ERR_NOMEM. */
plumb_status plumb_monitor_open(plumb_monitor **out, const struct plumb_monitor_start *start);
/* Writes one line of metrics. m may be NULL. */
void plumb_monitor_write(plumb_monitor *m, const struct plumb_metrics_row *row);
/* Closes the outputs. success: true if the run has reached its end. Does nothing if *m is NULL. */
void plumb_monitor_close(plumb_monitor **m, bool success);

#endif

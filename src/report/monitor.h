/* monitor.h - the outputs of a run's metrics that report.to names: TensorBoard, Prometheus, MLPerf.
 * Layer 4. Includes base/, config/, report/metrics.h.
 *
 * Rank 0 writes them after each line of metrics.jsonl. If writing fails after the start, for
 * example on a full disk, a warning is logged once for each output, and the run goes on: a monitor
 * must not end it. */
#ifndef PLUMB_REPORT_MONITOR_H
#define PLUMB_REPORT_MONITOR_H

#include "config/config.h"
#include "report/metrics.h"

typedef struct plumb_monitor plumb_monitor;

struct plumb_monitor_start {
    const struct plumb_config *cfg; /* borrowed until the monitor is closed */
    const char *command;            /* borrowed */
    int world_size;
    int64_t steps_done, iterations_done;       /* of a resumed run; otherwise 0 */
    int64_t planned_steps, planned_iterations; /* planned_iterations: 0 if it has none */
    int64_t most_micro_batches;                /* of a step, on all ranks together */
    int64_t max_tokens;                        /* longest sequence of the model */
    double began;                              /* plumb_now() at the start of the program */
};

/* Checks report.to and report.prometheus_file. PLUMB_ERR_CONFIG names an unknown output. */
plumb_status plumb_monitor_check(const struct plumb_config *cfg);
/* Opens the outputs; call it on rank 0 after plumb_metrics_open has shortened metrics.jsonl. *out
 * is NULL if report.to names none. Errors of the outputs: PLUMB_ERR_IO, PLUMB_ERR_NOMEM. */
plumb_status plumb_monitor_open(plumb_monitor **out, const struct plumb_monitor_start *start);
/* Writes one line of metrics. m may be NULL. */
void plumb_monitor_write(plumb_monitor *m, const struct plumb_metrics_row *row);
/* Ends the outputs. success: the run has reached its end. Does nothing if *m is NULL. */
void plumb_monitor_close(plumb_monitor **m, bool success);

#endif

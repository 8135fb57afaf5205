/* prometheus.h - writes the newest metrics of a run as a Prometheus text file.
 * Layer 4. Includes base/, report/metrics.h.
 *
 * The textfile collector of node_exporter reads such files. Every metric is a gauge "plumb_NAME",
 * where NAME is the name in metrics.jsonl with '_' for '/', followed by _seconds, _bytes or _nats
 * if the metric has this unit. The file also has plumb_step, plumb_planned_steps, plumb_iteration,
 * plumb_planned_iterations, plumb_ranks, plumb_running (1 while the run goes on, 0 after its end)
 * and plumb_last_update_timestamp_seconds, the time of the last write. A killed run cannot write
 * plumb_running 0. An alert rule finds such a run by the time of the last write:
 *     plumb_running == 1 and time() - plumb_last_update_timestamp_seconds > 3600
 * where 3600 must be longer than the longest time between two lines of metrics, in seconds. Each
 * gauge has the labels command (the plumb command) and run (the path of output_dir). A metric that
 * is not a finite number is written as NaN, +Inf or -Inf. */
#ifndef PLUMB_REPORT_PROMETHEUS_H
#define PLUMB_REPORT_PROMETHEUS_H

#include "report/metrics.h"

struct plumb_prometheus {
    const char *path;                          /* path of the file */
    const char *command, *run;                 /* values of the labels */
    int64_t planned_steps, planned_iterations; /* left out if 0 */
    int world_size;
};

/* Appends the text. row: the newest line of metrics; running: false after the end of the run;
 * wall_s: seconds since 1970. PLUMB_ERR_NOMEM. */
plumb_status plumb_prometheus_put(struct plumb_buf *out, const struct plumb_prometheus *p,
                                  const struct plumb_metrics_row *row, bool running, double wall_s);
/* Replaces the file atomically, so that a reader never sees a part of it. PLUMB_ERR_IO. */
plumb_status plumb_prometheus_write(const struct plumb_prometheus *p,
                                    const struct plumb_metrics_row *row, bool running,
                                    double wall_s);

#endif

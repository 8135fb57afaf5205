/* tensorboard.h - writes the metrics of a run as TensorBoard events.
 * Layer 4. Includes base/, report/metrics.h.
 *
 * DIR/tensorboard/ holds one file "events.out.tfevents.SECONDS.HOST". Its first record states the
 * version of the format; each other record is an Event with the time, the step and the metrics of
 * one line of metrics.jsonl as scalars with the same names. When a run is resumed, events of lines
 * that were removed from metrics.jsonl are removed, and missing events are added, so both files
 * always have the same steps. */
#ifndef PLUMB_REPORT_TENSORBOARD_H
#define PLUMB_REPORT_TENSORBOARD_H

#include "report/metrics.h"

typedef struct plumb_tensorboard plumb_tensorboard;

/* Append to out the record with the version, or the record of one line of metrics. wall_s: time of
 * the event, in seconds since 1970. PLUMB_ERR_NOMEM. */
plumb_status plumb_tensorboard_put_version(struct plumb_buf *out, double wall_s);
plumb_status plumb_tensorboard_put(struct plumb_buf *out, double wall_s,
                                   const struct plumb_metrics_row *row);

/* Opens or creates the file for a run whose metrics.jsonl has the lines row (n,). A damaged file
 * causes only a warning: its missing events are written again. Not collective; rank 0 calls it.
 * Errors: PLUMB_ERR_IO, PLUMB_ERR_NOMEM. */
plumb_status plumb_tensorboard_open(plumb_tensorboard **out, const char *dir,
                                    const struct plumb_metrics_row *row, int64_t n);
/* Appends the event of one line of metrics and flushes the file. Returns PLUMB_ERR_IO. */
plumb_status plumb_tensorboard_write(plumb_tensorboard *t, double wall_s,
                                     const struct plumb_metrics_row *row);
void plumb_tensorboard_close(plumb_tensorboard **t); /* does nothing if *t is NULL */

#endif

/* forest.h - draws a forest plot as inline SVG: one row per label, with its mean and interval.
 * Layer 4. Includes base/. */
#ifndef PLUMB_REPORT_FOREST_H
#define PLUMB_REPORT_FOREST_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

struct plumb_forest_row {
    const char *label;
    double mean, lo, hi; /* mean and interval, if finite; lo = hi: no interval */
    const double *value; /* (n,) the single values, drawn as small rings; NULL if there are none */
    int64_t n;
};

struct plumb_forest {
    const char *title, *x_label;        /* x_label includes the unit */
    const struct plumb_forest_row *row; /* (n_rows,) from top to bottom */
    int64_t n_rows;
    double start; /* the value before training, drawn as a dashed line; NaN draws no line */
    double most;  /* a linear axis ends here at most, rounded up to the next tick; INFINITY: no
                   * limit */
};

/* Appends one <figure> to out. The axis covers `start`, the means and the single values that are
 * finite. It is logarithmic if all of these are positive and the largest is more than 100 times the
 * smallest; then it ends at powers of ten around them. Else it is linear and is extended for the
 * intervals (lo, hi), see plumb_axis_reach. Intervals are cut off at the ends of the axis. */
plumb_status plumb_forest_svg(struct plumb_buf *out, const struct plumb_forest *forest);

#endif

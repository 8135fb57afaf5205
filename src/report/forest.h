/* forest.h - a forest plot as inline SVG: one line per name, a mean and its interval on each.
 * Layer 4. Includes base/. */
#ifndef PLUMB_REPORT_FOREST_H
#define PLUMB_REPORT_FOREST_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

struct plumb_forest_row {
    const char *label;
    double mean, lo, hi; /* not finite: not drawn; lo = hi: no interval */
    const double *value; /* (n,) what the mean is of, as small rings; NULL: none */
    int64_t n;
};

struct plumb_forest {
    const char *title, *x_label;        /* x_label with units */
    const struct plumb_forest_row *row; /* (n_rows,) from above to below */
    int64_t n_rows;
    double start; /* a dashed line, what all began with; NaN: none */
    double most;  /* the axis ends there at the latest */
};

/* out += one <figure>. The axis is logarithmic where all values are above 0 and span more than 100.
 * Whiskers are cut at its ends, see plumb_axis_reach. */
plumb_status plumb_forest_svg(struct plumb_buf *out, const struct plumb_forest *forest);

#endif

/* plot.h - draws a line chart as inline SVG, and escapes text for HTML.
 * Layer 4. Includes base/. */
#ifndef PLUMB_REPORT_PLOT_H
#define PLUMB_REPORT_PLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#define PLUMB_PLOT_COLOURS 10 /* number of colours in the style sheet */
/* largest number of lines of a chart; from the eleventh line on, the colours repeat */
#define PLUMB_PLOT_SERIES 32

struct plumb_plot_series {
    const char *label;
    int64_t n;
    const double *x, *y;   /* (n,) x ascending; the line has a gap where y is not finite */
    const double *lo, *hi; /* (n,) edges of a band around the line; NULL for no band */
};

struct plumb_plot {
    const char *title, *note;      /* note may be NULL */
    const char *x_label, *y_label; /* labels of the axes, with units */
    struct plumb_plot_series series[PLUMB_PLOT_SERIES];
    int n_series;
    bool percent;   /* y is a share; the axis runs from 0 to 100 % */
    bool from_zero; /* true if the y axis must include 0 */
    bool log_y; /* the y axis is logarithmic if no value is negative and the largest is more than
                 * 100 times the smallest positive one; zeros are not drawn then */
    /* If it is not NULL, the plot has one small panel per series, which also shows the lines of the
     * other series in grey. All panels have the same axes. The text is an HTML id, unique on the
     * page, for the drawing that the panels share. */
    const char *panels;
};

/* Appends one <figure> to out, with title, legend, axes, ticks, lines and a tool tip on every
 * point. A series of more than PLUMB_PLOT_POINTS points is drawn as the means of equal bins,
 * without tool tips; if it has no band of its own (lo, hi), it gets one from the smallest to the
 * largest value of each bin. Bands are cut off at the ends of the y axis, see plumb_axis_reach.
 * Colours come from the classes s1 .. s10 of the page. */
#define PLUMB_PLOT_POINTS 240
plumb_status plumb_plot_svg(struct plumb_buf *out, const struct plumb_plot *plot);

/* Appends at most max_runes code points of text to out, and U+2026 if the text is longer. Escapes &
 * < > " and '. Invalid UTF-8 becomes U+FFFD. Control and direction override characters become
 * spaces, except tab and line end. */
plumb_status plumb_html_text(struct plumb_buf *out, const char *text, int64_t max_runes);

#endif

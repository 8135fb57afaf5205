/* plot.h - a line chart as inline SVG, and text made safe for HTML.
 * Layer 4. Includes base/. */
#ifndef PLUMB_REPORT_PLOT_H
#define PLUMB_REPORT_PLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#define PLUMB_PLOT_COLOURS 10 /* that the style sheet has */
#define PLUMB_PLOT_SERIES  32 /* from the eleventh on dashed */

struct plumb_plot_series {
    const char *label;
    int64_t n;
    const double *x, *y;   /* (n,) x ascending; a y that is not finite breaks the line */
    const double *lo, *hi; /* (n,) band around the line, or NULL; nothing where not finite */
};

struct plumb_plot {
    const char *title, *note;      /* note may be NULL */
    const char *x_label, *y_label; /* with units */
    struct plumb_plot_series series[PLUMB_PLOT_SERIES];
    int n_series;
    bool percent;   /* y is a share: drawn over 0..100 % */
    bool from_zero; /* the y axis includes 0 */
    bool log_y; /* logarithmic when no value is negative and those above 0 span more than 100; a 0
                 * is not drawn then */
    /* Not NULL: one small panel for each series, the lines of all others grey behind it, on the
     * same axes; the figure's own name on the page, for what the panels share. */
    const char *panels;
};

/* out += one <figure> with title, legend, axes, ticks, lines and a tool tip on every point. More
 * than PLUMB_PLOT_POINTS points are drawn as the means of equal bins inside a band from their
 * smallest to their largest value. Bands are cut at the ends of the y axis, see plumb_axis_reach.
 * Colours come from the classes s1 .. s10 of the page. */
#define PLUMB_PLOT_POINTS 240
plumb_status plumb_plot_svg(struct plumb_buf *out, const struct plumb_plot *plot);

/* out += text with & < > " ' escaped, bytes that are no UTF-8 as U+FFFD, control and direction
 * override characters as spaces (tab and line end stay), cut to max_runes code points. */
plumb_status plumb_html_text(struct plumb_buf *out, const char *text, int64_t max_runes);

#endif

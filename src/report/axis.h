/* axis.h - an axis of a chart: its range, its ticks and their labels.
 * Layer 4. Includes base/. */
#ifndef PLUMB_REPORT_AXIS_H
#define PLUMB_REPORT_AXIS_H

#include <stdbool.h>
#include <stddef.h>

#define PLUMB_AXIS_TICKS 12

struct plumb_axis {
    double lo, hi;                 /* the ends of the axis */
    bool log;                      /* true if the axis is logarithmic */
    int n;                         /* number of ticks */
    double tick[PLUMB_AXIS_TICKS]; /* (n,) ascending */
    double step; /* distance between the ticks of a linear axis; decides the decimals of labels */
};

/* Returns an axis with an empty range. */
struct plumb_axis plumb_axis_empty(void);
/* Extends the axis so that it covers x. A non-finite x is ignored. */
void plumb_axis_cover(struct plumb_axis *a, double x);
/* Extends a linear axis to the ends of the intervals in `ends`, but on each side by at most half of
 * the axis' length, so that one uncertain value does not flatten the chart. The code that draws an
 * interval cuts it off at the ends of the axis. An axis with lo = hi is extended without limit. */
void plumb_axis_reach(struct plumb_axis *a, const struct plumb_axis *ends);

/* Sets about `wanted` ticks, at most PLUMB_AXIS_TICKS, at a distance of 1, 2 or 5 times a power of
 * ten. If whole is true, ticks are integers. If grow is true, the ends of the axis move outwards to
 * ticks. An axis that covers a single value is widened. */
void plumb_axis_linear(struct plumb_axis *a, int wanted, bool whole, bool grow);
/* Sets at most six ticks at powers of ten. Needs lo > 0. The ends move outwards to powers of ten.
 */
void plumb_axis_log(struct plumb_axis *a);

/* Returns the position of x on the axis: 0 at lo, 1 at hi. An x outside of the axis is clamped. */
double plumb_axis_share(const struct plumb_axis *a, double x);
/* Writes the label of x, for example "12k", "3.5M", "40%" or "1.5e-4". The distance between ticks
 * decides the number of decimals. On a logarithmic axis the label has up to 4 significant digits
 * instead; if both ends of a linear axis are below 1e-3 in absolute value, up to 3. percent: x is a
 * share, shown as a percentage. */
void plumb_axis_text(char *out, size_t size, double x, const struct plumb_axis *a, bool percent);

#endif

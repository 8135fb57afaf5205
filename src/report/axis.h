/* axis.h - an axis of a chart: its range, its ticks and their labels.
 * Layer 4. Includes base/. */
#ifndef PLUMB_REPORT_AXIS_H
#define PLUMB_REPORT_AXIS_H

#include <stdbool.h>
#include <stddef.h>

#define PLUMB_AXIS_TICKS 12

struct plumb_axis {
    double lo, hi;
    bool log;
    int n;
    double tick[PLUMB_AXIS_TICKS]; /* (n,) ascending */
    double step;                   /* distance between ticks; decides the decimals of labels */
};

/* Returns an axis that covers nothing; cover extends it to x. A non-finite x is ignored. */
struct plumb_axis plumb_axis_empty(void);
void plumb_axis_cover(struct plumb_axis *a, double x);
/* Extends the axis to the ends of the intervals in `ends`, but on each side by at most half of its
 * length. An interval that is longer is cut off, so that one uncertain value does not flatten the
 * chart. */
void plumb_axis_reach(struct plumb_axis *a, const struct plumb_axis *ends);

/* Sets about `wanted` ticks at 1, 2 or 5 times a power of ten. whole: integers only. grow: the ends
 * of the axis move outwards to ticks. An axis that covers a single value is widened. */
void plumb_axis_linear(struct plumb_axis *a, int wanted, bool whole, bool grow);
/* Sets at most six ticks at powers of ten. Needs lo > 0. The ends move outwards to powers of ten.
 */
void plumb_axis_log(struct plumb_axis *a);

/* The position of x on the axis: 0 at lo, 1 at hi. An x outside of the axis is clamped. */
double plumb_axis_share(const struct plumb_axis *a, double x);
/* The label of x, for example "12k", "3.5M", "40%" or "1.5e-4". The distance between ticks decides
 * the number of decimals. */
void plumb_axis_text(char *out, size_t size, double x, const struct plumb_axis *a, bool percent);

#endif

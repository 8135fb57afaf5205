/* axis.h - an axis of a drawing: its range, its ticks, the text beside them.
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
    double step;                   /* between ticks; decides the digits */
};

/* An axis that covers nothing yet; then the values it is to show, those that are not finite left
 * out. */
struct plumb_axis plumb_axis_empty(void);
void plumb_axis_cover(struct plumb_axis *a, double x);
/* Covers as much of an interval's end as lies within half of the axis' length: what reaches
 * further is cut, so that one uncertain value does not flatten all others. */
void plumb_axis_reach(struct plumb_axis *a, const struct plumb_axis *ends);

/* About `wanted` ticks at 1, 2 or 5 times a power of ten. whole: integers only. grow: the ends of
 * the axis move to ticks. An axis of one value is widened. */
void plumb_axis_linear(struct plumb_axis *a, int wanted, bool whole, bool grow);
/* Ticks at powers of ten, at most six; lo > 0. The ends move to powers of ten. */
void plumb_axis_log(struct plumb_axis *a);

/* Where x lies: 0 at lo, 1 at hi, within [0, 1] for anything beyond. */
double plumb_axis_share(const struct plumb_axis *a, double x);
/* "12k", "3.5M", "40%", "1.5e-4": as many decimals as the distance between ticks needs. */
void plumb_axis_text(char *out, size_t size, double x, const struct plumb_axis *a, bool percent);

#endif
